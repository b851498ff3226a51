"""What an upstream's refusal is about: this call, or the deployment? Pure, and decided only here.

Statuses are not enough. A provider sends 403 for a prompt it does not like and for a key it does
not know; 402 for one call and for an empty account; 429 for a busy minute, for a call that no
minute has room for, and for an unpaid bill. Only evidence against the deployment may keep other
calls from it, so an unclear refusal counts as the call's own (`denied`).

Words that the caller may have written are no evidence. Many refusals quote what they refuse, and a
caller could shut everybody's deployment by quoting the right words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from merino.domain.errors import Verdict
from merino.gateway.vendor_words import (
    BUSY,
    CREDENTIAL,
    CREDENTIAL_NAMES,
    CREDENTIAL_PLAINLY,
    CREDIT,
    CREDIT_GONE,
    CREDIT_NAMES,
    CREDIT_PLAINLY,
    GONE,
    GONE_NAMES,
    PROMPT,
    PROMPT_NAMES,
    STATUS_OF_NAME,
    SUSPENDED,
    THROTTLED_NAMES,
    TOO_DEAR,
    TOO_LARGE,
    USED,
)
from merino.wire.errors import ErrorParts, parse_error, read_error
from merino.wire.lenient import decode_lenient
from merino.wire.retry_after import parse_duration, parse_rate_limit_reset, parse_retry_after

HeaderPairs = Iterable[tuple[bytes, bytes]]

_WORDS_LENGTH_MAX = 20_000
_SENT_BYTES_MAX = 256 * 1024
"""A longer request is not searched for the words of its refusal; then these prove nothing."""


_OBJECT_ID = re.compile(
    r"\b(?:(?:resp|conv|msg|item|rs|fc|ctc|call|vs|cntr|pmpt|batch)_|file[-_])[A-Za-z0-9_-]{4,120}"
)
"""What of a provider's callers name by an id: models have other names."""
_PASSING = frozenset((408, 409, 421, 423, 424, 425, 449, 498, 499))
"""Statuses of a server that failed, or is too busy, through no fault of the call: 424 for a model
that broke down (TGI, Bedrock), 498 for full capacity (Groq), 499 from a gateway whose own caller
left."""


class Sent(NamedTuple):
    """What was sent: the body, and the estimated LLM tokens of its input."""

    body: bytes = b""
    input_tokens: int = 0


class Refusal(NamedTuple):
    """What an upstream said, and what that is taken to be about."""

    verdict: Verdict
    status: int
    message: str
    error_type: str | None = None
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None


def judge(status: int, headers: HeaderPairs, body: bytes, sent: Sent) -> Refusal:
    """What an answer with an error status (400 to 599) is about."""
    value, parts = _read(body)
    words = _words_of(body if value is None else value)
    found = dict(headers)
    wait_s = parse_retry_after(found.get(b"retry-after-ms"), found.get(b"retry-after"))
    if wait_s is None:
        wait_s = _told_delay_s(value, parts)
    return _refusal(_Said(status, parts, words, found, wait_s, sent))


def judge_answer(error: object, sent: Sent) -> Refusal | None:
    """What an error that came with status 200, whole or as an event of a stream, is about; `None`
    if it does not say what status it should have had. `error` is the decoded object."""
    if not isinstance(error, dict):
        return None
    members = cast("dict[str, Any]", error)
    parts = read_error(members) or _base_response(members)
    status = None if parts is None else _status_told(parts, members)
    if status is None:
        return None
    words = _words_of(members)
    return _refusal(_Said(status, parts, words, {}, _told_delay_s(members, parts), sent))


class _Said(NamedTuple):
    status: int
    parts: ErrorParts | None
    words: str
    """Every text of the body, in small letters and without punctuation."""
    headers: dict[bytes, bytes]
    wait_s: float | None
    sent: Sent

    @property
    def names(self) -> set[str]:
        """`code` and `type` as words: what vendors write for programs."""
        if self.parts is None:
            return set()
        _, kind, _, code = self.parts
        return {_normal(name) for name in (kind, code) if name}


def _refusal(said: _Said) -> Refusal:
    verdict = _verdict(said)
    wait_s = said.wait_s
    if wait_s is None and verdict == "throttled":
        wait_s = reset_s_of(said.headers)
    if verdict == "too_large":
        wait_s = None
    message, kind, param, code = said.parts or (
        f"The upstream answered {said.status}.",
        None,
        None,
        None,
    )
    return Refusal(verdict, said.status, message, kind, param, code, wait_s)


def _verdict(said: _Said) -> Verdict:
    status = said.status
    if status in _BY_STATUS:
        return _BY_STATUS[status](said)
    if status >= 500:
        return "failed"
    return "again" if status in _PASSING else _odd(said)


