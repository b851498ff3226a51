"""A relay that is a fork is a process like any other."""

from __future__ import annotations

import signal
from collections.abc import Callable

import httpx2
import pytest
from tests.conftest import RelayProcess

BODY = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def two(start_relay: Callable[..., RelayProcess]) -> list[RelayProcess]:
    return [start_relay(name=name, env={"MERINO_TEST_NAME": name}) for name in ("a", "b")]


def test_relays_share_nothing(two: list[RelayProcess]) -> None:
    """Their processes, folders, secrets and the ids of their calls are their own; both end well."""
    ids = []
    for relay in two:
        with relay.http() as http:
            answer = http.post("/v1/chat/completions", json=BODY)
            assert 200 == answer.status_code, answer.text
            ids.append(answer.headers["x-request-id"])
    assert ids[0][:-7] != ids[1][:-7]
    assert 2 == len({relay.process.pid for relay in two})
    assert 2 == len({relay.key for relay in two})
    assert [0, 0] == [relay.stop() for relay in two]


def test_how_a_relay_ended_is_known(two: list[RelayProcess]) -> None:
    """By the signal that killed it, once it is gone; it answers no more, and its neighbour does."""
    killed, left = two
    process = killed.process
    assert process is not None
    assert None is process.poll()
    assert -signal.SIGKILL == killed.stop(signal.SIGKILL)
    assert -signal.SIGKILL == process.poll() == process.wait(0)
    process.send_signal(signal.SIGTERM)  # to nobody: its number may be another's by now
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{killed.url}/livez", trust_env=False)
    assert 200 == httpx2.get(f"{left.url}/livez", trust_env=False).status_code
