"""Reads the fields of a body one by one, and says what is wrong with them."""

from __future__ import annotations

from itertools import accumulate
from typing import NoReturn

import msgspec

from merino.domain.errors import InvalidCall
from merino.wire.unreadable import NESTING_MAX, Unreadable, refusal, shown, too_deep

PARTS_MAX = 250_000
VALUES_MAX = 2_000_000
"""The same including numbers and the like, which cost less: the tokens of an embedding are that
many numbers."""
"""Most strings, arrays and objects in a body. Reading this many takes a quarter of a second, in
which nobody else is served. A chat of ten thousand messages has fewer than half as many."""
MANY_PARTS_BYTES = 512 * 1024
"""A smaller body cannot have so many parts that they matter."""

Fields = dict[str, msgspec.Raw]

decode_fields = msgspec.json.Decoder(Fields).decode
encode_fields = msgspec.json.Encoder().encode


def parse_fields(body: bytes) -> Fields:
    """The top level of any object sent to the relay. Raises `InvalidCall`."""
    brackets = body.count(b"[") + body.count(b"{")
    if len(body) > MANY_PARTS_BYTES:
        _check_parts(body, brackets)
    try:
        # The code below does not look into values, so the encoding of all is checked here.
        if not body.isascii():
            str(body, "utf-8")
        fields = decode_fields(body)
    except msgspec.ValidationError:
        raise InvalidCall(
            f"The body must be a JSON object, but it is {kind_of(body.lstrip())}.",
            code="invalid_json",
        ) from None
    except Unreadable as error:
        raise refusal(body, error) from None
    _check_unique(body, fields)
    if brackets > NESTING_MAX and _depth(body) > NESTING_MAX:
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


def _check_parts(body: bytes, brackets: int) -> None:
    """Refuse a body that would block the relay for everybody else. Each check excludes more that is
    no part of the body than the one before, and costs more."""
    quotes = body.count(b'"')
    if quotes // 2 + brackets > PARTS_MAX:
        # At least the quotes behind a single backslash are escaped, and so no parts.
        quotes += body.count(b'\\\\"') - body.count(b'\\"')
    if quotes // 2 + brackets <= PARTS_MAX and body.count(b",") <= VALUES_MAX:
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
    """The pieces of JSON without escaped quotes that lie outside its strings: between an even quote
    and the next odd one."""
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


def kind_of(raw: bytes | msgspec.Raw) -> str:
    """What a JSON value is, in OpenAI's words."""
    text = bytes(raw)
    kind = _KINDS.get(text[0]) if text else "nothing"
    if kind is not None:
        return kind
    return "a decimal number" if any(mark in text for mark in (b".", b"e", b"E")) else "an integer"


def missing(name: str) -> NoReturn:
    raise InvalidCall(
        f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
    )


def wrong_type(name: str, expected: str, raw: msgspec.Raw) -> NoReturn:
    raise InvalidCall(
        f"Invalid type for '{name}': expected {expected}, but got {kind_of(raw)} instead.",
        param=name,
        code="invalid_type",
    ) from None


def model_of(raw: msgspec.Raw | None) -> str:
    model = None if raw is None else text_of("model", raw)
    if not model:
        raise InvalidCall(
            "you must provide a model parameter",
            param="model",
            code="missing_required_parameter",
        )
    return model


def check_filled_list(name: str, raw: msgspec.Raw, expected: str = "an array") -> None:
    text = bytes(raw)
    if text[0] != 0x5B:
        wrong_type(name, expected, raw)
    # After the bracket comes a value, unless whitespace or the other bracket does.
    if text[1] in _NO_VALUE and not text[1:-1].strip():
        raise InvalidCall(
            f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an"
            " empty array instead.",
            param=name,
            code="empty_array",
        )


def text_of(name: str, raw: msgspec.Raw) -> str | None:
    try:
        return _decode_string(raw)
    except msgspec.ValidationError:
        wrong_type(name, "a string", raw)


def boolean_of(name: str, raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    if text == b"true":
        return True
    if text not in {b"false", b"null"}:
        wrong_type(name, "a boolean", raw)
    return False


def integer_of(name: str, raw: msgspec.Raw, value_max: int) -> int | None:
    """An integer from 1 to `value_max`, or `None` for null."""
    text = bytes(raw)
    if text == b"null":
        return None
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit():
        wrong_type(name, "an integer", raw)
    # Python refuses to read integers of more than 4,300 digits; none of these is valid.
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


_NO_VALUE = b"] \t\r\n"
_decode_string = msgspec.json.Decoder(str | None).decode