def _odd(said: _Said) -> Verdict:
    """Any other 4xx: the call's own, unless the account is clearly meant, as by the 412 for a
    suspended one (Fireworks)."""
    if said.names & CREDIT_NAMES or _says(CREDIT_PLAINLY, said):
        return "credit"
    is_ours = said.names & CREDENTIAL_NAMES or _says(CREDENTIAL_PLAINLY, said)
    return "credential" if is_ours or _says(SUSPENDED, said) else "call"


def _bad_request(said: _Said) -> Verdict:
    """400, 422: nearly always the call; some vendors use them for the key, the bill or the
    model."""
    names = said.names
    if names & PROMPT_NAMES:
        return "prompt"
    if names & CREDENTIAL_NAMES:
        return "credential"
    if names & CREDIT_NAMES:
        return "credit"
    if names & GONE_NAMES:
        return "gone"
    if names & THROTTLED_NAMES:
        return "throttled"
    if _says(CREDENTIAL_PLAINLY, said):
        return "credential"
    if _says(CREDIT_PLAINLY, said):
        return "credit"
    return "gone" if _says(GONE, said) else "call"


def _unauthorized(said: _Said) -> Verdict:
    """401 is about the caller of the upstream, and that is the relay."""
    is_credit = said.names & CREDIT_NAMES or _says(CREDIT_PLAINLY, said)
    return "credit" if is_credit else "credential"


def _payment_required(said: _Said) -> Verdict:
    """402: one call is too expensive for what is left, or nothing is left."""
    if TOO_DEAR.search(said.words):
        return "too_dear"
    if said.names & CREDIT_NAMES or _says(CREDIT, said):
        return "credit"
    return "denied"


def _forbidden(said: _Said) -> Verdict:
    """403: a prompt, the key, the bill, the country, or an unstated reason."""
    names = said.names
    if _says(SUSPENDED, said):
        return "credential"  # also if it is for what earlier prompts said
    # Before the codes, as xAI uses one for both: `permission-denied` also means a prompt.
    if names & PROMPT_NAMES or PROMPT.search(said.words):
        return "prompt"
    if names & GONE_NAMES:
        return "gone"
    if names & CREDIT_NAMES or _says(CREDIT, said):
        return "credit"
    if names & CREDENTIAL_NAMES or _says(CREDENTIAL, said):
        return "credential"
    return "too_large" if TOO_LARGE.search(said.words) else "denied"


def _not_found(said: _Said) -> Verdict:
    """404, 405, 410: the caller named an alias; the relay chose its path and model. But the caller
    named an object (a file, an earlier answer, an item of it) themselves."""
    param = None if said.parts is None else said.parts[2]
    if param and param != "model":
        return "call"
    if said.parts is None or len(said.sent.body) > _SENT_BYTES_MAX:
        return "gone"
    named = _OBJECT_ID.findall(said.parts[0])
    return "call" if any(each.encode() in said.sent.body for each in named) else "gone"


def _too_much(said: _Said) -> Verdict:
    """429: the account's minute is full, its bill is unpaid, or no minute has room for this one."""
    names = said.names
    if said.wait_s is None:
        # With a time to wait, some vendors call a full minute `insufficient_quota`.
        is_credit = names & CREDIT_NAMES
        if not is_credit:
            # Google mentions plan and billing for every full minute.
            is_minute = "resource exhausted" in names
            is_credit = _says(CREDIT_GONE if is_minute else CREDIT_PLAINLY, said)
        if is_credit:
            return "credit"
        if _is_too_large(said):
            return "too_large"
    return "throttled"


def _is_too_large(said: _Said) -> bool:
    """Whether no waiting makes room for this call: it is larger than a whole minute's limit."""
    words = said.words
    if TOO_LARGE.search(words):
        return True
    if BUSY.search(words):
        return False
    headers = said.headers
    limit = _number(headers.get(b"x-ratelimit-limit-tokens"))
    if limit is not None and said.sent.input_tokens > limit:
        return True
    left = [
        (name, _number(value))
        for name, value in headers.items()
        if name.startswith(b"x-ratelimit-remaining-")
    ]
    if any(number == 0 for _, number in left):
        return False
    if "tokens" in said.names:
        return not USED.search(words)
    return any(number is not None for _, number in left) and all(
        number is None or b"token" not in name or number >= max(1, said.sent.input_tokens)
        for name, number in left
    )


def _too_large(said: _Said) -> Verdict:
    """413: from a gateway, too many bytes; from Groq, more LLM tokens than its tier grants us."""
    is_ours = "tokens" in said.names or "rate limit exceeded" in said.names
    return "too_large" if is_ours else "call"


def _unlawful(_: _Said) -> Verdict:
    return "prompt"


