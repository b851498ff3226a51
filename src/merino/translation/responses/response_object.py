"""The response object: what was asked, repeated, and what has come of it."""

from __future__ import annotations

from typing import Any

import msgspec

from merino.translation.answered import Made
from merino.translation.asked import Asked
from merino.translation.values import Members, decode, is_list, members_of

_NULL = msgspec.Raw(b"null")
_ONE = msgspec.Raw(b"1.0")
_REPEATED = (
    ("instructions", _NULL),
    ("max_output_tokens", _NULL),
    ("max_tool_calls", _NULL),
    ("metadata", msgspec.Raw(b"{}")),
    ("parallel_tool_calls", msgspec.Raw(b"true")),
    ("prompt_cache_key", _NULL),
    ("safety_identifier", _NULL),
    ("temperature", _ONE),
    ("tool_choice", msgspec.Raw(b'"auto"')),
    ("top_logprobs", msgspec.Raw(b"0")),
    ("top_p", _ONE),
    ("user", _NULL),
)
"""Fields of the request that the answer has too, and what it has if they were not sent."""
_ZERO = msgspec.Raw(b"0.0")


class ResponseObject:
    """`members` gives the object as it is at some time."""

    def __init__(self, asked: Asked, made: Made) -> None:
        fields = asked.fields
        self.id = f"resp_{made.seed}"
        self.model: str | None = None
        self.tier: str | None = None
        self._asked_model = asked.model
        self._at_s = made.at_s
        reasoning = _object(fields.get("reasoning"))
        text = _object(fields.get("text"))
        self._same: Members = {
            "background": False,
            "conversation": None,
            "frequency_penalty": _ZERO,
            "presence_penalty": _ZERO,
            "previous_response_id": None,
            "reasoning": {
                "effort": reasoning.get("effort"),
                "summary": reasoning.get("summary") or reasoning.get("generate_summary"),
            },
            "store": False,
            "text": {
                "format": text.get("format") or {"type": "text"},
                "verbosity": text.get("verbosity") or "medium",
            },
            "tools": _tools(fields.get("tools")),
            "truncation": "disabled",
        }
        for name, otherwise in _REPEATED:
            raw = fields.get(name)
            self._same[name] = otherwise if raw is None or bytes(raw) == b"null" else raw

    def members(
        self,
        status: str,
        output: list[Any],
        usage: Members | None = None,
        *,
        error: Members | None = None,
        incomplete: str | None = None,
    ) -> Members:
        """The object with all its members."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._at_s,
            "completed_at": self._at_s if status == "completed" else None,
            "status": status,
            "error": error,
            "incomplete_details": None if incomplete is None else {"reason": incomplete},
            "model": self.model or self._asked_model,
            "output": output,
            "service_tier": self.tier,
            "usage": usage,
            **self._same,
        }


def _object(raw: msgspec.Raw | None) -> Members:
    return {} if raw is None else members_of(decode(raw))


def _tools(raw: msgspec.Raw | None) -> list[Any]:
    """The tools as they were sent, with the members that the answer always has."""
    value: object = [] if raw is None else decode(raw)
    found: list[Any] = []
    for tool in value if is_list(value) else ():
        members = members_of(tool)
        if members.get("type") == "function":
            members = {"description": None, "parameters": None, "strict": False, **members}
        found.append(members)
    return found
