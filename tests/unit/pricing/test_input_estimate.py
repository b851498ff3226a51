"""What a prompt is held for before anybody has counted it."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.pricing import estimate
from merino.pricing.estimate import estimated, input_tokens_counted, input_tokens_estimate
from merino.pricing.media import CONTEXT_TOKENS_ASSUMED, MediaLimits
from merino.pricing.pictures import PICTURE_TOKENS_MAX, Size, picture_tokens, size_of

BASE64 = "QUJD" * 25_000


class Request:
    """What an estimate reads of a request."""

    n = 1

    def __init__(self, *, ascii_only: bool = False, **fields: object) -> None:
        self.fields = {
            name: msgspec.Raw(
                json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode()
            )
            for name, value in fields.items()
        }


def message(*parts: object, **fields: Any) -> Request:
    return Request(messages=[{"role": "user", "content": list(parts)}], **fields)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3))
def test_escapes_are_the_characters_they_stand_for(texts) -> None:
    """The same prompt counts the same, whether its writer escapes characters (pairs of surrogates
    too) or sends them as they are."""
    messages = [{"role": "user", "content": text} for text in texts]
    plain, escaped = Request(messages=messages), Request(ascii_only=True, messages=messages)
    assert input_tokens_counted(plain) == input_tokens_counted(escaped)
    assert input_tokens_estimate(plain) == input_tokens_estimate(escaped)


def test_spaces_between_tokens_are_not_billed() -> None:
    """What is counted for the bill does not depend on how a writer lays out its JSON."""
    laid_out, compact = Request(messages=[]), Request(messages=[{"role": "user", "content": "hi"}])
    laid_out.fields["messages"] = msgspec.Raw(b'[ {\n "role" : "user",\t"content": "hi" } ]')
    assert input_tokens_counted(compact) == input_tokens_counted(laid_out)


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + BASE64}}, "picture"),
        ({"type": "image_url", "image_url": "data:image/webp;base64," + BASE64}, "picture"),
        ({"type": "image", "image": BASE64}, "picture"),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}, "picture"),
        ({"type": "image_file", "image_file": {"file_id": "file-1"}}, "picture"),
        ({"image": {"format": "png", "source": {"bytes": BASE64}}}, "picture"),
        ({"inlineData": {"mimeType": "image/png", "data": BASE64}}, "picture"),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + BASE64}}, "context"),
        ({"type": "input_video", "video": "gs://bucket/v.mp4"}, "context"),
        ({"type": "audio_url", "audio_url": {"url": "https://x/y.mp3"}}, "context"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64," + BASE64}}, "context"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "context"),
        ({"type": "input_file", "file_id": "file-1"}, "context"),
        ({"type": "document", "source": {"type": "base64", "data": BASE64}}, "context"),
        ({"type": "container_upload", "file_id": "f"}, "context"),
        ({"file_data": {"mime_type": "text/csv", "file_uri": "gs://b/t.csv"}}, "context"),
        ({"type": "point_cloud", "point_cloud": {"data": BASE64}}, "context"),
        ({"type": "point_cloud", "handle": "h"}, "context"),
        ({"type": "tool_result", "content": [{"type": "image_url", "image_url": "https://x"}]}, "picture"),
        ({"type": "text", "text": 'an "image_url": {"url": "https://x"}'}, "text"),
        ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, "text"),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"file": "https://x"}}, "text"),
        ({"type": "document", "source": {"type": "text", "data": "Some words, no more."}}, "text"),
        ({"type": "thinking", "thinking": "Hm.", "signature": BASE64[:300]}, "text"),
    ],
)  # fmt: skip
def test_parts_of_any_vendor_are_held_for_what_they_may_come_to(part, tokens) -> None:
    """A picture is a picture however it is spelled; what has pages, frames or lies elsewhere fills
    the context; text is text. Base64 is never counted by its bytes."""
    held = input_tokens_estimate(message(part))
    if tokens == "context":
        assert CONTEXT_TOKENS_ASSUMED == held
    else:
        most = PICTURE_TOKENS_MAX if tokens == "picture" else 0
        assert most < held < most + 300


def test_sound_is_held_by_its_length() -> None:
    """A second of sound has at most 32 tokens, and at least a kilobyte; a wave eight."""
    clip = {"type": "input_audio", "input_audio": {"data": BASE64, "format": "mp3"}}
    wave = {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}}
    assert 75 * 32 <= input_tokens_estimate(message(clip)) <= 75 * 32 + 200
    assert 9 * 32 <= input_tokens_estimate(message(wave)) <= 10 * 32 + 200


@pytest.mark.parametrize(
    ("fields", "fills"),
    [
        ({"documents": ["doc_1", "doc_2"]}, True),
        ({"documents": [{"id": "1"}]}, True),
        ({"documents": [{"title": "A", "snippet": "Some words of it."}]}, False),
        ({"file_ids": ["file-1"]}, True),
        ({"previous_response_id": "resp_1"}, True),
        ({"previous_response_id": None}, False),
        ({"web_search_options": {}}, True),
        ({"enable_search": True}, True),
        ({"enable_search": False}, False),
        ({"tools": [{"type": "web_search"}]}, True),
        ({"tools": [{"google_search": {}}]}, True),
        ({"tools": [{"type": "function", "function": {"name": "url", "parameters": {}}}]}, False),
        ({"tools": [{"name": "f", "input_schema": {"properties": {"file": {}}}}]}, False),
        ({"extra_body": {"google": {"cached_content": "cachedContents/1"}}}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"provider": {"order": ["x"]}, "trace_id": "t", "top_a": 0.1}, False),
        ({"metadata": {"file_id": "file-1"}, "user": "https://x"}, False),
    ],
)
def test_fields_beside_the_messages_count(fields, fills) -> None:
    """Whatever is beside the messages counts as text, and fills the context where it brings in what
    is not here; what only steers a model costs nothing."""
    held = input_tokens_estimate(Request(messages=[{"role": "user", "content": "hi"}], **fields))
    assert fills == (held == CONTEXT_TOKENS_ASSUMED)
    assert fills or held < 100


def test_a_field_nobody_knows_is_text() -> None:
    """A vendor's own field is read by its model, as far as anybody knows."""
    short, long = (Request(messages=[{}], preamble="word " * count) for count in (10, 1010))
    assert 1800 < input_tokens_estimate(long) - input_tokens_estimate(short) < 2000
    assert 1250 == input_tokens_counted(long) - input_tokens_counted(short)


