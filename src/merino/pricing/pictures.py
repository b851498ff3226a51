"""How many LLM tokens a picture may be billed for: by its size, and by who looks at it.

Vendors cut a picture into tiles or patches of their own. What is known of a model's family is its
rule; for a model that nobody described, the dearest of all rules.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

PICTURE_TOKENS_MAX = 48_169
"""The dearest picture there is: eight tiles of gpt-4o-mini (2,833 + 8 x 5,667)."""

PICTURE_TOKENS_USUAL = 1600
"""What a picture is taken for where it must be billed and nobody says at what: the largest of
gpt-4o and of most Claude models."""

_HEAD_CHARS = 64
"""Of base64: enough for all but a JPEG."""

_JPEG_HEAD_CHARS_MAX = 512 * 1024
"""A JPEG may carry that much about its camera before it says its size."""

_SIDE_MAX = 65_535


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int


def _tiled(base: int, per_tile: int) -> Callable[[Size | None, str], int]:
    """OpenAI's tiles of 512 pixels, of a picture that was made to fit 2,048 x 2,048 and then to
    have a shorter side of 768. `low` detail is the base alone."""

    def tokens(size: Size | None, detail: str) -> int:
        if detail == "low":
            return base
        return base + per_tile * (8 if size is None else _tiles(size))

    return tokens


def _tiles(size: Size) -> int:
    shrunk = min(1.0, 2048 / max(size), 768 / min(size))
    # Part of a pixel is a pixel, but for what floats add.
    width, height = (ceil(side * shrunk - 1e-6) for side in size)
    return min(8, -(-width // 512) * -(-height // 512))


def _patched(side: int, patches_max: int, factor_percent: int) -> Callable[[Size | None, str], int]:
    """One token for each square patch, times a factor."""

    def tokens(size: Size | None, _detail: str) -> int:
        patches = patches_max
        if size is not None:
            patches = min(patches, -(-size.width // side) * -(-size.height // side))
        return -(-patches * factor_percent // 100) + 4

    return tokens


def _gemini(size: Size | None, _detail: str) -> int:
    """258 for each tile that it is cut into; the newer ones up to 2,240 for all of it."""
    if size is None:
        return 258 * 12
    side = max(256, min(size) * 2 // 3)
    return max(2240, 258 * min(12, -(-size.width // side) * -(-size.height // side)))


def _dearest(size: Size | None, _detail: str) -> int:
    """Of a model that nobody described. Its `detail` may not even be read."""
    if size is None:
        return PICTURE_TOKENS_MAX
    patches = -(-size.width // 14) * -(-size.height // 14)
    return min(PICTURE_TOKENS_MAX, max(2833 + 5667 * _tiles(size), patches + size.height // 14))


_FAMILIES: tuple[tuple[re.Pattern[str], Callable[[Size | None, str], int]], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"gpt-4o-mini", _tiled(2833, 5667)),
        (r"gpt-4\.1-mini|gpt-5[.0-9]*-mini", _patched(32, 1536, 162)),
        (r"gpt-4\.1-nano|gpt-5[.0-9]*-nano", _patched(32, 1536, 246)),
        (r"o4-mini", _patched(32, 1536, 172)),
        (r"gpt-5", _patched(32, 10_000, 120)),
        (r"gpt-4\.1(-|$)", _patched(32, 1536, 100)),
        (r"(gpt-4o|chatgpt-4o|gpt-4-turbo|o1|o3)(-|$)", _tiled(85, 170)),
        (r"claude", _patched(27, 4784, 100)),
        (r"gemini", _gemini),
    )
)
"""What model families bill for a picture, as their vendors document it. First match wins."""


def picture_tokens(model: str, size: Size | None, detail: str = "") -> int:
    """The most that `model` may bill for a picture of this size; `None` is an unknown size."""
    plain = model.rpartition("/")[2]
    rule = next((rule for pattern, rule in _FAMILIES if pattern.match(plain)), _dearest)
    return rule(size, detail)


# -- sizes ----------------------------------------------------------------------------------------


def size_of(encoded: str) -> Size | None:
    """Width and height by the first bytes of a PNG, JPEG, GIF or WebP in base64; `None` if they
    do not say, or nothing that could be true."""
    data = _decoded(encoded[:_HEAD_CHARS])
    size = _png(data) or _gif(data) or _webp(data)
    if size is None and data[:2] == _JPEG:
        size = _jpeg(_decoded(encoded[:_JPEG_HEAD_CHARS_MAX]))
    if size is None or not (0 < size.width <= _SIDE_MAX and 0 < size.height <= _SIDE_MAX):
        return None
    if len(encoded) > 8 * size.width * size.height + 65_536:
        return None  # far more bytes than such a picture can need: not to be believed
    return size


def _decoded(head: str) -> bytes:
    # What is cut off in the middle of four characters is left out.
    head = head[: len(head) // 4 * 4]
    try:
        return b64decode(head, altchars=b"-_" if "-" in head or "_" in head else None)
    except (NotBase64, ValueError):
        return b""


def _png(data: bytes) -> Size | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return Size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))


def _gif(data: bytes) -> Size | None:
    if data[:6] not in {b"GIF87a", b"GIF89a"} or len(data) < 10:
        return None
    return Size(int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))


def _webp(data: bytes) -> Size | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return Size(width, int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        return Size(width, int.from_bytes(data[28:30], "little") & 0x3FFF)
    return None


_JPEG = b"\xff\xd8"
_NO_FRAMES = frozenset((0xC4, 0xC8, 0xCC))
"""Markers among those of frames that are none: Huffman tables, reserved, arithmetic coding."""


def _jpeg(data: bytes) -> Size | None:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            return Size(int.from_bytes(data[at + 7 : at + 9], "big"), height)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
