"""How a simulated model behaves, read from the part of its name after `!`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

TOKENS_MAX = 200_000
DURATION_S_MAX = 3600.0
HUGE_LINE_BYTES_MAX = 256 * 1024 * 1024


class OptionError(ValueError):
    """A model name's suffix does not follow the grammar."""


@dataclass(frozen=True, slots=True)
class Options:
    """`None` means: as the simulated model would. docs/reference/simulator.md explains each."""

    ttft_s: float = 0.0
    tps: float = 0.0
    jitter: float = 0.0
    ttft_sigma: float = 0.0
    gap_sigma: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 10.0
    chunks: int | None = None
    output: int | None = None
    reasoning: int | None = None
    input: int | None = None
    cached: int = 0
    status: int | None = None
    retry_after_s: float | None = None
    fail_rate: float = 0.0
    fail_first: int = 0
    hang: bool = False
    hang_after: int | None = None
    cut: bool = False
    cut_after: int | None = None
    error_in_stream: bool = False
    error_after: int | None = None
    malformed: bool = False
    garbage: bool = False
    wrong_content_type: bool = False
    huge_line_bytes: int | None = None
    slow_drip_s: float | None = None
    no_usage: bool = False
    usage_in_last_chunk: bool = False
    no_done: bool = False
    ignore_limit: bool = False
    strict: bool = False
    no_responses: bool = False
    no_messages: bool = False
    responses_only: bool = False
    refusal: bool = False


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
            raise OptionError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _decimal(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise OptionError(f"a number from {low:g} to {high:g}")
        return number

    return read


def _duration_s(text: str) -> float:
    digits, unit_s = text, 1.0
    if text.endswith("ms"):
        digits, unit_s = text[:-2], 0.001
    elif text.endswith("s"):
        digits = text[:-1]
    try:
        seconds = float(digits) * unit_s
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= DURATION_S_MAX:
        raise OptionError(f"a duration up to {DURATION_S_MAX:g} s, such as 2s or 250ms")
    return seconds


def _no_value(_: str) -> bool:
    raise OptionError("no value")


_tokens = _whole(0, TOKENS_MAX)
_status = _whole(300, 599)

# name in the grammar: (field, reader of its value, what the bare name means if it may be bare)
_GRAMMAR: dict[str, tuple[str, Callable[[str], Any], Any]] = {
    "ttft": ("ttft_s", _duration_s, None),
    "tps": ("tps", _decimal(0, 1e6), None),
    "ttft_sigma": ("ttft_sigma", _decimal(0, 3), None),
    "gap_sigma": ("gap_sigma", _decimal(0, 3), None),
    "slow_share": ("slow_share", _decimal(0, 1), None),
    "slow_factor": ("slow_factor", _decimal(0, 1000), None),
    "jitter": ("jitter", _decimal(0, 1), None),
    "chunks": ("chunks", _whole(1, TOKENS_MAX), None),
    "output": ("output", _tokens, None),
    "reasoning": ("reasoning", _tokens, None),
    "input": ("input", _whole(0, 100_000_000), None),
    "cached": ("cached", _whole(0, 100_000_000), None),
    "status": ("status", _status, None),
    "fail": ("status", _status, None),
    "retry_after": ("retry_after_s", _duration_s, None),
    "fail_rate": ("fail_rate", _decimal(0, 1), None),
    "fail_first": ("fail_first", _whole(0, 1_000_000), None),
    "hang": ("hang", _no_value, True),
    "hang_after": ("hang_after", _tokens, None),
    "cut": ("cut", _no_value, True),
    "cut_after": ("cut_after", _tokens, None),
    "error_in_stream": ("error_in_stream", _no_value, True),
    "error_after": ("error_after", _tokens, None),
    "malformed": ("malformed", _no_value, True),
    "garbage": ("garbage", _no_value, True),
    "wrong_content_type": ("wrong_content_type", _no_value, True),
    "huge_line": ("huge_line_bytes", _whole(1, HUGE_LINE_BYTES_MAX), 4 * 1024 * 1024),
    "slow_drip": ("slow_drip_s", _duration_s, 0.01),
    "no_usage": ("no_usage", _no_value, True),
    "usage_in_last_chunk": ("usage_in_last_chunk", _no_value, True),
    "no_done": ("no_done", _no_value, True),
    "ignore_limit": ("ignore_limit", _no_value, True),
    "strict": ("strict", _no_value, True),
    "no_responses": ("no_responses", _no_value, True),
    "no_messages": ("no_messages", _no_value, True),
    "responses_only": ("responses_only", _no_value, True),
    "refusal": ("refusal", _no_value, True),
}

OPTION_NAMES = tuple(_GRAMMAR)


def parse_options(text: str, defaults: Options) -> Options:
    """Read `ttft=2s,tps=100,no_done` on top of `defaults`. Raises `OptionError`."""
    changes: dict[str, Any] = {}
    for item in text.split(","):
        name, is_given, value = (part.strip() for part in item.partition("="))
        if name not in _GRAMMAR:
            raise OptionError(
                f"Unknown simulator option '{name}'. Known are: {', '.join(OPTION_NAMES)}."
            )
        field, read, bare = _GRAMMAR[name]
        if field in changes:
            raise OptionError(f"Simulator option '{name}' is given twice.")
        if is_given:
            try:
                changes[field] = read(value)
            except OptionError as error:
                raise OptionError(
                    f"Simulator option '{name}' takes {error}; got '{value}'."
                ) from None
        elif bare is None:
            raise OptionError(f"Simulator option '{name}' needs a value: {name}=...")
        else:
            changes[field] = bare
    return replace(defaults, **changes)


@lru_cache(maxsize=1024)
def parse_model(model: str, defaults: Options) -> tuple[str, Options]:
    """Split `o3!ttft=2s` into the simulated model's name and how it behaves."""
    name, has_suffix, suffix = model.partition("!")
    return name, parse_options(suffix, defaults) if has_suffix else defaults