def test_media_never_exceed_the_context() -> None:
    """However many files there are, a model reads no more than its context; text alone may, while
    the context is not known."""
    files = [{"type": "file", "file": {"file_id": f"file-{number}"}} for number in range(9)]
    known = MediaLimits(context_tokens_max=32_000, is_context_known=True)
    assert 32_000 == estimated(message(*files), known).tokens
    text = Request(messages=[{"role": "user", "content": "word " * 100_000}])
    assert 32_000 == estimated(text, known).tokens
    assert estimated(text).tokens > CONTEXT_TOKENS_ASSUMED


def test_what_a_deployment_says_of_its_files_and_pictures_holds() -> None:
    """An operator who knows better than the worst case is believed."""
    limits = MediaLimits(models=(), picture_tokens_max=300, file_tokens_max=5000)
    picture = {"type": "image_url", "image_url": {"url": "https://x"}}
    file = {"type": "file", "file": {"file_id": "file-1"}}
    assert 5600 <= estimated(message(picture, picture, file), limits).tokens <= 5700


@pytest.mark.parametrize(
    "raw",
    [
        b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x"}},"\\ud800"]}]',
        b'[{"role":"user","c\\u006fntent":[{"\\u0074ype":"image_url","image_url":{"url":"https://x"}}]}]',
    ],
)
def test_nothing_hides_a_picture(raw) -> None:
    """Escaped names and halves of surrogate pairs keep no part from being seen."""
    request = Request()
    request.fields = {"messages": msgspec.Raw(raw)}
    assert PICTURE_TOKENS_MAX < input_tokens_estimate(request)


