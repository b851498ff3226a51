"""What a caller says a call is about: their end user, tags, metadata. Kept with its record, so that
it can be found and summed up by them. All of it is bounded; what is beyond is cut or left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from merino.domain.call import CallRecord

VALUE_LENGTH_MAX = 128
TAG_LENGTH_MAX = 64
TAGS_MAX = 10
PAIRS_MAX = 16
_RAW_BYTES_MAX = 16 * 1024
USERS = ("user", "safety_identifier")
"""Fields of a body that say who the end user is, the first that is there."""


def are_said(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a body says any of it: nearly always not."""
    return "metadata" in fields or "user" in fields or "safety_identifier" in fields


def tags_of(header: bytes) -> tuple[str, ...]:
    """Those of an `x-merino-tags` header: names with commas between them, each once."""
    text = header[:_RAW_BYTES_MAX].decode("utf-8", "replace")
    found = (_clean(each, TAG_LENGTH_MAX) for each in text.split(","))
    return tuple(dict.fromkeys(each for each in found if each))[:TAGS_MAX]


def label(record: CallRecord, fields: Mapping[str, msgspec.Raw], tags: tuple[str, ...]) -> None:
    """Keep with a record what its call said."""
    if tags:
        record.tags = json.dumps(tags, ensure_ascii=False)
    for name in USERS:
        said = _decoded(fields.get(name))
        if isinstance(said, str) and (user := _clean(said, VALUE_LENGTH_MAX)):
            record.end_user = user
            break
    said = _decoded(fields.get("metadata"))
    if isinstance(said, dict):
        pairs = _pairs(cast("dict[str, Any]", said))
        if record.end_user is None:
            record.end_user = pairs.get("user_id")  # as Anthropic's API has it
        if pairs:
            record.metadata = json.dumps(pairs, ensure_ascii=False)


def _pairs(said: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in said.items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str | int | float):
            text = str(value)
        else:
            continue
        key, text = _clean(name, TAG_LENGTH_MAX).replace("=", ":"), _clean(text, VALUE_LENGTH_MAX)
        if key and text:
            found[key] = text
        if len(found) == PAIRS_MAX:
            break
    return found


def _decoded(raw: msgspec.Raw | None) -> object:
    if raw is None or len(bytes(raw)) > _RAW_BYTES_MAX:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _clean(text: str, length_max: int) -> str:
    """One line of what can be read."""
    text = "".join(char if char.isprintable() else " " for char in text[: 4 * length_max])
    return text.strip()[:length_max].rstrip()
