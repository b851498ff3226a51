"""Answers that come compressed: unpacked whatever their pieces are, and never beyond a limit."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.domain.errors import UpstreamBroken
from merino.wire import unpacking
from merino.wire.unpacking import Unpacker, is_packed

LIMIT = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def brotli(data: bytes) -> bytes:
    return pytest.importorskip("brotli").compress(data)


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(data)


PACKED = {
    b"gzip": gzip.compress,
    b"GZip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
    b" Deflate ": raw_deflate,
    b"gzip, identity": gzip.compress,
    b"deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
    b"br": brotli,
    b"zstd": zstd,
}


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def unpacked(coding: bytes, pieces: list[bytes], limit: int = LIMIT) -> bytes:
    unpacker = Unpacker(coding, limit)
    found = b"".join(part for piece in pieces for part in unpacker.feed(piece))
    unpacker.finish()
    return found


@pytest.mark.parametrize("coding", PACKED)
@settings(max_examples=examples(40))
@given(
    some=st.binary(max_size=40),
    times=st.sampled_from((1, 20, 6000)),
    sizes=st.lists(st.integers(0, 60), max_size=8),
)
def test_any_split_gives_the_same(coding, some, times, sizes) -> None:
    """What was packed comes out, however the network cut it."""
    data = some * times
    assert data == unpacked(coding, cut(PACKED[coding](data), sizes))


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.lists(st.integers(0, 30)))
def test_gzip_of_several_members(parts, sizes) -> None:
    """Members that follow each other are one answer."""
    packed = b"".join(map(gzip.compress, parts))

    assert b"".join(parts) == unpacked(b"gzip", cut(packed, sizes))


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("padding", [b"\0" * 40, b"\n", b"\x1f", b"junk"])
def test_what_stands_behind_the_end(coding, padding) -> None:
    """Padding is not part of an answer."""
    packed = PACKED[coding](b"hello")

    assert b"hello" == unpacked(coding, [packed + padding])
    assert b"hello" == unpacked(coding, [packed, padding, padding[:1]])


def test_events_flow_at_once() -> None:
    """A piece that its sender flushed comes out before the next one arrives."""
    packer = zlib.compressobj(wbits=31)
    unpacker = Unpacker(b"gzip", LIMIT)
    found: list[bytes] = []
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        packed = packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
        found.append(b"".join(unpacker.feed(packed)))

    assert [b"data: 1\n\n", b"data: 2\n\n"] == found


@pytest.mark.parametrize("coding", PACKED)
def test_a_bomb(coding) -> None:
    """However little arrives: no more than the limit is unpacked, in pieces of a bounded size."""
    packed = PACKED[coding](bytes(16 * LIMIT))
    unpacker = Unpacker(coding, LIMIT)
    sizes: list[int] = []
    with pytest.raises(UpstreamBroken, match="larger than 1048576 bytes") as caught:
        sizes.extend(len(piece) for piece in unpacker.feed(packed))

    assert "upstream_answer_too_large" == caught.value.code
    assert sum(sizes) <= LIMIT
    assert LIMIT == len(unpacked(coding, [PACKED[coding](bytes(LIMIT))]))


@pytest.mark.parametrize("coding", [each for each in PACKED if b"," not in each])
@pytest.mark.parametrize("harm", ["cut", "wrong"])
def test_what_is_not_packed_as_it_says(coding, harm) -> None:
    """A cut or garbled answer is told with its coding, and is never taken for a whole one."""
    packed = PACKED[coding](b"hello, hello, is anybody there")
    harmed = packed[:-3] if harm == "cut" else b"\xff\xfe{not packed}"
    with pytest.raises(UpstreamBroken) as caught:
        unpacked(coding, [harmed])

    assert coding.decode() in caught.value.message
    assert "upstream_invalid_response" == caught.value.code


@pytest.mark.parametrize(
    ("coding", "said"),
    [
        (b"compress", "does not know this coding"),
        (b"gzip, rot13", "does not know this coding"),
        (b"gzip, gzip, gzip, gzip", "more codings than"),
    ],
)
def test_codings_that_nobody_knows(coding, said) -> None:
    """The error names the header, so that its sender can be corrected."""
    with pytest.raises(UpstreamBroken, match=said) as caught:
        Unpacker(coding, LIMIT)

    assert f"content-encoding: {coding.decode()}" in caught.value.message


@pytest.mark.parametrize(("coding", "package"), [(b"br", "brotli"), (b"zstd", "zstandard")])
def test_a_package_that_is_missing(monkeypatch, coding, package) -> None:
    """The error says what to install."""
    monkeypatch.setattr(unpacking, "_package", lambda name: None)
    with pytest.raises(UpstreamBroken, match=f"install the package {package}"):
        Unpacker(coding, LIMIT)


def test_nothing_at_all() -> None:
    """An empty body is empty, whatever its head says."""
    assert b"" == unpacked(b"gzip", [])
    assert [False, False, False, True] == [
        is_packed(each) for each in (b"", b"identity", b" Identity ", b"GZIP")
    ]
