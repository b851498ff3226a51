"""What the simulated vendor keeps: responses, also those that it makes in the background, and
conversations. In memory, the newest of them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from merino.domain.errors import InvalidCall, NotFound
from merino.simulator.schema import as_list, as_object
from merino.simulator.steps import (
    Asked,
    Bytes,
    Cut,
    End,
    Hang,
    Head,
    Refused,
    Step,
    Wait,
    refusal,
    whole,
)
from merino.wire.kept_items import Item, list_object, listed, page_of
from merino.wire.state_paths import StatePath, state_path

KEPT_MAX = 10_000
_RESULT_OF = {
    "function_call_output": "function call output",
    "custom_tool_call_output": "custom tool call output",
}
_SSE = b"text/event-stream; charset=utf-8"
_encode = msgspec.json.encode
_decode = msgspec.json.decode
Answer = Callable[[Asked], Iterator[Step]]


@dataclass(slots=True)
class _Event:
    at_s: float
    data: bytes
    number: int
    response: dict[str, Any] | None


@dataclass(slots=True)
class _Response:
    """`events` with the time that each takes after the start, if it is made in the background."""

    final: dict[str, Any]
    items: list[Any]
    began_s: float = 0.0
    took_s: float = 0.0
    first: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[_Event] = field(default_factory=list[_Event])
    is_counted: bool = True
    cancelled: dict[str, Any] | None = None
    conversation: str | None = None


@dataclass(slots=True)
class _Conversation:
    id: str
    created_s: int
    metadata: object
    items: list[Any]

    def object(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": self.created_s,
            "metadata": self.metadata,
        }


class Kept:
    """`count` is told the tokens of what was made in the background."""

    def __init__(
        self, now_s: Callable[[], float], speed: float, count: Callable[[int, int], None]
    ) -> None:
        self._now_s = now_s
        self._speed = speed
        self._count = count
        self._responses: OrderedDict[str, _Response] = OrderedDict()
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()
        self._number = 0

    # -- making responses ------------------------------------------------------------------------

    def answer(self, asked: Asked, script: Answer) -> Iterator[Step]:
        """Answer a call to `responses`, and keep what is to be kept."""
        body = asked.body
        try:
            before, conversation = self._before(body)
            own = _items(body.get("input"))
            _check_results([*before, *own])
        except Refused as refused:
            return iter(refused.steps)
        asked.body = {**body, "input": [*before, *own]} if before else body
        if body.get("background") is True:
            return self._in_background(asked, script, own, conversation)
        steps = script(asked)
        if body.get("store") is False and conversation is None:
            return steps
        return self._keeping(steps, own, conversation)

    def _before(self, body: Mapping[str, Any]) -> tuple[list[Any], str | None]:
        found: list[Any] = []
        previous: object = body.get("previous_response_id")
        while isinstance(previous, str):
            kept = self._responses.get(previous)
            if kept is None:
                raise Refused(
                    f"Previous response with id '{previous}' not found.",
                    "previous_response_id",
                    "previous_response_not_found",
                    400,
                )
            found = [*kept.items, *as_list(kept.final.get("output")), *found]
            previous = kept.final.get("previous_response_id")
        named: object = body.get("conversation")
        conversation_id: object = named if isinstance(named, str) else as_object(named).get("id")
        if not isinstance(conversation_id, str):
            return found, None
        conversation = self._conversations.get(conversation_id)
        if conversation is None:
            raise Refused(
                f"Conversation with id '{conversation_id}' not found.", "conversation", None, 404
            )
        return [*conversation.items, *found], conversation_id

    def _keeping(
        self, steps: Iterator[Step], own: list[Any], conversation: str | None
    ) -> Iterator[Step]:
        data = bytearray()
        is_stream = False
        for step in steps:
            if isinstance(step, Head):
                is_stream = step.length is None
            elif isinstance(step, Bytes):
                data += step.data
            elif isinstance(step, End):
                self._keep(_final_of(bytes(data), is_stream=is_stream), own, conversation)
            yield step

    def _keep(
        self, final: dict[str, Any], own: list[Any], conversation: str | None
    ) -> _Response | None:
        if final.get("object") != "response":
            return None
        kept = self._responses[final["id"]] = _Response(final, own, conversation=conversation)
        if len(self._responses) > KEPT_MAX:
            self._responses.popitem(last=False)
        known = self._conversations.get(conversation or "")
        if known is not None:
            known.items += [*own, *as_list(final.get("output"))]
        return kept

    def _in_background(
        self, asked: Asked, script: Answer, own: list[Any], conversation: str | None
    ) -> Iterator[Step]:
        wants_stream = asked.body.get("stream") is True
        asked.body = {**asked.body, "stream": True}
        steps = list(script(asked))
        if any(isinstance(step, Head) and step.status != 200 for step in steps):
            return iter(steps)
        events, took_s = _timeline(steps)
        final = events[-1].response or {}
        if final.get("status") in (None, "in_progress"):
            final = {**(events[0].response or {}), "status": "failed", "error": _BROKE}
        kept = self._keep(final, own, conversation)
        if kept is None:
            return iter(steps)
        kept.first = {**(events[0].response or {}), "status": "queued"}
        kept.events, kept.took_s, kept.began_s = events, took_s, self._now_s()
        kept.is_counted = False
        if wants_stream:
            return self._replayed(kept, -1)
        return iter(whole(200, _encode(kept.first)))

    def _elapsed_s(self, kept: _Response) -> float:
        return (self._now_s() - kept.began_s) * self._speed

    def _now(self, kept: _Response) -> dict[str, Any]:
        """The response as it is now."""
        if kept.cancelled is not None:
            return kept.cancelled
        elapsed_s = self._elapsed_s(kept)
        if elapsed_s < kept.took_s:
            return {**kept.first, "status": "in_progress" if elapsed_s > 0 else "queued"}
        if not kept.is_counted:
            kept.is_counted = True
            self._count(*_tokens(kept.final))
        return kept.final

    def _replayed(self, kept: _Response, after: int) -> Iterator[Step]:
        """Its events, those that are still to come when they come."""
        yield Head(200, [(b"content-type", _SSE)], None)
        for event in kept.events:
            if event.number <= after:
                continue
            wait_s = event.at_s - self._elapsed_s(kept)
            if wait_s > 0:
                yield Wait(wait_s)
            if kept.cancelled is not None:
                break
            yield Bytes(event.data)
        if kept.took_s == math.inf and kept.cancelled is None:
            yield Hang()
            return
        self._now(kept)
        yield Bytes(b"data: [DONE]\n\n")
        yield End()

    # -- what is asked of them -------------------------------------------------------------------

    def ask(
        self, method: str, target: str, query: Mapping[str, Sequence[str]], body: bytes
    ) -> Iterator[Step]:
        """The steps of the answer to a request about what is kept; `target` begins with `/v1/`."""
        return iter(self._asked(method, target, query, body))

    def _asked(
        self, method: str, target: str, query: Mapping[str, Sequence[str]], body: bytes
    ) -> Iterator[Step] | tuple[Step, ...]:
        try:
            given = as_object(_decode(body)) if body else {}
            if target == "/v1/conversations" and method == "POST":
                return _json(self._new_conversation(given).object())
            found = state_path(target.encode())
            if found is None or method.encode() not in found[1]:
                return refusal(f"Invalid URL ({method} {target})", status=404)
            path = found[0]
            if path.kind == "responses":
                return self._of_response(method, path, query)
            return self._of_conversation(method, path, query, given)
        except NotFound as error:
            return refusal(error.message, error.param, error.code, 404)
        except (InvalidCall, msgspec.DecodeError) as error:
            return refusal(str(error))

    def _of_response(
        self, method: str, path: StatePath, query: Mapping[str, Sequence[str]]
    ) -> Iterator[Step] | tuple[Step, ...]:
        kept = self._responses.get(path.id)
        if kept is None:
            raise NotFound(f"Response with id '{path.id}' not found.")
        if path.part == "input_items":
            return _page(kept.items, path.id, query)
        if path.part == "cancel":
            return self._cancel(kept)
        if method == "DELETE":
            del self._responses[path.id]
            return _json({"id": path.id, "object": "response", "deleted": True})
        if query.get("stream", [""])[-1] == "true":
            if not kept.events:
                return refusal("Only responses made with background=true can be streamed.")
            return self._replayed(kept, int(query.get("starting_after", ["-1"])[-1]))
        return _json(self._now(kept))

    def _cancel(self, kept: _Response) -> tuple[Step, ...]:
        if not kept.events:
            return refusal("Cannot cancel a synchronous response.")
        if self._now(kept)["status"] in ("queued", "in_progress"):
            share = min(1.0, self._elapsed_s(kept) / kept.took_s)
            prompt, completion = _tokens(kept.final)
            usage = as_object(kept.final.get("usage"))
            output = math.floor(completion * share)
            thought = as_object(usage.get("output_tokens_details")).get("reasoning_tokens", 0)
            usage = {
                **usage,
                "output_tokens": output,
                "output_tokens_details": {"reasoning_tokens": min(thought, output)},
                "total_tokens": prompt + output,
            }
            kept.cancelled = {**kept.first, "status": "cancelled", "usage": usage}
            kept.is_counted = True
            self._count(prompt, output)
        return _json(self._now(kept))

    def _new_conversation(self, given: dict[str, Any]) -> _Conversation:
        self._number += 1
        made = _Conversation(
            f"conv_sim{self._number:024x}",
            int(self._now_s()),
            given.get("metadata") or {},
            as_list(given.get("items")),
        )
        self._conversations[made.id] = made
        if len(self._conversations) > KEPT_MAX:
            self._conversations.popitem(last=False)
        return made

    def _of_conversation(
        self,
        method: str,
        path: StatePath,
        query: Mapping[str, Sequence[str]],
        given: dict[str, Any],
    ) -> tuple[Step, ...]:
        known = self._conversations.get(path.id)
        if known is None:
            raise NotFound(f"Conversation with id '{path.id}' not found.")
        if path.part == "items":
            return self._items_of(known, method, path, query, given)
        if method == "DELETE":
            del self._conversations[path.id]
            return _json({"id": path.id, "object": "conversation.deleted", "deleted": True})
        if method == "POST":
            known.metadata = given.get("metadata") or {}
        return _json(known.object())

    def _items_of(
        self,
        known: _Conversation,
        method: str,
        path: StatePath,
        query: Mapping[str, Sequence[str]],
        given: dict[str, Any],
    ) -> tuple[Step, ...]:
        if method == "POST":
            known.items += as_list(given.get("items"))
            return _page(known.items, path.id, query)
        if not path.item:
            return _page(known.items, path.id, query)
        items = _listed(known.items, path.id)
        place = next(
            (at for at, each in enumerate(items) if _decode(each["id"]) == path.item), None
        )
        if place is None:
            raise NotFound(f"Item with id '{path.item}' not found.")
        if method == "DELETE":
            del known.items[place]
            return _json(known.object())
        return _json(items[place])


_BROKE = {"code": "server_error", "message": "Simulated failure: it broke off."}


def _json(value: object) -> tuple[Step, ...]:
    return whole(200, _encode(value))


def _check_results(items: Sequence[Any]) -> None:
    """Raises `Refused` for a tool's result without its call, as the vendor does."""
    called: set[object] = set()
    for each in map(as_object, items):
        kind, call_id = each.get("type"), each.get("call_id")
        if kind in _RESULT_OF and call_id not in called:
            raise Refused(
                f"No tool call found for {_RESULT_OF[kind]} with call_id {call_id}.", "input", None
            )
        if kind in ("function_call", "custom_tool_call"):
            called.add(call_id)


