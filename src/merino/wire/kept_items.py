"""Items of responses and conversations as they are listed: each with an id and all its members,
whatever its sender left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from merino.domain.errors import InvalidCall, NotFound

Item = dict[str, msgspec.Raw]

LIMIT_DEFAULT = 20
LIMIT_MAX = 100

_encode = msgspec.json.encode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_item = msgspec.json.Decoder(Item).decode
_COMPLETED = msgspec.Raw(b'"completed"')
_PREFIXES: Mapping[bytes, str] = {
    b'"message"': "msg",
    b'"reasoning"': "rs",
    b'"function_call"': "fc",
    b'"function_call_output"': "fco",
    b'"custom_tool_call"': "ctc",
    b'"custom_tool_call_output"': "ctco",
    b'"compaction"': "cmp",
}
_WITH_STATUS = frozenset((b'"message"', b'"function_call_output"', b'"function_call"'))


def raw_items(given: msgspec.Raw | None, param: str = "input") -> list[msgspec.Raw]:
    """The items of an `input`, byte for byte; a text is one message of its user. Raises
    `InvalidCall`."""
    first = b"" if given is None else bytes(memoryview(given)[:1])
    if given is None or first == b"n":
        return []
    if first == b'"':
        return [msgspec.Raw(b'{"type":"message","role":"user","content":%b}' % bytes(given))]
    try:
        return [msgspec.Raw(bytes(each)) for each in _decode_items(given)]
    except msgspec.DecodeError:
        raise InvalidCall(
            f"Invalid type for '{param}': expected an array of items.",
            param=param,
            code="invalid_type",
        ) from None


def type_of(raw: msgspec.Raw) -> str:
    """The type of an item; messages may leave it out."""
    members = members_of(raw)
    kind = members.get("type")
    return "message" if kind is None else _text(kind)


def members_of(raw: msgspec.Raw) -> Item:
    """Empty if it is no object."""
    try:
        return _decode_item(raw)
    except msgspec.DecodeError:
        return {}


def id_of(raw: msgspec.Raw) -> str | None:
    given = members_of(raw).get("id")
    return None if given is None else _text(given) or None


def listed(items: Iterable[msgspec.Raw], owner_id: str) -> list[Item]:
    """As they are shown. One without an id gets the same one each time, made of whose it is and
    its place."""
    return [
        _listed(members_of(raw), owner_id, place)
        for place, raw in enumerate(items)
        if members_of(raw)
    ]


def _listed(members: Item, owner_id: str, place: int) -> Item:
    kind = bytes(members.get("type", b'"message"'))
    if kind == b"null":
        kind = b'"message"'
    found: Item = {**members, "type": msgspec.Raw(kind)}
    if "id" not in members or bytes(members["id"]) in (b"null", b'""'):
        digest = hashlib.sha256(f"{owner_id}\n{place}".encode()).hexdigest()[:32]
        found["id"] = msgspec.Raw(_encode(f"{_PREFIXES.get(kind, 'item')}_{digest}"))
    if kind in _WITH_STATUS and "status" not in members:
        found["status"] = _COMPLETED
    content = members.get("content")
    if kind == b'"message"' and content is not None and bytes(memoryview(content)[:1]) == b'"':
        is_said = bytes(members.get("role", b"")) == b'"assistant"'
        part = b'[{"type":"output_text","text":%b,"annotations":[],"logprobs":[]}]'
        if not is_said:
            part = b'[{"type":"input_text","text":%b}]'
        found["content"] = msgspec.Raw(part % bytes(content))
    return found


class Page(msgspec.Struct, frozen=True):
    """What of a list is asked for."""

    limit: int = LIMIT_DEFAULT
    after: str | None = None
    newest_first: bool = True


def page_of(query: Mapping[str, Sequence[str]]) -> Page:
    """Raises `InvalidCall` that names the parameter."""
    given = {name: values[-1] for name, values in query.items() if values}
    limit = given.get("limit", str(LIMIT_DEFAULT))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= LIMIT_MAX:
        raise InvalidCall(
            f"Invalid 'limit': expected a number from 1 to {LIMIT_MAX}.",
            param="limit",
            code="invalid_value",
        )
    order = given.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidCall(
            "Invalid 'order': expected 'asc' or 'desc'.", param="order", code="invalid_value"
        )
    return Page(int(limit), given.get("after"), order == "desc")


def list_object(items: Sequence[Item], page: Page) -> bytes:
    """One page of them, oldest first given. Raises `NotFound` if what it goes on after is none of
    them."""
    ordered = list(reversed(items)) if page.newest_first else list(items)
    if page.after is not None:
        wanted = _encode(page.after)
        places = [place for place, each in enumerate(ordered) if bytes(each["id"]) == wanted]
        if not places:
            raise NotFound(f"No item with id '{page.after[:100]}' found.", param="after")
        ordered = ordered[places[0] + 1 :]
    shown = ordered[: page.limit]
    none = msgspec.Raw(b'""')
    return _encode(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else none,
            "last_id": shown[-1]["id"] if shown else none,
            "has_more": len(ordered) > len(shown),
        }
    )


def joined(items: Iterable[msgspec.Raw]) -> msgspec.Raw:
    """An array of them, byte for byte."""
    return msgspec.Raw(b"[%b]" % b",".join([bytes(each) for each in items]))


def _text(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return ""
