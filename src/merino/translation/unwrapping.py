"""Takes the text out of `{"input": "…"}` while it arrives: the arguments of a function that stands
for a custom tool."""

from __future__ import annotations

import re

from merino.translation.values import decode, is_object, members_of, text_in, text_of

_BEGIN = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_PIECE = re.compile(r'[^"\\]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_HIGH_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")


class Unwrapping:
    """Fed with the arguments' JSON as text, in pieces of any size.

    What begins otherwise than expected is kept until the end: models that were told of a custom
    tool may also send its bare text.
    """

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        """How far the string was read; 0: it has not begun."""
        self._is_closed = False
        self._given: list[str] = []

    def feed(self, text: str) -> str:
        """What this adds to the input."""
        self._text += text
        if not self._at:
            begin = _BEGIN.match(self._text)
            if begin is None:
                return ""
            self._at = begin.end()
        return self._read()

    def _read(self) -> str:
        found: list[str] = []
        text, at = self._text, self._at
        while not self._is_closed:
            match = _PIECE.match(text, at)
            if match is None:
                self._is_closed = text[at : at + 1] == '"'
                break
            end = match.end()
            if _HIGH_HALF.fullmatch(match[0]):
                # Both halves of a surrogate pair are one character.
                other = _PIECE.match(text, end)
                if other is None and len(text) - end < 6:
                    break
                if other is not None and other[0][:2] == "\\u":
                    end = other.end()
            found.append(text[at:end])
            at = end
        self._at = at
        given = text_in(_as_piece("".join(found)))
        if given:
            self._given.append(given)
        return given

    def finish(self) -> str:
        """What is still missing, once all arguments are here."""
        if self._at:
            return ""
        try:
            value: object = decode(self._text.encode("utf-8", "surrogatepass"))
        except ValueError:
            value = self._text
        if is_object(value):
            members = members_of(value)
            said = members.get("input", next(iter(members.values()), ""))
            whole = text_of(said)
        else:
            whole = value if isinstance(value, str) else self._text
        if whole:
            self._given.append(whole)
        return whole

    @property
    def whole(self) -> str:
        """The input so far."""
        return "".join(self._given)


def _as_piece(inner: str) -> bytes:
    # Models write line ends into strings as they are, which JSON does not allow.
    escaped = re.sub(r"[\x00-\x1f]", lambda found: f"\\u{ord(found[0]):04x}", inner)
    return escaped.encode("utf-8", "surrogatepass")