def _items(given: object) -> list[Any]:
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return as_list(given)


def _listed(items: Sequence[Any], owner_id: str) -> list[Item]:
    return listed([msgspec.Raw(_encode(each)) for each in items], owner_id)


def _page(
    items: Sequence[Any], owner_id: str, query: Mapping[str, Sequence[str]]
) -> tuple[Step, ...]:
    return whole(200, list_object(_listed(items, owner_id), page_of(query)))


def _tokens(response: Mapping[str, Any]) -> tuple[int, int]:
    usage = as_object(response.get("usage"))
    return usage.get("input_tokens", 0), usage.get("output_tokens", 0)


def _final_of(data: bytes, *, is_stream: bool) -> dict[str, Any]:
    if is_stream:
        events = [each for each in data.split(b"\n\n") if b'"response":' in each]
        if not events:
            return {}
        data = events[-1].partition(b"\ndata: ")[2]
    try:
        found = as_object(_decode(data))
    except msgspec.DecodeError:
        return {}
    return as_object(found.get("response")) if is_stream else found


def _timeline(steps: Sequence[Step]) -> tuple[list[_Event], float]:
    """The events of a stream, and how long all of it takes; without end if it hangs."""
    found: list[_Event] = []
    at_s = 0.0
    for step in steps:
        if isinstance(step, Wait):
            at_s += step.seconds
        elif isinstance(step, Bytes) and step.data.startswith(b"event: "):
            members = as_object(_decode(step.data.partition(b"\ndata: ")[2]))
            response = members.get("response")
            number: Any = members.get("sequence_number")
            found.append(_Event(at_s, step.data, number, cast("Any", response)))
        elif isinstance(step, Hang):
            return found, math.inf
        elif isinstance(step, Cut):
            break
    return found, at_s
