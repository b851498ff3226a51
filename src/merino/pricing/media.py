"""What a request has beside text: pictures, sound, video, documents, and references to things that
lie elsewhere.

Vendors name these parts in many ways, so they are known by words in the names of their members and
types, and by what their strings look like. Bytes of base64 are never text. What something may come
to at most is held; what it usually comes to is billed where nobody says what it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from merino.pricing.pictures import PICTURE_TOKENS_USUAL, Size, picture_tokens, size_of

Kind = Literal["picture", "audio", "video", "document", "unknown"]

CONTEXT_TOKENS_ASSUMED = 128_000
"""What a model is taken to read at most if nobody says."""

AUDIO_TOKENS_PER_S_MAX = 32
"""Gemini's; OpenAI counts ten a second."""

AUDIO_BYTES_PER_S_MIN = 1000
"""Compressed speech at 8 kbit/s, the leanest an mp3 has."""

WAVE_BYTES_PER_S_MIN = 8000
"""Uncompressed speech: 8,000 samples a second of one byte."""

AUDIO_BYTES_PER_TOKEN_USUAL = 200
TEXT_BYTES_PER_TOKEN_USUAL = 4
PAGE_BYTES_PER_TOKEN_USUAL = 50
VIDEO_BYTES_PER_TOKEN_USUAL = 1000


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What parts that are no text may come to at the deployments that a call may go to.

    A picture has what it may have with the dearest of `models`, or `picture_tokens_max` if that is
    more. A document, a video, and
    what is only referred to, fill the context (`context_tokens_max`), unless `file_tokens_max` says
    how much each of them may have; 0 is unknown. `is_context_known`: more than the context cannot
    come to be billed.
    """

    models: tuple[str, ...] = ("",)
    picture_tokens_max: int = 0
    file_tokens_max: int = 0
    context_tokens_max: int = CONTEXT_TOKENS_ASSUMED
    is_context_known: bool = False

    def of_picture(self, size: Size | None, detail: str) -> int:
        tokens = self.picture_tokens_max
        for model in self.models:
            tokens = max(tokens, picture_tokens(model, size, detail))
        return tokens

    @property
    def of_file(self) -> int:
        return self.file_tokens_max or self.context_tokens_max


@dataclass(slots=True)
class Measured:
    """What a field has: bytes of text (as JSON without escapes and spaces), and tokens of what is
    no text, at most and usually. `items`: how many it lists."""

    text_bytes: int = 0
    tokens_max: int = 0
    tokens_usual: int = 0
    items: int = 0


_WORDS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"image|picture|photo|screenshot", re.IGNORECASE), "picture"),
    (re.compile(r"video", re.IGNORECASE), "video"),
    (re.compile(r"audio|sound|voice|speech", re.IGNORECASE), "audio"),
    (re.compile(r"file|document|pdf|attachment|container|doc_", re.IGNORECASE), "document"),
)
_TEXT_TYPES = frozenset(
    (
        "text", "input_text", "output_text", "refusal", "thinking", "redacted_thinking",
        "reasoning", "summary_text", "tool_use", "tool_call", "tool-call", "tool_result",
        "tool-result", "function", "json",
    )
)  # fmt: skip
_OPAQUE = frozenset(
    (
        "arguments", "parameters", "input_schema", "schema", "json", "name", "role", "text",
        "type", "title", "filename", "file_name", "media_type", "mime_type", "mimeType", "format",
        "detail", "tool_calls", "function_call", "tool_call_id", "tool_use_id", "reasoning",
        "reasoning_content", "thinking", "signature", "refusal", "cache_control", "citations",
    )
)  # fmt: skip
"""Members whose values are text or of no weight, whatever they are called: not looked into."""
_REFERENCE = re.compile(
    r"(?:^|_)(?:id|ids|url|urls|uri|uris|ref|handle|key|path|file|files)$|(?:Id|Uri|Url)s?$"
)
_ADDRESS = re.compile(r"(?:https?|gs|s3|file|ftp|blob|gridfs):/", re.IGNORECASE)
_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")
_LOOKED_INTO: frozenset[type] = frozenset((str, dict, list))
_BASE64_CHARS_SEEN = 256
_BASE64_CHARS_MIN = 1024
"""Of something of which nothing else says that it is no text."""


def measured(raw: msgspec.Raw | bytes, limits: MediaLimits, *, as_parts: bool) -> Measured:
    """What a field has. `as_parts`: it is messages or content; else what a vendor's own field
    refers to counts, and the rest is text."""
    found = Measured()
    try:
        value = _decoded(raw)
        # In a list: what is replaced needs somewhere to be.
        holder = [value]
        _Look(found, limits).into(holder, None, "", is_part=as_parts, referred=not as_parts)
        found.text_bytes += _json_bytes(holder) - 2
        found.items = len(cast("list[Any]", value)) if isinstance(value, list) else 1
    except (ValueError, RecursionError):
        # Nothing that could be read: all of it is text, and nobody knows what else.
        found = Measured(len(raw), limits.of_file, 0)
    return found


def json_bytes(raw: msgspec.Raw | bytes) -> int:
    """Size of a field as JSON in UTF-8, whichever writer wrote it: without spaces and `\\uXXXX`."""
    try:
        return _json_bytes(_decoded(raw))
    except (ValueError, RecursionError):
        return len(raw)


def _decoded(raw: msgspec.Raw | bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        # Half a surrogate pair: other readers take it.
        return json.loads(bytes(raw).decode("utf-8", "surrogatepass"))


def _json_bytes(value: object) -> int:
    try:
        return len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return len(written.encode("utf-8", "surrogatepass"))


class _Look:
    """Goes through a decoded value, counts what is no text, and takes base64 out of it."""

    def __init__(self, found: Measured, limits: MediaLimits) -> None:
        self._found = found
        self._limits = limits
        self._seen = 0

    def into(
        self,
        holder: dict[str, Any] | list[Any],
        kind: Kind | None,
        detail: str,
        *,
        is_part: bool = False,
        referred: bool = False,
    ) -> None:
        """`kind` is that of the part in which `holder` lies; `is_part`: its members may be content
        parts; `referred`: an id or address in it brings something along though it is in no part."""
        if isinstance(holder, dict):
            own = holder.get("detail")
            detail = own if isinstance(own, str) else detail
        pairs = list(holder.items()) if isinstance(holder, dict) else _looked_into(holder)
        for name, value in pairs:
            label = name if isinstance(name, str) else ""
            if label in _OPAQUE or (label == "input" and kind is None):
                continue
            its = (_kind_named(label) if label else None) or kind
            if its == "document" and kind is not None and kind != "unknown":
                its = kind  # the file of a picture
            if isinstance(value, str):
                if not (label == "content" and kind is None):
                    self._string(cast("Any", holder), name, its, detail, referred=referred)
            elif isinstance(value, dict):
                self._dict(cast("dict[str, Any]", value), its, kind, detail, is_part, referred)
            elif isinstance(value, list):
                inner = cast("list[Any]", value)
                parts = is_part or label in {"content", "parts", "input", "messages"}
                before = self._seen
                self.into(inner, its, detail, is_part=parts, referred=referred)
                if its not in {None, kind, "unknown"} and inner and self._seen == before:
                    self._reference(its, detail)

    def _dict(
        self,
        value: dict[str, Any],
        kind: Kind | None,
        outer: Kind | None,
        detail: str,
        is_part: bool,
        referred: bool,
    ) -> None:
        its = kind
        typed = value.get("type")
        if isinstance(typed, str) and typed not in _TEXT_TYPES:
            its = _kind_named(typed) or its
            if its is None and is_part and "role" not in value:
                its = "unknown"
        if its is None or its == "unknown":
            its = _kind_of_type(_media_type(value)) or its
        before = self._seen
        if its == "document" and typed in ("text", "content"):
            self._seen += 1  # it is here, word for word
        self.into(value, its, detail, is_part="role" in value or is_part, referred=referred)
        if its is None or its == outer or self._seen != before:
            return
        if its != "unknown" or not any(name in value for name in ("text", "content")):
            self._reference(its, detail)

    def _string(
        self, holder: Any, name: str | int, kind: Kind | None, detail: str, *, referred: bool
    ) -> None:
        text: str = holder[name]
        label = name if isinstance(name, str) else ""
        # Almost all strings are short words of no weight.
        data = _DATA_URL.match(text[:512]) if text[:5] == "data:" else None
        if data is not None:
            if ";base64" in data[2].lower():
                holder[name] = ""
                self._inline(_kind_of_type(data[1]) or kind, data[1], text[data.end() :], detail)
            elif kind is not None and _kind_of_type(data[1]) is not None:
                holder[name] = ""
                self._inline(_kind_of_type(data[1]), data[1], text[data.end() :], detail)
            return
        if kind is not None and _BASE64.fullmatch(text, 0, _BASE64_CHARS_SEEN):
            if len(text) > _BASE64_CHARS_SEEN or label in {"data", "bytes", "b64_json"}:
                holder[name] = ""
                declared = str(holder.get("format", "")) if label else ""
                self._inline(kind, declared, text, detail)
                return
        if kind is None and _BASE64.fullmatch(text, 0, _BASE64_CHARS_MIN):
            if len(text) >= _BASE64_CHARS_MIN:
                holder[name] = ""  # words are not as long
                self._inline("unknown", "", text, detail)
                return
        is_address = _ADDRESS.match(text) is not None
        if kind is not None:
            if is_address or (text and (not label or _is_reference(label))):
                self._reference(kind, detail)
        elif referred and text:
            if is_address or label in _IDS or label in _BRINGING or _MENTIONS.search(label):
                self._reference("unknown", detail)

    def _inline(self, kind: Kind | None, declared: str, encoded: str, detail: str) -> None:
        """Something in base64. `declared` is its media type or format, if it has one."""
        self._seen += 1
        found, limits = self._found, self._limits
        size_bytes = len(encoded) * 3 // 4
        if kind == "picture":
            size = size_of(encoded)
            tokens = limits.of_picture(size, detail)
            found.tokens_max += tokens
            found.tokens_usual += min(tokens, PICTURE_TOKENS_USUAL)
        elif kind == "audio":
            is_wave = "wav" in declared.lower() or encoded[:4] == "UklG"
            per_s = WAVE_BYTES_PER_S_MIN if is_wave else AUDIO_BYTES_PER_S_MIN
            found.tokens_max += (
                size_bytes * AUDIO_TOKENS_PER_S_MAX // per_s + AUDIO_TOKENS_PER_S_MAX
            )
            found.tokens_usual += size_bytes // AUDIO_BYTES_PER_TOKEN_USUAL + 1
        elif declared.startswith("text/"):
            found.tokens_max += size_bytes
            found.tokens_usual += size_bytes // TEXT_BYTES_PER_TOKEN_USUAL + 1
        else:
            # Pages and frames need next to no bytes: nothing can be said by the size.
            per_token = (
                VIDEO_BYTES_PER_TOKEN_USUAL if kind == "video" else PAGE_BYTES_PER_TOKEN_USUAL
            )
            usual = size_bytes // per_token + 1
            found.tokens_max += limits.of_file
            found.tokens_usual += min(usual, limits.of_file)

    def _reference(self, kind: Kind | None, detail: str) -> None:
        """Something that lies elsewhere, of a size that nobody knows."""
        self._seen += 1
        if kind == "picture":
            tokens = self._limits.of_picture(None, detail)
            self._found.tokens_max += tokens
            self._found.tokens_usual += min(tokens, PICTURE_TOKENS_USUAL)
        else:
            self._found.tokens_max += self._limits.of_file


def _looked_into(values: list[Any]) -> list[tuple[int, Any]]:
    """Those of a list that are more than a number: there may be millions of numbers."""
    if _LOOKED_INTO.isdisjoint(map(type, values)):
        return []
    return [(index, value) for index, value in enumerate(values) if type(value) in _LOOKED_INTO]


def _kind_named(name: str) -> Kind | None:
    return next((kind for word, kind in _WORDS if word.search(name)), None)


def _kind_of_type(media_type: str) -> Kind | None:
    kinds: dict[str, Kind] = {"image": "picture", "audio": "audio", "video": "video"}
    if not media_type:
        return None
    return kinds.get(media_type.partition("/")[0].lower(), "document")


def _media_type(part: dict[str, Any]) -> str:
    for name in ("mime_type", "media_type", "mimeType", "mediaType"):
        if isinstance(said := part.get(name), str):
            return said
    return ""


def _is_reference(label: str) -> bool:
    return _REFERENCE.search(label) is not None or _kind_named(label) is not None


# -- fields beside the messages -------------------------------------------------------------------

_BRINGING = frozenset(
    (
        "cached_content", "cachedContent", "context", "conversation", "data_sources", "documents",
        "enable_search", "files", "knowledge", "plugins", "previous_response_id", "search",
        "search_parameters", "web_search", "web_search_options",
    )
)  # fmt: skip
"""Fields of vendors by which a model gets more to read than the request has."""
_MENTIONS = re.compile(
    r"(?:^|_)(?:file|document|doc|image|video|audio|attachment|asset|vector_store|response|"
    r"conversation|thread|knowledge|knowledge_base|dataset|collection|cache|cached_content|prompt|"
    r"context|memory|index|source)s?_?(?:id|ids|url|urls|uri|uris|name|names|ref|refs)$"
)
_IDS = frozenset(("id", "ids", "url", "urls", "uri", "uris"))
_NOTHING = frozenset((b"null", b"false", b"[]", b"{}", b'""', b"0"))


def beside(name: str, raw: msgspec.Raw, limits: MediaLimits) -> Measured:
    """What a field brings along that the relay does not know."""
    text = bytes(raw)
    if text in _NOTHING and not (name in _BRINGING and text == b"{}"):
        return Measured()
    first = text[:1]
    if first not in b'"[{':
        brings = name in _BRINGING and text == b"true"
        return Measured(0, limits.of_file if brings else 0, 0)
    found = measured(raw, limits, as_parts=False)
    # Documents that are there word for word are text; without a space they are names of some.
    is_said = name in {"documents", "context"} and (b" " in text or b"\\" in text)
    if not found.tokens_max and (_MENTIONS.search(name) or (name in _BRINGING and not is_said)):
        found.tokens_max = limits.of_file
    return found


class _FunctionTool(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A tool that the caller runs: its definition is all that a model reads of it."""

    type: Literal["function", "custom"] = "function"
    function: msgspec.Raw = msgspec.Raw()
    custom: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()
    description: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()
    input_schema: msgspec.Raw = msgspec.Raw()
    strict: msgspec.Raw = msgspec.Raw()
    cache_control: msgspec.Raw = msgspec.Raw()


_decode_tools: Callable[[msgspec.Raw], object] = msgspec.json.Decoder(
    list[_FunctionTool] | None
).decode


def are_functions(tools: msgspec.Raw) -> bool:
    """Whether all tools are the caller's. Others (a search, a file store) run at the vendor, and
    what they find is input too."""
    try:
        _decode_tools(tools)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
