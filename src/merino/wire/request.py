"""The body of a call: only what the relay must know is decoded, the rest stays as it came.

The vendor decides what a model may be asked. The relay refuses only what no vendor could read, or
what would make the cost of a call unknowable.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import Self

import msgspec

from merino.wire.endpoints import LIMIT_NAMES, Endpoint
from merino.wire.fields import Fields, decode_fields, encode_fields
from merino.wire.response_state import ResponseState

_NO_LIMIT = 2**62
_TRUE = msgspec.Raw(b"true")
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')


class ModelRequest:
    """A parsed body, and the endpoint it was sent to.

    `fields` holds every top-level field as raw bytes; edits go there. `include_usage` is what the
    caller asked for, whatever the relay asks the upstream for. `adjusted` lists what the relay
    changed, for `x-merino-adjusted`. `n` is how many answers are made, including those of `best_of`
    that nobody gets.
    """

    # What a request does not say costs nothing: the default stays on the class.
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    adjusted: tuple[str, ...] = ()
    previous_id: str | None = None
    """The answer that it goes on from, which lies with an upstream."""
    is_stored: bool = True
    """Whether its answer may be kept where it was made, so that later calls can name it."""
    has_sealed: bool = False
    """It brings thinking that only its maker can read."""
    prior_tokens: int | None = None
    """How many tokens that answer and all before it have; `None` if unknown."""
    state: ResponseState | None = None
    """What of it is kept somewhere; `None` where nothing ever is."""
    added: Mapping[str, msgspec.Raw | None] = MappingProxyType({})
    """Fields that the relay added or completed for itself, and what the caller had sent there."""
    added_members: Mapping[str, str] = MappingProxyType({})
    """Of fields of `added` that the caller sent in part: the member inside that they can do
    without."""
    _body: bytes | None = None
    """The body as it came, as long as nothing was changed."""
    other_limits: Mapping[str, int] = MappingProxyType({})
    is_limit_made_up: bool = False
    """The relay limited the output; the caller did not ask for that."""
    other_models: tuple[str, ...] = ()
    """Models that the upstream may have answer instead of the one that is asked."""
    passed: tuple[tuple[bytes, bytes], ...] = ()
    """Headers of the caller's that go along (`Endpoint.passes`)."""
    query: bytes = b""
    """The query that goes along with them."""
    _named: tuple[str, ...] | None = None

    def __init__(self, endpoint: Endpoint, model: str, fields: Fields, body: bytes | None) -> None:
        self.endpoint = endpoint
        self.model = model
        self.fields = fields
        self._body = body

    def change(self, name: str, value: msgspec.Raw | None) -> None:
        """Set a field, or remove it."""
        self._body = None
        if value is None:
            self.fields.pop(name, None)
        else:
            self.fields[name] = value

    def copied(self) -> Self:
        """The same request, to be changed for one upstream only."""
        other = copy(self)
        other.fields = self.fields.copy()
        return other

    def tell(self, *changes: str) -> None:
        """Note what was changed, once."""
        self.adjusted += tuple(each for each in changes if each not in self.adjusted)

    @property
    def output_tokens_max(self) -> int | None:
        """What the caller (or the relay since) allows one choice to have: the largest of the
        limits, since the upstream decides which of them it obeys."""
        one, other = self.max_completion_tokens, self.max_tokens
        asked = other if one is None else one
        if asked is not None and other is not None and other > asked:
            asked = other
        if self.other_limits:
            asked = max(asked or 0, *self.other_limits.values())
        return asked

    @property
    def limit_names(self) -> tuple[str, ...]:
        """The names under which the output is limited, before any are added or left out."""
        if self.max_completion_tokens is None:
            return () if self.max_tokens is None else ("max_tokens",)
        return ("max_completion_tokens",) if self.max_tokens is None else LIMIT_NAMES

    def set_model(self, upstream_model: str) -> None:
        """Name the model as the upstream does; `model` stays what the caller sent."""
        if self._body is not None and upstream_model == self.model:
            return
        self.change("model", msgspec.Raw(encode_fields(upstream_model)))

    def set_output_tokens_max(self, tokens: int, *, reason: str) -> None:
        """Bound the output under every name that the caller used, or the endpoint's own name if
        there is none."""
        names = self.limit_names
        if not names:
            own = self.endpoint.limit_name
            if not self.other_limits:
                self.is_limit_made_up = True
            if own in self.other_limits:
                names = ()
            elif own in LIMIT_NAMES:
                names = (own,)
            else:
                self.other_limits = {own: _NO_LIMIT, **self.other_limits}
        for name in names:
            allowed = getattr(self, name)
            if allowed is None or allowed > tokens:
                setattr(self, name, tokens)
                self.change(name, msgspec.Raw(b"%d" % tokens))
                self.tell(f"{name}={tokens} ({reason})")

        for name, allowed in self.other_limits.items():
            if allowed > tokens:
                self.other_limits = {**self.other_limits, name: tokens}
                self.change(name, msgspec.Raw(b"%d" % tokens))
                self.tell(f"{name}={tokens} ({reason})")

    def name_limits(self, names: tuple[str, ...]) -> None:
        """Send the output limit under exactly these names, from now on."""
        if names == self._named:
            return
        one, other = self.max_completion_tokens, self.max_tokens
        body = self._body
        if (
            names is LIMIT_NAMES
            and other is None
            and self._named is None
            and body is not None
            and body[-1] == 0x7D
            and "max_tokens" not in self.fields
        ):
            # Nearly always: the body as it came, and the other name at its end.
            self._named = names
            digits = b"%d" % (one or 1)
            self.fields["max_tokens"] = msgspec.Raw(digits)
            self._body = b'%b,"max_tokens":%b}' % (body[:-1], digits)
            return
        if self._named is None and names == self.limit_names:
            return
        self._named = names
        for name, tokens in (
            ("max_completion_tokens", other if one is None else one),
            ("max_tokens", one if other is None else other),
        ):
            if name in names:
                self.change(name, msgspec.Raw(b"%d" % (tokens or 1)))
            elif name in self.fields:
                self.change(name, None)

    def drop_own_limit(self) -> bool:
        """Send no limit under the endpoint's own name; false if there is none."""
        name = self.endpoint.limit_name
        if name not in self.other_limits:
            return False
        self.other_limits = {
            each: tokens for each, tokens in self.other_limits.items() if each != name
        }
        self.change(name, None)
        return True

    def request_usage(self) -> None:
        """Ask the upstream for the usage of a stream; other `stream_options` stay as they are."""
        if self.include_usage or self.endpoint.reports_usage:
            return
        options = self.fields.get("stream_options")
        self.added = {**self.added, "stream_options": options}
        if options is None or bytes(options) == b"null":
            self.change("stream_options", _WITH_USAGE)
            return
        members = decode_fields(options)
        members["include_usage"] = _TRUE
        self.change("stream_options", msgspec.Raw(encode_fields(members)))

    def render(self) -> bytes:
        """The body to send: as it came, or the top level joined anew, every value byte for byte."""
        body = self._body
        return encode_fields(self.fields) if body is None else body
