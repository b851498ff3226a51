"""The body of a call: only what the relay must know is decoded, the rest stays as it came.

What a model may be asked is its vendor's decision; here is refused only what no vendor could read,
or what would leave the relay unable to say what a call may cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, NoReturn

import msgspec

from merino.domain.errors import InvalidCall
from merino.wire.unreadable import NESTING_MAX, Unreadable, refusal, shown, too_deep

CHOICES_MAX = 128
"""Largest `n`, as at OpenAI."""

TOKENS_MAX = 2**31 - 1
"""Largest output limit accepted; anything above is a mistake."""

PARTS_MAX = 250_000
VALUES_MAX = 2_000_000
"""With numbers and the like, which cost less: the tokens of an embedding are so many numbers."""
"""Most strings, arrays and objects in a body. To read so many takes a quarter of a second, in which
nobody else is served; a chat of ten thousand messages has fewer than half."""
_MANY_PARTS_BYTES = 512 * 1024
"""A smaller body cannot have so many parts that they matter."""

LIMIT_NAMES = ("max_completion_tokens", "max_tokens")
"""Upstreams obey one of them, both or none, refuse one, or refuse both at once."""

OTHER_LIMIT_NAMES = frozenset(
    (
        "maxOutputTokens", "max_gen_len", "max_length", "max_new_tokens", "max_output_tokens",
        "max_tokens_to_sample", "n_predict", "num_predict",
    )
)  # fmt: skip
"""Names of some servers' own, which they may obey before the usual two (llama.cpp: `n_predict`)."""

Fields = dict[str, msgspec.Raw]

_decode_fields = msgspec.json.Decoder(Fields).decode
encode_fields = msgspec.json.Encoder().encode
_TRUE = msgspec.Raw(b"true")
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')


class ModelRequest:
    """A parsed body of `chat/completions` or `embeddings`.

    `fields` holds every top-level field as raw bytes; edits go there. `include_usage` is what the
    caller asked for, whatever the relay asks of the upstream. `adjusted` lists what the relay
    changed, for `x-merino-adjusted`. `n` is how many answers are made, also those of `best_of` that
    nobody gets.
    """

    # What a request does not say costs nothing: it stays with the class.
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    adjusted: tuple[str, ...] = ()
    added: Mapping[str, msgspec.Raw | None] = MappingProxyType({})
    """Fields that the relay added or completed for itself, and what the caller had sent there."""
    _body: bytes | None = None
    """The body as it came, as long as nothing was changed."""
    other_limits: Mapping[str, int] = MappingProxyType({})
    is_limit_made_up: bool = False
    """The output is limited, which the caller did not ask for."""
    _named: tuple[str, ...] | None = None

    def __init__(self, endpoint: str, model: str, fields: Fields, body: bytes | None) -> None:
        self.endpoint = endpoint
        self.model = model
        self.fields = fields
        self._body = body

    def change(self, name: str, value: msgspec.Raw | None) -> None:
        """Set a field, or take it away."""
        self._body = None
        if value is None:
            self.fields.pop(name, None)
        else:
            self.fields[name] = value

    def tell(self, *changes: str) -> None:
        """Note what was changed, once."""
        self.adjusted += tuple(each for each in changes if each not in self.adjusted)

    @property
    def output_tokens_max(self) -> int | None:
        """What the caller (or the relay since) allows one choice to have: the largest of the
        limits, as which of them an upstream obeys is its own affair."""
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
        """Bound the output under every name that the caller used, `max_completion_tokens` if
        none."""
        names = self.limit_names
        if not names and not self.other_limits:
            self.is_limit_made_up = True
        for name in names or ("max_completion_tokens",):
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

    def request_usage(self) -> None:
        """Ask the upstream for the usage of a stream; other `stream_options` stay as they are."""
        if self.include_usage:
            return
        options = self.fields.get("stream_options")
        self.added = {**self.added, "stream_options": options}
        if options is None or bytes(options) == b"null":
            self.change("stream_options", _WITH_USAGE)
            return
        members = _decode_fields(options)
        members["include_usage"] = _TRUE
        self.change("stream_options", msgspec.Raw(encode_fields(members)))

    def render(self) -> bytes:
        """The body to send: as it came, or the top level joined anew, every value byte for byte."""
        body = self._body
        return encode_fields(self.fields) if body is None else body


_Count = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]


class _Known(msgspec.Struct, gc=False):
    """The fields of a chat whose values the relay must know."""

    model: str
    stream: bool | None = None
    max_completion_tokens: _Count | None = None
    max_tokens: _Count | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    best_of: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None


_decode_known = msgspec.json.Decoder(_Known).decode
_rarely_said = attrgetter("max_tokens", "n", "best_of", "reasoning_effort", "service_tier")
_SAYS_NONE = (None,) * 5


