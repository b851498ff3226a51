"""Paths below `/v1/responses` and `/v1/conversations`: what an answered call has left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes

ID_BYTES_MAX = 512

PREFIXES = (b"/v1/responses/", b"/v1/conversations/")

_METHODS: Mapping[tuple[bytes, bytes, bool], tuple[bytes, ...]] = {
    (b"responses", b"", False): (b"GET", b"DELETE"),
    (b"responses", b"cancel", False): (b"POST",),
    (b"responses", b"input_items", False): (b"GET",),
    (b"conversations", b"", False): (b"GET", b"POST", b"DELETE"),
    (b"conversations", b"items", False): (b"GET", b"POST"),
    (b"conversations", b"items", True): (b"GET", b"DELETE"),
}
"""By what is asked of an id, and whether an item of it is named."""

_PASSED_ON = frozenset(
    ("after", "before", "include", "include_obfuscation", "limit", "order", "starting_after")
)
"""Parameters of the query that an upstream gets, with `stream`."""


class StatePath(NamedTuple):
    """`part` is what is asked of the response or conversation `id`; `item` one of its items."""

    kind: str
    id: str
    part: str = ""
    item: str = ""

    @property
    def below(self) -> str:
        """The same path below a base URL."""
        parts = (self.kind, quote(self.id, safe=""), self.part, quote(self.item, safe=""))
        return "/".join(each for each in parts if each)


def state_path(target: bytes) -> tuple[StatePath, tuple[bytes, ...]] | None:
    """What a target names, and with which methods; `None` if there is no such path."""
    parts = target.partition(b"?")[0].removeprefix(b"/v1/").split(b"/")
    if not 2 <= len(parts) <= 4 or not all(parts):
        return None
    kind, raw_id, part, raw_item = (*parts, b"", b"")[:4]
    methods = _METHODS.get((kind, part, bool(raw_item)))
    if methods is None or len(raw_id) > ID_BYTES_MAX or len(raw_item) > ID_BYTES_MAX:
        return None
    try:
        found_id, item = unquote_to_bytes(raw_id).decode(), unquote_to_bytes(raw_item).decode()
    except UnicodeDecodeError:
        return None
    return StatePath(kind.decode(), found_id, part.decode(), item), methods


def query_passed_on(target: bytes) -> str:
    """The part of the query that an upstream gets, as it came."""
    pairs = target.partition(b"?")[2].decode("latin-1").split("&")
    return "&".join(pair for pair in pairs if _is_passed_on(pair))


def _is_passed_on(pair: str) -> bool:
    name = unquote_to_bytes(pair.partition("=")[0]).partition(b"[")[0].decode("latin-1")
    return name in _PASSED_ON or name == "stream"


def query_of(target: bytes) -> dict[str, list[str]]:
    """The query's values by name; `include[]=a` is `include`."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(target.partition(b"?")[2].decode("latin-1")):
        found.setdefault(name.partition("[")[0], []).append(value)
    return found
