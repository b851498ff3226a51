"""What to do when an upstream model refuses a parameter: mend the request, and remember.

No list of names says which model takes what: the upstream says it. The relay remembers only what
was refused: a parameter, or one value of it, of one upstream model; and only after a call mended
this way was answered. A value that one caller made up takes nothing from anybody else. The output
limit is not one of these parameters: `output_limits` has its names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from merino.domain.deployment import Deployment
from merino.domain.errors import UpstreamRefused
from merino.wire.fields import Fields
from merino.wire.request import ModelRequest

REMEMBERED_S = 3600.0
MODELS_MAX = 1000
MENDS_MAX = 200
"""How many are remembered of one upstream model; the oldest are dropped first."""

_OF_NAME = frozenset(("unsupported_parameter", "unknown_parameter"))
_OF_VALUE = "unsupported_value"
REFUSING = frozenset((400, 422))
"""Phrases that say that a parameter is unknown."""

_DISPENSABLE = frozenset(
    (
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "stream_options",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    )
)
"""Parameters an answer can do without. What shapes the answer (`tools`, `response_format`, `n`,
`stop`) is not among them: dropping it would answer another question."""

_UNKNOWN = re.compile(
    r"\b(?:extra|unknown|unrecogni[sz]ed|unexpected|additional|unsupported"
    r"|not (?:supported|permitted|allowed)|does ?n[o']t support)\b|extra_forbidden",
    re.IGNORECASE,
)
_UNNAMED = re.compile(
    r"\b(?:extra|unknown|unrecogni[sz]ed|unexpected|additional|unsupported)[ _](?:\w+[ _])?"
    r"(?:inputs?|fields?|arguments?|parameters?|properties|params?|keys?|keyword|values?)",
    re.IGNORECASE,
)


class Mend(NamedTuple):
    """One change of a request: `name` is left out if its value is `value` (a digest), or whatever
    its value is (`None`). `is_ours`: what the relay added itself is taken back."""

    name: str
    value: bytes | None = None
    is_ours: bool = False


class Parameters:
    """What upstream models refused, by deployment and upstream model."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], dict[Mend, float]] = {}

    @property
    def has_any(self) -> bool:
        """Whether anything was refused that is remembered."""
        return bool(self._refused)

    def counts(self) -> Iterable[tuple[str, int]]:
        """Each deployment and how much is remembered of its models."""
        sums: dict[str, int] = {}
        for (name, _), mends in self._refused.items():
            sums[name] = sums.get(name, 0) + len(mends)
        return sums.items()

    def mend_for(
        self,
        error: UpstreamRefused,
        deployment: Deployment,
        request: ModelRequest,
        mends: tuple[Mend, ...],
        now: float,
        *,
        is_carried: bool = False,
    ) -> tuple[Mend, ...]:
        """How the request can be changed so that this deployment may take it; nothing if it cannot.
        `mends` are the changes made for this attempt so far. `is_carried`: its caller wrote it in
        another dialect, and cannot know which of its parameters this upstream has."""
        done = (*self._remembered(deployment, now), *mends)
        mend = _added_by_us(error, request) or _refused_by_name(error, request)
        found = () if mend is None else (mend,)
        if not found and is_carried:
            found = _refused_in_words(error, request)
        return tuple(each for each in found if each not in done)  # or it did not help

    def remember(self, deployment: Deployment, mends: Iterable[Mend], now: float) -> None:
        """These mended a call: others are mended so before they are sent."""
        if len(self._refused) >= MODELS_MAX:
            self._refused.clear()
        refused = self._refused.setdefault((deployment.name, deployment.upstream_model), {})
        for mend in mends:
            refused.pop(mend, None)
            refused[mend] = now + REMEMBERED_S
            if len(refused) > MENDS_MAX:
                del refused[next(iter(refused))]

    def mended(
        self, request: ModelRequest, deployment: Deployment, mends: tuple[Mend, ...], now: float
    ) -> tuple[Fields, list[str]] | None:
        """The fields to send to this deployment and what to tell its caller was changed; `None` if
        nothing was changed."""
        fields: Fields = request.fields
        told: list[str] = []
        for mend in (*self._remembered(deployment, now), *mends):
            name = mend.name
            if name not in fields or (mend.is_ours and name not in request.added):
                continue
            if mend.value is not None and mend.value != _digest(fields[name]):
                continue
            if fields is request.fields:
                fields = fields.copy()
            if mend.is_ours:
                original = request.added[name]
                if original is None:
                    del fields[name]
                else:
                    fields[name] = original
                if (inside := request.added_members.get(name)) is not None:
                    told.append(f"{name} removed" if inside == name else f"{name}.{inside} removed")
                continue  # otherwise the caller sent none and will not miss it
            del fields[name]
            told.append(f"{name} removed")
        return None if fields is request.fields else (fields, told)

    def _remembered(self, deployment: Deployment, now: float) -> tuple[Mend, ...]:
        refused = self._refused.get((deployment.name, deployment.upstream_model))
        if not refused:
            return ()
        return tuple(mend for mend, until in refused.items() if until > now)


