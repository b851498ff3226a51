"""One call: what it was, where its time went, what was said, and how to send it again."""

from __future__ import annotations

import json
import shlex
from typing import Any

from starlette.responses import Response

from merino.control.call_search import CallQuery
from merino.control.ports import EntryFilter
from merino.control.usage import Cut
from merino.dashboard.conversation import Conversation, conversation_of
from merino.dashboard.parts import Visit
from merino.domain.call import CallRecord
from merino.domain.errors import NotFound

_NEIGHBOURS_MS = 7 * 86_400_000


async def show_call(visit: Visit) -> Response:
    call = await visit.control.show_call(visit.request.path_params["call"])
    if visit.scope not in (None, call.account_id):
        raise NotFound("There is no such call.", code="call_not_found")
    entries = await visit.control.list_entries(EntryFilter(call_id=call.id), limit=20)
    keys = {key.id: key.name for key in visit.own_keys()}
    currencies = {account.id: account.currency for account in visit.own_accounts()}
    url = visit.request.url
    return await visit.page(
        "call.html",
        call=call,
        currency=currencies.get(call.account_id),
        entries=entries.items,
        key_name=keys.get(call.key_id, call.key_id),
        timeline=_timeline(call, is_operator=visit.session.is_operator),
        said=_said(call),
        curl=_curl(call, f"{url.scheme}://{url.netloc}"),
        older=await _older(visit, call),
        keeps_content=visit.desk.settings().calls.store_content,
        is_rejected=not call.key_id,
        tags=json.loads(call.tags) if call.tags else [],
        metadata=[f"{name}={value}" for name, value in json.loads(call.metadata or "{}").items()],
    )


async def _older(visit: Visit, call: CallRecord) -> str:
    """The call before it, of the same key."""
    if not call.key_id:
        return ""
    query = CallQuery(Cut.of({"key": [call.key_id]}), call.at_ms - _NEIGHBOURS_MS, call.at_ms)
    found = await visit.desk.search.calls(query, limit=1)
    return found.items[0].id if found.items else ""


def _said(call: CallRecord) -> Conversation | None:
    if call.request_json is None and call.response_text is None:
        return None
    return conversation_of(call.request_json or "", call.response_text or "")


def _curl(call: CallRecord, origin: str) -> str:
    """The same call from a terminal; without what was asked, if that was not kept."""
    body = call.request_json
    if body is None:
        asked: dict[str, Any] = {"model": call.alias}
        if call.endpoint in ("chat/completions", "messages"):
            asked["messages"] = [{"role": "user", "content": "…"}]
            if call.endpoint == "messages":
                asked["max_tokens"] = 1024
        elif call.endpoint in ("embeddings", "responses"):
            asked["input"] = "…"
        if call.streamed:
            asked["stream"] = True
        body = json.dumps(asked, ensure_ascii=False)
    return (
        f"curl {origin}/v1/{call.endpoint} \\\n"
        '  -H "Authorization: Bearer $MERINO_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )


def _timeline(call: CallRecord, *, is_operator: bool) -> list[dict[str, Any]]:
    """Where its time went: title, start, length (ms), and how it ended."""
    whole = max(call.duration_ms, 0.001)
    steps: list[tuple[str, float, float, str, str]] = []
    if call.queue_ms > 0:
        steps.append(("waiting for limits and credit", 0.0, call.queue_ms, "", "wait"))
    for attempt in call.attempts:
        detail = attempt.outcome + (f", {attempt.status}" if attempt.status else "")
        if attempt.message and is_operator:
            detail += f": {attempt.message}"
        if attempt.reason_for_next:
            detail += f"; next: {attempt.reason_for_next}"
        place = f"attempt at {attempt.deployment}" if is_operator else "attempt"
        steps.append((place, attempt.started_ms, attempt.duration_ms, detail, "bad"))
        if attempt.backoff_ms:
            ended_ms = attempt.started_ms + attempt.duration_ms
            steps.append(
                ("backoff before the next attempt", ended_ms, attempt.backoff_ms, "", "wait")
            )
    answered = max(0.0, whole - call.upstream_ms)
    if call.upstream_ms:
        title = f"answer of {call.deployment}" if call.deployment and is_operator else "answer"
        steps.append((title, answered, call.upstream_ms, str(call.status), ""))
    if call.ttft_ms is not None:
        steps.append(("first token", call.ttft_ms, 0.0, "", "mark"))
    own = f"relay's own time {call.relay_ms:.2f} ms"
    steps.append((call.resolution, whole, 0.0, own, "mark"))
    return [
        {
            "title": title,
            "start_ms": start,
            "length_ms": length,
            "detail": detail,
            "kind": kind,
            "x": min(99.4, start / whole * 100),
            "width": max(0.6, min(100.0 - min(99.4, start / whole * 100), length / whole * 100)),
        }
        for title, start, length, detail, kind in steps
    ]
