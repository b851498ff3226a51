"""The Responses API over a WebSocket, without sockets: what messages do, and what they cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter
from tests.in_process import InProcess, LaneExchange, in_process

from merino.api import response_socket
from merino.running.runner import Runner
from merino.wire.exchange import Session

CONFIG = """
[[deployments]]
name = "native"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[[deployments]]
name = "chats"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
endpoints = ["chat/completions"]
[[deployments]]
name = "breaks"
provider = "simulator"
upstream_model = "o3-mini!output=9,reasoning=0,error_after=3"
[[deployments]]
name = "slow"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=0,ttft=50ms"
[aliases.o3]
deployments = ["native"]
[aliases.chat]
deployments = ["chats"]
[aliases.breaks]
deployments = ["breaks"]
[aliases.slow]
deployments = ["slow"]
"""
EVENTS = TypeAdapter(ResponsesServerEvent)
MISSING = "previous_response_not_found"


class Wire:
    """A socket in memory."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.is_writable = True
        self.running = 0
        self.ended = asyncio.Event()
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def send(self, text: bytes) -> None:
        assert self.closed is None, "nothing may follow the end"
        self.messages.append(json.loads(text))

    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason

    def run(self, work: Coroutine[Any, Any, None], exchange: Any, on_end: Any) -> None:
        def ended(_: Runner, __: Any, error: BaseException | None) -> None:
            self.running -= 1
            on_end(error)
            self.ended.set()

        self.running += 1
        runner = exchange.task = Runner(work, asyncio.get_running_loop(), exchange, ended)
        runner.go_on()

    def later(self, after_s: float, then: Callable[[], None]) -> Callable[[], None]:
        self.timers.append((after_s, then))
        return lambda: None

    async def quiet(self) -> None:
        """Until nothing runs."""
        while self.running:
            self.ended.clear()
            await self.ended.wait()


class Connected:
    """A connection of one key; what is sent is answered before `say` returns."""

    def __init__(self, relay: InProcess, **headers: str) -> None:
        self.relay = relay
        self.wire = Wire()
        given = {"authorization": f"Bearer {relay.key}", **headers}
        self.exchange = LaneExchange("GET", "/v1/responses", given)

        async def opened() -> Session:
            made = relay.relay.front.connect(self.exchange)
            assert made is not None
            return made(self.wire)

        self.session = relay.run(opened())

    def say(self, *messages: Any) -> list[dict[str, Any]]:
        """All that these messages bring."""
        before = len(self.wire.messages)

        async def scene() -> None:
            for each in messages:
                text = each if isinstance(each, bytes) else json.dumps(each).encode()
                self.session.received(text)
            await self.wire.quiet()

        self.relay.run(scene())
        return self.wire.messages[before:]

    def create(self, **fields: Any) -> dict[str, Any]:
        """The last event of one response."""
        return self.say({"type": "response.create", "model": "o3", "input": "Hi", **fields})[-1]


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), CONFIG) as relay:
        yield relay