def _refused_by_name(error: UpstreamRefused, request: ModelRequest) -> Mend | None:
    """What the caller sent, refused in OpenAI's words."""
    name = error.param
    if error.status != 400 or name is None or name not in request.fields:
        return None
    if error.code in _OF_NAME and name in _DISPENSABLE:
        return Mend(name)
    if error.code == _OF_VALUE and name in _DISPENSABLE:
        return Mend(name, _digest(request.fields[name]))
    return None


def _refused_in_words(error: UpstreamRefused, request: ModelRequest) -> tuple[Mend, ...]:
    """All that a refusal names, in whatever words, of what an answer can do without."""
    if error.status not in REFUSING:
        return ()
    said = error.body.decode("utf-8", "replace")
    is_unknown = _UNKNOWN.search(said) is not None
    # Of one that it knows, it only refuses this value.
    return tuple(
        Mend(name, None if is_unknown else _digest(request.fields[name]))
        for name in sorted(_DISPENSABLE & request.fields.keys())
        if _is_named(name, said)
    )


def _is_named(name: str, said: str) -> bool:
    """Whether a refusal names a parameter. Some of their names are also words of other sense."""
    word = rf"\b{name}\b"
    if "_" not in name:
        word = rf"(?:['\"`.]|(?:argument|field|parameter|property|supplied)s?\W{{1,4}}){name}\b"
    return re.search(word, said, re.IGNORECASE) is not None


def _added_by_us(error: UpstreamRefused, request: ModelRequest) -> Mend | None:
    if error.status not in REFUSING:
        return None
    inside = request.added_members
    for name, member in inside.items():
        if member.encode() in error.body.lower():
            return Mend(name, is_ours=True)
    ours = [name for name in request.added if name not in inside]
    name = refused_of(error.body, ours, request.fields)
    return None if name is None else Mend(name, is_ours=True)


def refused_of(body: bytes, ours: Collection[str], fields: Collection[str]) -> str | None:
    """Which of `ours` a refusal is about, in whatever words. `ours` are the members that the sender
    of the request added itself. Vendors use a field for the name, a list with a path to it, or a
    sentence; some put these in a text of JSON inside JSON. `fields` are all that were sent."""
    said = body.decode("utf-8", "replace").lower()
    for name in ours:
        if name in said or name.replace("_", " ") in said:
            return name
    if ours and _UNNAMED.search(said) and not _names_any(said, fields):
        # Some field is refused without its name: ours first.
        return next(iter(ours))
    return None


def _names_any(said: str, fields: Collection[str]) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", said) for name in fields)


def _digest(value: msgspec.Raw) -> bytes:
    """A value as it is remembered: sixteen bytes, however long the value is."""
    return blake2b(bytes(value), digest_size=16).digest()