def parse_chat(body: bytes) -> ModelRequest:
    """Read a body of `chat/completions`. Raises `InvalidCall` that names the field."""
    fields = parse_fields(body)
    try:
        known = _decode_known(body)
    except msgspec.ValidationError:
        _say_what_is_wrong(fields)
        raise
    request = ModelRequest("chat/completions", known.model or _model(None), fields, body)
    messages = fields.get("messages")
    if messages is None:
        _missing("messages")
    _check_filled_list("messages", messages)
    if known.stream:
        request.stream = True
    if (options := fields.get("stream_options")) is not None:
        request.include_usage = _include_usage(options)
    if known.max_completion_tokens is not None:
        request.max_completion_tokens = known.max_completion_tokens
    if not OTHER_LIMIT_NAMES.isdisjoint(fields):
        _read_other_limits(request)
    if _rarely_said(known) != _SAYS_NONE:
        _take_rarely_said(request, known)
    return request


def _take_rarely_said(request: ModelRequest, known: _Known) -> None:
    # What is not said stays with the class.
    if known.max_tokens is not None:
        request.max_tokens = known.max_tokens
    if known.n is not None:
        request.n = known.n
    if known.best_of is not None and known.best_of > request.n:
        request.n = known.best_of
    if known.reasoning_effort is not None:
        request.reasoning_effort = known.reasoning_effort
    if known.service_tier is not None:
        request.service_tier = known.service_tier


def _read_other_limits(request: ModelRequest) -> None:
    """A server's own limit counts as the usual ones do; one that is none (-1) is left out, as
    nobody could say what the call may cost."""
    limits: dict[str, int] = {}
    for name in sorted(OTHER_LIMIT_NAMES & request.fields.keys()):
        digits = bytes(request.fields[name])
        if digits.isdigit() and len(digits) <= 10 and 1 <= int(digits) <= TOKENS_MAX:
            limits[name] = int(digits)
        else:
            request.change(name, None)
            request.tell(f"{name} removed")
    request.other_limits = limits


def _say_what_is_wrong(fields: Fields) -> None:
    """Raise `InvalidCall` for the first field whose value is of the wrong type or size."""
    _model(fields.get("model"))
    for name, check in (
        ("stream", _boolean),
        ("reasoning_effort", _string),
        ("service_tier", _string),
    ):
        if (raw := fields.get(name)) is not None:
            check(name, raw)
    for name, value_max in (
        ("max_completion_tokens", TOKENS_MAX),
        ("max_tokens", TOKENS_MAX),
        ("n", CHOICES_MAX),
        ("best_of", CHOICES_MAX),
    ):
        if (raw := fields.get(name)) is not None:
            _integer(name, raw, value_max)


def parse_embeddings(body: bytes) -> ModelRequest:
    """Read a body of `embeddings`. Raises `InvalidCall` that names the field."""
    fields = parse_fields(body)
    request = ModelRequest("embeddings", _model(fields.get("model")), fields, body)
    texts = fields.get("input")
    if texts is None:
        _missing("input")
    if memoryview(texts)[0] == 0x22:
        if len(texts) == 2:
            raise InvalidCall(
                "Invalid 'input': the string is empty; send the text to embed.",
                param="input",
                code="invalid_value",
            )
    else:
        _check_filled_list("input", texts, "a string or an array")
    if (raw := fields.get("service_tier")) is not None:
        request.service_tier = _string("service_tier", raw)
    return request


def parse_fields(body: bytes) -> Fields:
    """The top level of any object that is sent to us. Raises `InvalidCall`."""
    if len(body) > _MANY_PARTS_BYTES:
        _check_parts(body)
    try:
        # Values are not looked into below, so their encoding is checked here for all of them.
        str(body, "utf-8")
        fields = _decode_fields(body)
    except msgspec.ValidationError:
        raise InvalidCall(
            f"The body must be a JSON object, but it is {_kind_of(body.lstrip())}.",
            code="invalid_json",
        ) from None
    except Unreadable as error:
        raise refusal(body, error) from None
    _check_unique(body, fields)
    if body.count(b"[") + body.count(b"{") > NESTING_MAX and _depth(body) > NESTING_MAX:
        raise too_deep(body)
    return fields


def _check_unique(body: bytes, fields: Fields) -> None:
    """Refuse a key that occurs twice: two readers of one body would take different values.

    A body without spaces between its tokens and without duplicates is exactly as long as its parts;
    a duplicate would make it at least five bytes longer.
    """
    count = len(fields)
    parts = sum(map(len, fields)) + sum(map(len, fields.values()))
    if len(body) < parts + (4 * count + 6 if count else 7):
        return
    pairs = _decode_pairs(body)
    if len(pairs) == count:
        return
    seen: set[str] = set()
    for pair in pairs:
        if pair.key in seen:
            name = shown(pair.key)
            raise InvalidCall(
                f"Duplicated key '{name}': it occurs more than once in the body. Send it once.",
                param=name,
                code="duplicated_key",
            )
        seen.add(pair.key)