_BY_STATUS: dict[int, Callable[[_Said], Verdict]] = {
    400: _bad_request,
    401: _unauthorized,
    402: _payment_required,
    403: _forbidden,
    404: _not_found,
    405: _not_found,
    410: _not_found,
    413: _too_large,
    422: _bad_request,
    429: _too_much,
    451: _unlawful,
}


_MINIMAX = {
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 451,
    1027: 451,
    1039: 429,
    2013: 400,
    2049: 401,
}


def _base_response(error: dict[str, Any]) -> ErrorParts | None:
    """MiniMax's form of an error, always with status 200."""
    inner: object = error.get("base_resp")
    if not isinstance(inner, dict):
        return None
    said = cast("dict[str, object]", inner)
    return (str(said.get("status_msg")), "upstream_error", None, str(said.get("status_code")))


def _status_told(parts: ErrorParts, error: dict[str, Any]) -> int | None:
    """The status that an error object states: as its code, or under a name that vendors use for
    one."""
    _, kind, _, code = parts
    if "base_resp" in error:
        return _MINIMAX.get(int(code)) if code and code.isdigit() and len(code) < 6 else None
    told: list[object] = [code]
    inner: object = error.get("error")
    if isinstance(inner, dict):
        members = cast("dict[str, object]", inner)
        told += [members.get("status"), members.get("status_code")]
    told += [error.get("status"), error.get("status_code"), error.get("code")]
    for each in told:
        digits = str(each)
        if digits.isascii() and digits.isdigit() and len(digits) == 3 and 400 <= int(digits) < 600:
            return int(digits)
    for name in (code, kind):
        normal = _normal(name or "")
        for status, pattern in STATUS_OF_NAME:
            if pattern.search(normal):
                return status
    return None


# -- reading -------------------------------------------------------------------------------------

_BREAK = " | "
"""Between the texts of a body, so that no phrase is read across two of them."""


def _read(body: bytes) -> tuple[object, ErrorParts | None]:
    try:
        value = decode_lenient(body)
    except ValueError:
        return None, None
    return value, parse_error(body)


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def _words_of(value: object) -> str:
    """Every text in it, including names of members: `flagged_input` says as much as a sentence."""
    if isinstance(value, bytes):
        return _normal(value[:_WORDS_LENGTH_MAX].decode("utf-8", "replace"))
    texts: list[str] = []
    _gather(value, texts)
    return _BREAK.join(map(_normal, texts))[:_WORDS_LENGTH_MAX]


def _gather(value: object, texts: list[str]) -> None:
    # Without recursion: the upstream decides how deep it is nested.
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, dict):
            members = cast("dict[str, object]", each)
            texts += members
            waiting += members.values()
        elif isinstance(each, list):
            waiting += cast("list[object]", each)


def _says(pattern: re.Pattern[str], said: _Said) -> bool:
    """Whether the upstream says it, and does not only quote what it was sent."""
    found = {match.group() for match in pattern.finditer(said.words)}
    if not found:
        return False
    body = said.sent.body
    if len(body) > _SENT_BYTES_MAX:
        return False
    texts: list[str] = []
    try:
        _gather(decode_lenient(body) if body else {}, texts)
    except ValueError:
        texts = [body.decode("utf-8", "replace")]
    sent = _BREAK.join(map(_normal, texts))
    return any(phrase not in sent for phrase in found)


_TRY_AGAIN = re.compile(
    r"(?:try again|retry|wait)(?: after| in| for)? (\d+(?:\.\d+)?\s?[a-z]{0,12}(?:\d[\d.a-z]*)?)",
    re.IGNORECASE,
)


def _told_delay_s(value: object, parts: ErrorParts | None) -> float | None:
    """How long to wait, according to the body: Google's `retryDelay`, or a sentence."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            members = cast("dict[str, object]", each)
            for name in ("retryDelay", "retry_after", "retryAfter", "retry_after_seconds"):
                seconds = _seconds(members.get(name))
                if seconds is not None:
                    return seconds
            waiting += members.values()
        elif isinstance(each, list):
            waiting += cast("list[object]", each)
    found = None if parts is None else _TRY_AGAIN.search(parts[0])
    return None if found is None else parse_duration(found.group(1))


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9:
        return float(value)
    return None


def _number(value: bytes | None) -> int | None:
    try:
        return None if value is None else int(float(value))
    except (ValueError, OverflowError):
        return None


def reset_s_of(headers: dict[bytes, bytes]) -> float | None:
    """When an upstream that reports nothing left will have something again."""
    found: float | None = None
    for name, value in headers.items():
        if value == b"0" and name.startswith(b"x-ratelimit-remaining-"):
            reset_s = parse_rate_limit_reset(headers.get(name.replace(b"remaining", b"reset")))
            if reset_s is not None:
                found = max(found or 0.0, reset_s)
    return found
