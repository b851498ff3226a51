"""Joins an answer that comes in pieces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from merino.domain.errors import UpstreamBroken


async def collected(
    pipe: Callable[[Callable[[bytes], None]], Awaitable[None]], bytes_max: int
) -> bytes:
    """Everything `pipe` delivers. Raises `UpstreamBroken` if that is more than `bytes_max`."""
    pieces: list[bytes] = []
    size = 0

    def take(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > bytes_max:
            raise UpstreamBroken(
                f"The upstream's answer is larger than {bytes_max} bytes. A "
                "relay's limit is its setting upstream.answer_bytes_max.",
                code="upstream_answer_too_large",
            )
        pieces.append(piece)

    await pipe(take)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
