"""What providers send, through a relay, over real sockets: every byte that the caller gets, what was
read of it, and what it cost."""

from __future__ import annotations

import http.client
import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.conftest import RelayProcess
from tests.providers.recorded_server import SECOND, SECOND_BILL_NANOS, SECOND_STREAM
from tests.providers.recordings import (
    CREDENTIAL,
    HARMLESS,
    HEADER_SECRET,
    ROWS,
    Row,
    bill_of,
    events_of,
)

COST = re.compile(rb"^: x-merino-cost: (\S+)\n", re.MULTILINE)
BYTES_PER_TOKEN_MAX = 8
"""No tokenizer makes fewer tokens of a text."""


@dataclass(frozen=True)
class Answer:
    """An answer as it came. `is_cut`: it had no proper end."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_cut: bool


def ask(relay: RelayProcess, row: Row, body: dict[str, Any]) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(relay.url).netloc, timeout=30)
    headers = {"authorization": f"Bearer {relay.key}", "content-type": "application/json"}
    sent = json.dumps({"model": f"at-{row.id}", **body})
    try:
        connection.request("POST", f"/v1/{row.endpoint}", sent, headers)
        answer = connection.getresponse()
        data, is_cut = b"", False
        try:
            while more := answer.read1(65_536):
                data += more
        except (http.client.HTTPException, ConnectionError):
            is_cut = True
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, data, is_cut)
    finally:
        connection.close()


def get(relay: RelayProcess, path: str, key: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(relay.url).netloc, timeout=30)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def balance_nanos(relay: RelayProcess) -> int:
    status, account = get(relay, "/admin/v1/accounts/default", relay.admin_key)
    assert 200 == status
    return account["balance"]["posted_nanos"]


def record_of(relay: RelayProcess, call_id: str) -> dict[str, Any]:
    """The call's record, once it is written."""
    for _ in range(200):
        status, found = get(relay, f"/v1/calls/{call_id}", relay.key)
        if status == 200:
            return found
        time.sleep(0.01)
    raise AssertionError(f"no record of {call_id}")


def nanos(told: str | bytes) -> int:
    """A cost as it is told, exactly."""
    whole, _, part = (told.decode() if isinstance(told, bytes) else told).partition(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0"))


def shown(data: bytes) -> list[str]:
    """For reading in a failure: one event a line."""
    return [event.decode("utf-8", "backslashreplace") for event in events_of(data)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_bill_in_the_data_adds_up(row: Row) -> None:
    """What a recording says that its call costs is its usage times the prices."""
    if row.usage is not None and not row.fails_over:
        assert bill_of(row.usage) == row.bill_nanos


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_what_the_caller_gets_and_pays(recorded: RelayProcess, row: Row) -> None:
    """The caller gets the provider's bytes, pays for what they used and not a nano more, sees no
    secret of the operator; and who asks the same deployment next is answered."""
    before = balance_nanos(recorded)
    answer = ask(recorded, row, row.asked)
    for secret in (CREDENTIAL, HEADER_SECRET):
        assert secret.encode() not in answer.body
        assert not [value for value in answer.headers.values() if secret in value]
    assert row.client_status == answer.status, answer.body
    record: dict[str, Any] = {}
    if row.client_status == 200:
        check_body(row, answer)
        record = record_of(recorded, answer.headers["x-request-id"])
        check_money(row, answer, record)
    else:
        check_error(row.error, answer.body)
    bill = record.get("cost_nanos", 0)
    assert bill == before - balance_nanos(recorded)
    if row.others_unharmed and row.endpoint != "embeddings":
        other = ask(recorded, row, {"messages": [{"role": "user", "content": HARMLESS}]})
        assert 200 == other.status, other.body


def check_body(row: Row, answer: Answer) -> None:
    if not row.stream:
        assert not answer.is_cut
        if row.fails_over:
            assert SECOND == json.loads(answer.body)
        else:
            assert row.seen_by_caller == answer.body
        return
    body = answer.body
    if row.ends_in_error is not None:
        expected = events_of(row.seen_by_caller)
        events = events_of(body)
        assert shown(row.seen_by_caller) == shown(b"".join(events[: len(expected)]))
        assert len(expected) + 1 == len(events), shown(body)
        said = json.loads(events[-1].removeprefix(b"data: "))["error"]
        assert row.ends_in_error in said["message"]
        assert answer.is_cut, "a client may take it for complete"
        return
    assert not answer.is_cut
    costs = COST.findall(body)
    assert 1 == len(costs), shown(body)
    assert re.search(rb"\n\r?\n: x-merino-cost: \S+\ndata: \[DONE\]", body), shown(body)[-3:]
    expected = row.seen_by_caller
    if row.fails_over:
        expected = b"".join(events_of(SECOND_STREAM)[:-2]) + b"data: [DONE]\n\n"
    without_ours = COST.sub(b"", body)
    assert shown(expected) == shown(without_ours)


def check_money(row: Row, answer: Answer, record: dict[str, Any]) -> None:
    assert "settled" == record["resolution"]
    told = answer.headers.get("x-merino-cost") or next(iter(COST.findall(answer.body)), None)
    if told is not None:
        assert nanos(told) == record["cost_nanos"]
    used = record["usage"]
    read = {
        "input": used["input_tokens"],
        "output": used["output_tokens"],
        "cached": used["cached_tokens"],
        "cache_write": used["cache_write_tokens"],
        "reasoning": used["reasoning_tokens"],
    }
    if row.fails_over:
        assert SECOND_BILL_NANOS == record["cost_nanos"]
        return
    if row.usage is not None:
        if "reasoning" not in row.usage:
            del read["reasoning"]  # many a provider thinks and does not tell how much
        assert dict.fromkeys(read, 0) | row.usage == read
        assert row.bill_nanos == record["cost_nanos"]
        return
    assert row.counted, "a recording says what its call used, or that nobody said"
    text = len((row.text or "").encode())
    assert text // BYTES_PER_TOKEN_MAX <= read["output"] <= text + 16
    assert 0 < read["input"]
    assert "reported" != record["usage_source"]
    assert bill_of(read) == record["cost_nanos"]


def check_error(expected: dict[str, Any] | None, body: bytes) -> None:
    assert expected is not None
    error = json.loads(body)["error"]
    assert {"message", "type", "param", "code"} == error.keys()
    for name, value in expected.items():
        if name == "message":
            assert value in error["message"]
        else:
            # TOML has no null.
            assert (value or None) == error[name], error
