"""Says which field made a body undecodable.

Only failures come here, so valid bodies pay nothing for it.
"""

from __future__ import annotations

import re
from math import isinf
from typing import Final

import msgspec

from merino.domain.errors import InvalidCall

NESTING_MAX: Final = 200
"""Deepest nesting of arrays and objects in a body; upstreams and clients break soon after."""
TOKENS_MAX: Final = 200_000
"""Quotes, brackets and colons looked at: some 50 ms. An error beyond that is reported only by its
byte."""
PARTS_MAX: Final = 24
"""How many parts of a path are shown."""
_DEEP_PARTS: Final = 6
"""The same where the path itself is wrong."""

_TOKEN = re.compile(rb'"[^"]*"?|[\[\]{}:]|[^"\[\]{}:]+')
_PLACE = re.compile(r" \(byte (\d+)\)$")
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])"
    rb"|[c-fC-F](?<!\\u[dD][89abAB]..\\u[dD][c-fC-F]))",
    re.DOTALL,
)
_MAYBE_HUGE = re.compile(rb"-?\d[\d.]*[eE]\+?\d+|-?\d{309,}")
_WORD = re.compile(rb"-?[A-Za-z]+")
_WORD_CHARS_MAX = 12
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd
_NO_NUMBER = re.compile(rb"-?(nan|inf|infinity)", re.IGNORECASE)
_MEANT = {b"None": "null", b"undefined": "null", b"True": "true", b"False": "false"}
_decode_text = msgspec.json.Decoder(str).decode

_Step = int | str | None
"""An array's index, an object's key, or `None` where its next key is not known yet."""


Unreadable = (UnicodeDecodeError, RecursionError, msgspec.DecodeError)
"""What decoding raises when no type is asked for."""


def refusal(body: bytes, error: Exception, nesting_max: int = NESTING_MAX) -> InvalidCall:
    """The refusal for what decoding `body` raised, one of `Unreadable`."""
    if isinstance(error, RecursionError):
        return too_deep(body, nesting_max)
    try:
        # The decoder's position may count from somewhere inside.
        str(body, "utf-8")
    except UnicodeDecodeError as misread:
        return _not_utf8(body, misread)
    return _malformed(body, error)


def _malformed(body: bytes, error: Exception) -> InvalidCall:
    if not body.strip():
        return InvalidCall("The body is empty; send a JSON object.", code="invalid_json")
    said = str(error).removeprefix("JSON is malformed: ")
    found = _PLACE.search(said)
    said = _PLACE.sub("", said)
    place = int(found[1]) if found else len(body)
    advice = "Check quotes, commas and brackets there."
    word = _word_at(body, place)
    if (lone := _lone_surrogate(body, said, place)) is not None:
        place = lone
        said, advice = "an escaped surrogate has no partner", "Send characters in whole."
    elif "out of range" in said:
        place, number = _huge_number(body)
        said = f"{number or 'a number'} is larger than a number can be"
        advice = "Send a finite number, or leave the field out."
    elif found is None:
        said = "it ends too early"
    elif body.startswith(b"\xef\xbb\xbf"):
        said, advice = "it begins with a byte order mark", "Leave that out."
    elif _NO_NUMBER.fullmatch(word):
        said = f"{word.decode()} is not JSON"
        advice = "Send a finite number, or leave the field out."
    elif word in _MEANT:
        said, advice = f"{word.decode()} is not JSON", f"Send {_MEANT[word]}."
    elif said == "invalid character" and place < len(body) and body[place] < 0x20:
        said = f"a string holds the control character 0x{body[place]:02x}"
        advice = f"Escape it, as \\u{body[place]:04x}."
    path = _path(body, place)
    return InvalidCall(
        f"The body is not valid JSON{_at(path)}: {said} (byte {place}). {advice}",
        param=path,
        code="invalid_json",
    )


def _not_utf8(body: bytes, error: UnicodeDecodeError) -> InvalidCall:
    if body.startswith(_COMPRESSED):
        return InvalidCall(
            "The body is compressed. Send it as it is, without Content-Encoding.",
            code="invalid_json",
        )
    path = _path(body, error.start)
    return InvalidCall(
        f"The body is not valid UTF-8{_at(path)}: byte 0x{body[error.start]:02x} at position"
        f" {error.start}. Send JSON encoded as UTF-8.",
        param=path,
        code="invalid_json",
    )