def asked(relay: InProcess, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The bodies that reach upstreams from now on."""
    bodies: list[dict[str, Any]] = []
    provider = relay.relay.front.pipeline._attempts.one._providers["simulator"]
    send = provider.send

    async def noted(request: Any) -> Any:
        bodies.append(json.loads(request.body))
        return await send(request)

    monkeypatch.setattr(provider, "send", noted)
    return bodies


@pytest.mark.parametrize("model", ["o3", "chat"])
def test_a_message_brings_the_events_of_a_stream(relay: InProcess, model: str) -> None:
    """One text message an event, each of its strict type, numbered, ended once; and it costs what
    the same call costs over HTTP."""
    body = {"model": model, "input": "Hi", "store": False}
    before = relay.balance_nanos()
    over_http = relay.ask("/v1/responses", {**body, "stream": True})
    cost = before - relay.balance_nanos()
    events = Connected(relay).say({"type": "response.create", **body})
    for each in events:
        EVENTS.validate_json(json.dumps(each), strict=True)
    assert list(range(len(events))) == [each["sequence_number"] for each in events]
    kinds = [each["type"] for each in events]
    assert ["response.created", "response.completed"] == [kinds[0], kinds[-1]]
    assert 1 == kinds.count("response.completed")
    assert kinds == [
        json.loads(line[6:])["type"]
        for line in over_http.body.split(b"\n")
        if line.startswith(b"data: {")
    ]
    assert before - relay.balance_nanos() == 2 * cost > 0


@pytest.mark.parametrize("model", ["o3", "chat"])
def test_an_answer_that_is_kept_nowhere_can_be_gone_on_from(
    relay: InProcess, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Input, answer and new input reach the upstream as one input, turn after turn, and the response
    names the one before it."""
    connected = Connected(relay)
    bodies = asked(relay, monkeypatch)
    last = connected.create(model=model, store=False, input="one")
    for turn in ("two", "three"):
        events = connected.say(
            {
                "type": "response.create",
                "model": model,
                "store": False,
                "previous_response_id": last["response"]["id"],
                "input": [{"role": "user", "content": turn}],
            }
        )
        assert {last["response"]["id"]} == {
            each["response"]["previous_response_id"] for each in events if "response" in each
        }
        last = events[-1]
        EVENTS.validate_json(json.dumps(last), strict=True)
    given = bodies[-1].get("input") or bodies[-1]["messages"]
    said = [each for each in given if each.get("role") == "user"]
    assert ["one", "two", "three"] == [each["content"] for each in said]
    assert 2 == len([each for each in given if each.get("role") == "assistant"])
    assert "previous_response_id" not in bodies[-1]


def test_an_answer_that_the_upstream_keeps_is_its_own_to_go_on_from(
    relay: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id goes along, as over HTTP."""
    connected = Connected(relay)
    bodies = asked(relay, monkeypatch)
    first = connected.create()
    assert first["response"]["store"] is True
    connected.create(previous_response_id=first["response"]["id"])
    assert first["response"]["id"] == bodies[-1]["previous_response_id"]


def test_what_is_kept_belongs_to_the_connection(relay: InProcess) -> None:
    """Another connection, an older answer and an unknown one are not found; nothing is asked."""
    one, other = Connected(relay), Connected(relay)
    first = one.create(store=False)
    one.create(store=False)
    before = relay.balance_nanos()
    for connected, name in ((other, first["response"]["id"]), (one, first["response"]["id"]),
                            (one, "resp_none")):  # fmt: skip
        error = connected.create(store=False, previous_response_id=name)
        EVENTS.validate_json(json.dumps(error), strict=True)
        assert ("error", 404, MISSING) == (error["type"], error["status"], error["error"]["code"])
    assert before == relay.balance_nanos()


def test_a_turn_that_fails_forgets_what_it_went_on_from(relay: InProcess) -> None:
    """Refused, or broken off in the middle: the next one that names it begins anew. A failure that
    named nothing forgets nothing."""
    for failing in ({"max_output_tokens": 3}, {"model": "breaks"}):
        connected = Connected(relay)
        name = connected.create(store=False)["response"]["id"]
        assert connected.create(store=False, **failing)["type"] in ("error", "response.failed")
        named = {"store": False, "previous_response_id": name}
        assert connected.create(**named, **failing)["type"] in ("error", "response.failed")
        assert MISSING == connected.create(**named)["error"]["code"]


def test_an_answer_that_breaks_off_has_one_end_and_is_paid_for(relay: InProcess) -> None:
    """The last message is `response.failed`, nothing follows it, and what was seen is billed."""
    before = relay.balance_nanos()
    events = Connected(relay).say({"type": "response.create", "model": "breaks", "input": "Hi"})
    kinds = [each["type"] for each in events]
    assert "response.output_text.delta" in kinds
    assert ["response.failed"] == [each for each in kinds if each in ("response.failed", "error")]
    assert "response.failed" == kinds[-1]
    assert before > relay.balance_nanos()


def test_a_warm_up_costs_nothing_and_can_be_gone_on_from(
    relay: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `generate: false` nobody is asked; the input waits in the connection."""
    connected = Connected(relay)
    bodies = asked(relay, monkeypatch)
    before = relay.balance_nanos()
    events = connected.say(
        {"type": "response.create", "model": "o3", "store": False, "generate": False,
         "instructions": "Be brief.", "input": [{"role": "user", "content": "one"}]}
    )  # fmt: skip
    for each in events:
        EVENTS.validate_json(json.dumps(each), strict=True)
    assert ["response.created", "response.completed"] == [each["type"] for each in events]
    response = events[-1]["response"]
    assert ([], 0, "Be brief.") == (
        response["output"], response["usage"]["total_tokens"], response["instructions"],
    )  # fmt: skip
    assert ([], before) == (bodies, relay.balance_nanos())
    connected.create(store=False, previous_response_id=response["id"], input="two")
    assert ["one", "two"] == [each["content"] for each in bodies[-1]["input"]]
    refused = connected.create(model="none", generate=False)
    assert "model_not_found" == refused["error"]["code"]


def test_messages_are_answered_in_turn(relay: InProcess) -> None:
    """What comes while a response is made waits; too many are refused, and the lanes are told
    apart."""
    messages = [
        {"type": "response.create", "model": "slow", "input": "Hi", "stream_id": f"lane {number}"}
        for number in range(response_socket.WAITING_MAX + 2)
    ]
    events = Connected(relay).say(*messages)
    busy = [each for each in events if each["type"] == "error"]
    assert ["websocket_busy"] == [each["error"]["code"] for each in busy]
    assert 429 == busy[0]["status"]
    lanes = [each["stream_id"] for each in events if each["type"] != "error"]
    assert sorted(lanes, key=lambda lane: int(lane.split()[1])) == lanes
    assert response_socket.WAITING_MAX + 1 == len(set(lanes))


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b"", None),
        ({"type": "response.steer"}, "type"),
        ({"model": "o3"}, "type"),
        ({"type": "response.create", "model": "o3", "input": 7}, "input"),
        ({"type": "response.create", "model": "o3", "input": "x", "background": True},
         "background"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_told(relay: InProcess, message: Any, param: str | None) -> None:
    """An error as an envelope with its status, and the connection goes on."""
    connected = Connected(relay)
    (error,) = connected.say(message)
    EVENTS.validate_json(json.dumps(error), strict=True)
    assert ("error", 400, param) == (error["type"], error["status"], error["error"]["param"])
    assert "response.completed" == connected.create()["type"]


def test_a_refusal_says_what_http_headers_would(relay: InProcess) -> None:
    """The id of the request is in the envelope."""
    error = Connected(relay).create(model="none")
    assert 404 == error["status"]
    assert error["error"]["headers"]["x-request-id"].startswith("req_")


def test_a_caller_who_leaves_ends_the_call(relay: InProcess) -> None:
    """The upstream is given up, and nothing is held any more."""
    connected = Connected(relay)

    async def scene() -> None:
        connected.session.received(b'{"type": "response.create", "model": "slow", "input": "Hi"}')
        await asyncio.sleep(0.01)
        connected.session.lost()
        await connected.wire.quiet()

    relay.run(scene())
    account = relay.admin.get("/accounts/default").json()
    assert 0 == account["balance"]["held_nanos"]


def test_a_connection_has_an_age(relay: InProcess) -> None:
    """After an hour it says so and closes: at once if it is idle, else after the answer."""
    for is_running in (False, True):
        connected = Connected(relay)
        ((after_s, over),) = connected.wire.timers
        assert 3600 == after_s

        async def scene(
            connected: Connected = connected, over: Any = over, is_running: bool = is_running
        ) -> None:
            if is_running:
                connected.session.received(
                    b'{"type": "response.create", "model": "slow", "input": "Hi"}'
                )
            over()
            await connected.wire.quiet()

        relay.run(scene())
        assert (
            "websocket_connection_limit_reached" == (connected.wire.messages[-1]["error"]["code"])
        )
        assert 1000 == connected.wire.closed[0]
        kinds = [each["type"] for each in connected.wire.messages]
        assert is_running == ("response.completed" in kinds)


def test_a_relay_that_stops_finishes_the_answer(relay: InProcess) -> None:
    """An idle connection closes at once, a busy one after its answer."""
    for is_running in (False, True):
        connected = Connected(relay)

        async def scene(connected: Connected = connected, is_running: bool = is_running) -> None:
            if is_running:
                connected.session.received(
                    b'{"type": "response.create", "model": "slow", "input": "Hi"}'
                )
            connected.session.drain()
            await connected.wire.quiet()

        relay.run(scene())
        assert 1012 == connected.wire.closed[0]
        kinds = [each["type"] for each in connected.wire.messages]
        assert is_running == ("response.completed" in kinds)


@pytest.mark.parametrize(
    ("target", "key", "status"),
    [("/v1/responses", "mk-none", 401), ("/v1/responses", "", 401), ("/v1/realtime", None, 400)],
)
def test_who_may_not_connect_is_answered_over_http(
    relay: InProcess, target: str, key: str | None, status: int
) -> None:
    """Before anything is switched."""
    given = {"authorization": f"Bearer {relay.key if key is None else key}"}
    exchange = LaneExchange("GET", target, given)
    assert relay.relay.front.connect(exchange) is None
    assert status == exchange.answered.status
