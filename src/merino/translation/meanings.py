"""What the settings of a call mean, under one name each, and what becomes of one that the
upstream's family has no field for.

`refuse`: the answer would be another one than was asked for. `tell`: it is left out, and the caller
is told. `ignore`: it has no effect there, or the answer itself says what holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from merino.domain.errors import CannotTranslate
from merino.translation.asked import Asked, Call, Message, Result

Otherwise = Literal["refuse", "tell", "ignore"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """`harmless` are values that ask for nothing: those are left out without a word."""

    otherwise: Otherwise
    why: str
    harmless: tuple[bytes, ...] = ()


_NOTHING = (b"null", b"[]", b"{}", b'""')
_OFF = (b"false",)
_KEPT = " (the relay does if its operator sets responses.store)"

MEANINGS = {
    "output_tokens_max": Meaning("refuse", "the answer would have no limit"),
    "temperature": Meaning("tell", "the model samples as it does by default"),
    "top_p": Meaning("tell", "the model samples as it does by default"),
    "logprobs": Meaning("refuse", "there are no log probabilities", _OFF),
    "top_logprobs": Meaning("refuse", "there are no log probabilities", (b"0",)),
    "frequency_penalty": Meaning("tell", "there are no penalties", (b"0", b"0.0")),
    "presence_penalty": Meaning("tell", "there are no penalties", (b"0", b"0.0")),
    "logit_bias": Meaning("tell", "single tokens cannot be weighted"),
    "seed": Meaning("tell", "answers cannot be repeated"),
    "stop": Meaning("refuse", "the answer would not stop there"),
    "n": Meaning("refuse", "there is one answer a call", (b"1",)),
    "prediction": Meaning("tell", "only speed would differ"),
    "effort": Meaning("tell", "the model thinks as much as it does by default"),
    "summary": Meaning("ignore", "thinking that can be read is passed on anyway"),
    "thinking_context": Meaning("tell", "earlier thinking is the caller's to send", (b'"auto"',)),
    "thinking_mode": Meaning("refuse", "another mode is another price", (b'"standard"',)),
    "verbosity": Meaning("tell", "the model is as verbose as by default"),
    "parallel_tool_calls": Meaning("tell", "the model decides how many it calls", (b"true",)),
    "hosted_calls_max": Meaning("ignore", "there are no tools that the upstream runs"),
    "metadata": Meaning("tell", "the upstream keeps nothing"),
    "client_metadata": Meaning("tell", "what a program says of itself is for its own vendor"),
    "user": Meaning("tell", "the upstream does not tell end users apart"),
    "safety_identifier": Meaning("tell", "the upstream does not tell end users apart"),
    "service_tier": Meaning("refuse", "another tier is another price", (b'"auto"', b'"default"')),
    "cache_key": Meaning("tell", "caches are found by the prompt alone"),
    "cache_options": Meaning("tell", "the upstream caches as it does by default"),
    "cache_retention": Meaning("tell", "the upstream keeps its cache as it does by default"),
    "moderation": Meaning("refuse", "nothing would be moderated"),
    "store": Meaning("ignore", "the answer says whether it is kept"),
    "extras": Meaning("tell", "there is nothing of this kind to include"),
    "obfuscation": Meaning("tell", "events are not padded", _OFF),
    "usage_in_stream": Meaning("ignore", "a stream always ends with its usage", _OFF),
    "background": Meaning("refuse", f"only whoever keeps responses can answer later{_KEPT}", _OFF),
    "background_options": Meaning("tell", "they are for calls in the background"),
    "previous": Meaning("refuse", f"only whoever keeps responses knows that one{_KEPT}"),
    "conversation": Meaning("refuse", f"only whoever keeps conversations knows that one{_KEPT}"),
    "prompt": Meaning("refuse", "only the upstream that keeps the template can fill it"),
    "compaction": Meaning("tell", "nothing is compacted"),
    "truncation": Meaning("tell", "too long an input is an error", (b'"disabled"',)),
    "images": Meaning("tell", "images are read as they are"),
    "access": Meaning("tell", "the upstream has no such programs"),
    "modalities": Meaning("refuse", "the answer would be text only", (b'["text"]',)),
    "voice": Meaning("refuse", "the answer would be text only"),
    "top_k": Meaning("tell", "the model samples as it does by default"),
    "cache_everywhere": Meaning("tell", "the upstream caches as it does by default"),
    "speed": Meaning("refuse", "another speed is another price", (b'"standard"',)),
    "place": Meaning("refuse", "nobody here knows where it would run", (b'"global"',)),
    "container": Meaning("refuse", "only the upstream that made it has it"),
    "mcp_servers": Meaning("refuse", "nobody would ask them"),
    "fallbacks": Meaning("tell", "the relay has fallbacks of its own"),
    "credit_token": Meaning("tell", "it is for its own vendor"),
    "billing_policy": Meaning("tell", "it is for its own vendor"),
    "diagnostics": Meaning("tell", "there are none"),
    "hosted_search": Meaning("refuse", "nothing would be searched"),
}  # fmt: skip
"""By name. A value that is null, empty or `harmless` never is a reason to refuse."""


def is_harmless(name: str, value: msgspec.Raw) -> bool:
    """Whether a value asks for nothing."""
    compact = bytes(value).replace(b" ", b"")
    return compact in _NOTHING or compact in MEANINGS[name].harmless


def leave_out(asked: Asked, name: str) -> None:
    """Say what becomes of a setting that a family has no field for. Raises `CannotTranslate`."""
    value = asked.settings[name]
    if is_harmless(name, value):
        return
    meaning = MEANINGS[name]
    where = asked.wheres.get(name, name)
    if meaning.otherwise == "refuse":
        raise cannot_carry(where, asked.via, meaning.why)
    if meaning.otherwise == "tell":
        asked.tell(f"{where} removed")


def leave_out_marks(asked: Asked) -> None:
    """Say what a family without places for them leaves out: marks for caches, and that a tool
    failed, which its output says too."""
    marked: list[object] = [tool.control for tool in asked.tools]
    for item in asked.items:
        if isinstance(item, Message | Result):
            marked += [getattr(part, "control", None) for part in item.parts]
        if isinstance(item, Call | Result):
            marked.append(item.control)
        if isinstance(item, Result) and item.is_error:
            asked.tell(f"{item.where}.is_error removed")
    if any(mark is not None for mark in marked):
        asked.tell("cache_control removed")


def cannot_carry(where: str, via: str, why: str) -> CannotTranslate:
    """The refusal of what the upstream's family cannot be asked."""
    return CannotTranslate(
        f"'{where}' cannot be carried to this model, which is reached through {via}: {why}."
        " Leave it out, or use a model whose deployment takes it natively.",
        param=where,
        code="unsupported_parameter",
    )