def too_deep(body: bytes, nesting_max: int = NESTING_MAX) -> InvalidCall:
    """The refusal of a body with more than `nesting_max` levels."""
    path = _path(body, len(body), nesting_max)
    return InvalidCall(
        f"The body is nested too deeply{_at(path)}; at most {nesting_max} levels are accepted.",
        param=path,
        code="invalid_json",
    )


def shown(text: str, chars_max: int = 64) -> str:
    """A name from a body, fit for a message: short, no control characters."""
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= chars_max else plain[:chars_max] + "..."


def _path(body: bytes, end: int, nesting_max: int | None = None) -> str | None:
    """The path of the value at `end`, or of the first value nested deeper than `nesting_max`:
    `messages[0].content`. `None` if it belongs to no field, or is too far away to be found in
    time."""
    text = _without_escapes(body[:end])
    stack: list[_Step] = []
    is_key = False
    for count, token in enumerate(_TOKEN.finditer(text)):
        if count >= TOKENS_MAX:
            return None
        match text[token.start()]:
            case 0x22:  # a string
                if is_key and token.end() - token.start() > 1 and text[token.end() - 1] == 0x22:
                    stack[-1] = _name(body[token.start() : token.end()])
            case 0x7B:  # {
                stack.append(None)
                is_key = True
            case 0x5B:  # [
                stack.append(0)
                is_key = False
            case 0x5D | 0x7D:  # ] }
                if not stack:
                    return None
                stack.pop()
                is_key = False
            case 0x3A:  # :
                is_key = False
            case _:
                commas = token[0].count(b",")
                if commas and stack:
                    last = stack[-1]
                    if isinstance(last, int):
                        stack[-1] = last + commas
                    else:
                        stack[-1] = None
                        is_key = True
        if nesting_max is not None and len(stack) > nesting_max:
            return _rendered(stack, _DEEP_PARTS)
    return _rendered(stack, PARTS_MAX)


def _rendered(stack: list[_Step], parts_max: int) -> str | None:
    if not stack or isinstance(stack[0], int):
        return None  # an array has no fields
    path = ""
    for step in stack[:parts_max]:
        if step is None:
            return path or None
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path + "..." if len(stack) > parts_max else path or None


def _without_escapes(body: bytes) -> bytes:
    """The same length, without escaped backslashes and escaped quotes."""
    return body.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in body else body


def _name(quoted: bytes) -> str:
    try:
        return shown(_decode_text(quoted))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return shown(quoted[1:-1].decode(errors="replace"))


def _lone_surrogate(body: bytes, said: str, place: int) -> int | None:
    """Where it is. The decoder looks for the other half, so it reports a later byte or the end."""
    if not any(each in said for each in ("truncated", "surrogate", "hex escape")):
        return None
    found = _LONE_SURROGATE.search(_without_escapes(body))
    is_near = found is not None and (place == len(body) or place <= found.start() + 13)
    return found.start() if found is not None and is_near else None


def _huge_number(body: bytes) -> tuple[int, str]:
    """Where the first number is that no float can hold, and how it is written."""
    for count, token in enumerate(_TOKEN.finditer(_without_escapes(body))):
        if count >= TOKENS_MAX:
            break
        if body[token.start()] != 0x22:
            for number in _MAYBE_HUGE.finditer(token[0]):
                if isinf(float(number[0])):
                    return token.start() + number.start(), shown(number[0].decode())
    return len(body), ""


def _word_at(body: bytes, place: int) -> bytes:
    """The word at `place`, with its sign; empty if there is none."""
    start = place
    while (
        start and place - start < _WORD_CHARS_MAX and _WORD.fullmatch(body[start - 1 : place + 1])
    ):
        start -= 1
    if body[start - 1 : start] == b"\\":
        return b""
    word = _WORD.match(body, start)
    return b"" if word is None else word[0]


def _at(path: str | None) -> str:
    return "" if path is None else f" at '{path}'"
