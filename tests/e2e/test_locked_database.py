"""The relay while another program holds its database locked: nothing goes out unpaid for long, what
runs is settled, and work goes on by itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest
from tests.conftest import RelayProcess
from tests.e2e.test_full_disk import (
    ANSWER,
    CONFIG,
    COST_NANOS,
    WAIT_S,
    call,
    gated_upstream,
    refused_start,
    until_ready,
)
from tests.fake_server import FakeServer, fake_server
from tests.locker import locked

DATABASE_WAIT_S = 1.0
LEDGER = f"[ledger]\ndatabase_wait_s = {DATABASE_WAIT_S}\n"
Start = Callable[..., RelayProcess]


def until_refused(http: httpx2.Client) -> tuple[list[str], httpx2.Response]:
    """Ids of the calls that were answered before, and the refusal."""
    answered: list[str] = []
    deadline = time.monotonic() + WAIT_S
    while (answer := call(http)).status_code == 200:
        answered.append(answer.headers["x-request-id"])
        assert time.monotonic() < deadline, "a locked database refuses no calls"
        time.sleep(0.05)
    return answered, answer


@pytest.fixture
def upstream() -> Iterator[FakeServer]:
    with fake_server({"/v1/chat/completions": (200, ANSWER)}) as server:
        yield server


def test_a_locked_database_refuses_calls_until_it_is_free(
    start_relay: Start, upstream: FakeServer
) -> None:
    """New calls get 503 and reach no upstream, `/readyz` says why, the running one is answered; free
    again, the relay is ready by itself, and the books say what was answered."""
    with gated_upstream() as (slow, gate):
        config = CONFIG.format(name="quick", url=upstream.address)
        config += CONFIG.format(name="slow", url=slow.address) + LEDGER
        relay = start_relay(config, env={"UPSTREAM_KEY": "sk-x"})
        running: list[httpx2.Response] = []
        with relay.http() as http:
            thread = threading.Thread(target=lambda: running.append(call(http, "slow")))
            thread.start()
            answered = [call(http).headers["x-request-id"]]
            with locked(relay.data):
                began = time.monotonic()
                more, refusal = until_refused(http)
                answered += more
                assert DATABASE_WAIT_S <= time.monotonic() - began < DATABASE_WAIT_S + 4
                error = refusal.json()["error"]
                assert (503, "store_unavailable") == (refusal.status_code, error["code"])
                assert "database is locked" in error["message"]
                assert 1 <= int(refusal.headers["retry-after"]) <= 10
                ready = http.get("/readyz")
                assert 503 == ready.status_code
                assert "database is locked" in ready.json()["reason"]
                assert 200 == http.get("/livez").status_code
                for refused in (call(http), call(http, stream=True), call(http, key="k")):
                    assert 503 == refused.status_code
                gate.set()
                thread.join(WAIT_S)
                assert [200] == [each.status_code for each in running]
                answered.append(running[0].headers["x-request-id"])
            until_ready(http)
            again = call(http, key="k")
            assert 200 == again.status_code
            answered.append(again.headers["x-request-id"])
            for call_id in answered:
                found = http.get(f"/v1/calls/{call_id}").json()
                assert ("settled", COST_NANOS) == (found["resolution"], found["cost_nanos"])
        assert len(answered) == len(upstream.seen) + len(slow.seen)
        assert len(answered) * COST_NANOS == 5 * 10**9 - relay.balance_nanos()
        assert 0 == relay.stop()
        assert relay.cli("ledger", "verify")["ok"]
        errors = relay.errors()
        assert "Traceback" not in errors
        assert "the database cannot be written; new calls are refused" in errors
        assert "the database can be written again" in errors


def test_a_lock_while_nothing_is_written_is_not_noticed(
    start_relay: Start, upstream: FakeServer
) -> None:
    """A relay without calls stays ready through a lock, and takes the first one after it."""
    config = CONFIG.format(name="quick", url=upstream.address) + LEDGER
    relay = start_relay(config, env={"UPSTREAM_KEY": "sk-x"})
    with relay.http() as http:
        with locked(relay.data):
            deadline = time.monotonic() + 3 * DATABASE_WAIT_S
            while time.monotonic() < deadline:
                assert 200 == http.get("/readyz").status_code
                time.sleep(0.1)
        assert 200 == call(http).status_code
        time.sleep(2 * DATABASE_WAIT_S)
        assert 200 == http.get("/readyz").status_code
    assert 0 == relay.stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_in_a_lock_loses_nothing(
    start_relay: Start, upstream: FakeServer, how: signal.Signals
) -> None:
    """Whether it was stopped or killed: while the lock lasts the next start says so in one line,
    afterwards everything that was answered is in the books."""
    config = CONFIG.format(name="quick", url=upstream.address) + LEDGER
    relay = start_relay(config, env={"UPSTREAM_KEY": "sk-x"})
    with locked(relay.data):
        with relay.http() as http:
            answered, _ = until_refused(http)
        relay.stop(how)
        assert "database is locked" in refused_start(relay, relay.data)
    relay.start()
    assert len(answered) * COST_NANOS == 5 * 10**9 - relay.balance_nanos()
    with relay.http() as http:
        assert 200 == call(http).status_code
    assert 0 == relay.stop()
    assert relay.cli("ledger", "verify")["ok"]
    assert "Traceback" not in relay.errors()