def test_a_reference_is_not_billed_for_what_is_held() -> None:
    """Where no usage ever came, the bill is what is usual, not the worst."""
    file = {"type": "file", "file": {"file_id": "file-1"}}
    assert input_tokens_counted(message(file)) < 50
    picture = {"type": "image_url", "image_url": {"url": "https://x"}}
    assert 1600 <= input_tokens_counted(message(picture)) < 1650


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(BASE64[:2000]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "image_url", "content", "file", "source", "data", "url", "x"]),
        inner, max_size=3),
))  # fmt: skip
def test_any_shape_is_measured(value) -> None:
    """No shape is an exception, and what is billed is never more than what is held."""
    for request in (Request(messages=[value]), Request(messages=value), Request(own=value)):
        assert 0 <= input_tokens_counted(request) <= input_tokens_estimate(request)


# -- pictures -------------------------------------------------------------------------------------

sides = st.integers(1, 16_383)


@given(sides, sides, st.sampled_from(["png", "gif", "jpeg", "vp8", "vp8l", "vp8x"]))
def test_sizes_are_read_of_the_first_bytes(width, height, kind) -> None:
    """Width and height are known of PNG, GIF, JPEG (behind its metadata) and the three of WebP."""
    thumbnail = b"\xff\xd8\xff\xc0" + bytes(15)
    data = {
        "png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height),
        "gif": b"GIF89a" + struct.pack("<HH", width, height),
        "jpeg": b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
        + b"\xff\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width),
        "vp8": b"RIFF0000WEBPVP8 0000" + bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height),
        "vp8l": b"RIFF0000WEBPVP8L0000\x2f"
        + struct.pack("<I", (width - 1) | (height - 1) << 14),
        "vp8x": b"RIFF0000WEBPVP8X0000" + bytes(4)
        + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
    }[kind]  # fmt: skip
    assert Size(width, height) == size_of(base64.b64encode(data + bytes(40)).decode())


@given(st.binary(max_size=64))
def test_other_bytes_have_no_size(junk) -> None:
    """What is no picture, or is cut off, has no size and raises nothing."""
    for head in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBP"):
        size_of(base64.b64encode(head + junk).decode())
        size_of((head + junk).decode("latin-1"))
    assert size_of("AAAA") is None


def test_a_size_that_cannot_be_is_not_believed() -> None:
    """A megabyte of one pixel is worth the dearest picture."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 1, 1)
    assert size_of(base64.b64encode(head + bytes(10**6)).decode()) is None


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        ("gpt-4o-mini", Size(1024, 1024), "high", 25_501),
        ("gpt-4o-mini", Size(4096, 8192), "low", 2_833),
        ("gpt-4o", Size(1024, 1024), "", 765),
        ("openai/gpt-4o", Size(2048, 4096), "high", 1_105),
        ("gpt-4.1-mini", Size(1024, 1024), "low", 1_663),
        ("claude-sonnet-4-5", Size(1092, 1092), "low", 1_685),
        ("my-own", Size(1024, 1024), "low", 25_501),
        ("my-own", None, "low", 48_169),
    ],
)
def test_families_bill_pictures_as_documented(model, size, detail, tokens) -> None:
    """OpenAI's own examples; `detail` counts only where its model reads it."""
    assert tokens == picture_tokens(model, size, detail)


@given(sides, sides)
def test_no_known_family_is_dearer_than_the_unknown(width, height) -> None:
    """A model that nobody described is held for the dearest."""
    size = Size(width, height)
    unknown = picture_tokens("my-own", size)
    for model in ("gpt-4o-mini", "gpt-4o", "gpt-4.1-nano", "o4-mini", "claude-opus-4-1"):
        assert picture_tokens(model, size) <= unknown


texts_or_not = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.integers(),
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["text", "refusal", "image_url"])},
            optional={
                "text": st.none() | st.text("a[{\\", max_size=5) | st.integers(),
                "id": st.just("x"),
            },
        ),
        max_size=3,
    ),
    st.just({"text": "a"}),
)


@given(
    st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": texts_or_not}), max_size=4),
    st.booleans(),
)
def test_large_bodies_are_measured_as_small_ones(messages, is_ascii) -> None:
    """Texts that are too long to be made count as they would if they were."""
    request = Request(ascii_only=is_ascii, messages=messages)
    small = estimated(request)
    with patch.object(estimate, "LARGE_BYTES", 0):
        assert small == estimated(request)