class _Pair:
    """One occurrence of a key. Equal only to itself, so that a dict keeps every occurrence."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


def _to_pair(_type: type, key: str) -> _Pair:
    return _Pair(key)


_decode_pairs = msgspec.json.Decoder(dict[_Pair, msgspec.Raw], dec_hook=_to_pair).decode

_KEEP_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_BRACKET_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def _check_parts(body: bytes) -> None:
    """Refuse a body that would keep the relay from everybody else. Each look counts less that is
    none of its parts than the one before, and costs more."""
    if _parts(body, body) <= PARTS_MAX and body.count(b",") <= VALUES_MAX:
        return
    bare = _without_escaped_quotes(body)
    what = f"{PARTS_MAX:,} strings, arrays and objects"
    if bare.count(b'"') // 2 <= PARTS_MAX:
        structure = _outside_strings(bare)
        if _parts(bare, structure) <= PARTS_MAX:
            if structure.count(b",") <= VALUES_MAX:
                return
            what = f"{VALUES_MAX:,} values"
    raise InvalidCall(
        f"The body has more than {what}. Send fewer at once.",
        code="too_many_parts",
    )


def _parts(body: bytes, structure: bytes) -> int:
    return body.count(b'"') // 2 + structure.count(b"[") + structure.count(b"{")


def _without_escaped_quotes(body: bytes) -> bytes:
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return body


def _outside_strings(body: bytes) -> bytes:
    """Of JSON without escaped quotes: what lies between an even and the next odd quote."""
    return b"".join(body.split(b'"')[::2])


def _depth(body: bytes) -> int:
    """Deepest nesting of a body that is known to be JSON."""
    structure = _outside_strings(_without_escaped_quotes(body))
    structure = structure.translate(_BRACKET_STEPS, _KEEP_BRACKETS)
    return max(accumulate(memoryview(structure).cast("b")), default=0)


_KINDS = {
    0x22: "a string",
    0x5B: "an array",
    0x7B: "an object",
    0x66: "a boolean",
    0x74: "a boolean",
    0x6E: "null",
}


def _kind_of(raw: bytes | msgspec.Raw) -> str:
    """What a JSON value is, in OpenAI's words."""
    text = bytes(raw)
    kind = _KINDS.get(text[0]) if text else "nothing"
    if kind is not None:
        return kind
    return "a decimal number" if any(mark in text for mark in (b".", b"e", b"E")) else "an integer"


def _missing(name: str) -> NoReturn:
    raise InvalidCall(
        f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
    )


def _wrong_type(name: str, expected: str, raw: msgspec.Raw) -> NoReturn:
    raise InvalidCall(
        f"Invalid type for '{name}': expected {expected}, but got {_kind_of(raw)} instead.",
        param=name,
        code="invalid_type",
    ) from None


def _model(raw: msgspec.Raw | None) -> str:
    model = None if raw is None else _string("model", raw)
    if not model:
        raise InvalidCall(
            "you must provide a model parameter",
            param="model",
            code="missing_required_parameter",
        )
    return model


def _check_filled_list(name: str, raw: msgspec.Raw, expected: str = "an array") -> None:
    text = bytes(raw)
    if text[0] != 0x5B:
        _wrong_type(name, expected, raw)
    # Past the bracket stands a value, unless whitespace or the other bracket does.
    if text[1] in _NO_VALUE and not text[1:-1].strip():
        raise InvalidCall(
            f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an"
            " empty array instead.",
            param=name,
            code="empty_array",
        )


def _string(name: str, raw: msgspec.Raw) -> str | None:
    try:
        return _decode_string(raw)
    except msgspec.ValidationError:
        _wrong_type(name, "a string", raw)


def _boolean(name: str, raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    if text == b"true":
        return True
    if text not in {b"false", b"null"}:
        _wrong_type(name, "a boolean", raw)
    return False


def _integer(name: str, raw: msgspec.Raw, value_max: int) -> int | None:
    """An integer from 1 to `value_max`, or `None` for null."""
    text = bytes(raw)
    if text == b"null":
        return None
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit():
        _wrong_type(name, "an integer", raw)
    # Python refuses to read integers of more than 4,300 digits, and none of them is valid.
    value = int(text) if len(text) <= 20 else (value_max + 1 if digits is text else 0)
    if 1 <= value <= value_max:
        return value
    shown = text.decode() if len(text) <= 20 else f"a number of {len(digits)} digits"
    if value < 1:
        raise InvalidCall(
            f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got"
            f" {shown} instead.",
            param=name,
            code="integer_below_min_value",
        )
    raise InvalidCall(
        f"Invalid '{name}': integer above maximum value. Expected a value <= {value_max}, but got"
        f" {shown} instead.",
        param=name,
        code="integer_above_max_value",
    )


def _include_usage(raw: msgspec.Raw) -> bool:
    try:
        members = _decode_members(raw)
    except msgspec.ValidationError:
        _wrong_type("stream_options", "an object", raw)
    if members is None:
        return False
    include = members.get("include_usage")
    return include is not None and _boolean("stream_options.include_usage", include)


_NO_VALUE = b"] \t\r\n"
_decode_string = msgspec.json.Decoder(str | None).decode
_decode_members = msgspec.json.Decoder(Fields | None).decode
