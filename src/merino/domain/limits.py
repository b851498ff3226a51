"""What may be sent, and what a call takes of it.

A new limit is a row of `RATES` and a field of `Limits` here, a column (a migration), a setting
(`settings/sections/limits.py`) and a field of the bodies and answers of keys and of accounts
(`operations/`): five files. The rest counts, keeps, shows and refuses by this table. A unit that
no limit counts yet is a field of `Demand` besides, and `gateway/pipeline.py` and
`gateway/limits.py` say how much of it a call takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

LimitKind = Literal["rps", "rpm", "tpm", "concurrency"]


class Demand(NamedTuple):
    """What a call takes of limits. Headers call a unit as it is called here."""

    requests: int = 1
    tokens: int = 0

    def less(self, used: Demand) -> Demand:
        """What of it was not used; negative where more was."""
        return Demand(self.requests - used.requests, self.tokens - used.tokens)


REQUESTS, TOKENS = (Demand._fields.index(name) for name in ("requests", "tokens"))
"""Where a unit is in a `Demand`."""


class Rate(NamedTuple):
    """`unit` is what it counts, as its place in a `Demand`; `per_s` for how many seconds it is."""

    kind: LimitKind
    unit: int
    per_s: float


RATES = (Rate("rps", REQUESTS, 1.0), Rate("rpm", REQUESTS, 60.0), Rate("tpm", TOKENS, 60.0))
"""The limits that fill up again with time. `concurrency` does not: it counts calls in flight."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one key, account, alias or deployment; `None` is no limit. Requests per second and per
    minute, LLM tokens per minute, calls in flight."""

    rps: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None

    def over(self, other: Limits) -> Limits:
        """Each limit of these, where there is one, else the other's."""
        return Limits(
            *(
                theirs if own is None else own
                for own, theirs in zip(flat(self).values(), flat(other).values(), strict=True)
            )
        )


NO_LIMITS = Limits()
LIMIT_KINDS: tuple[LimitKind, ...] = tuple(each.name for each in fields(Limits))  # pyright: ignore[reportAssignmentType] - a test compares them
LIMIT_WORDS: Mapping[LimitKind, str] = {
    "rps": "requests per second",
    "rpm": "requests per minute",
    "tpm": "LLM tokens per minute",
    "concurrency": "calls in flight",
}
LIMIT_SHORT_WORDS: Mapping[LimitKind, str] = {
    "rps": "calls a second",
    "rpm": "calls a minute",
    "tpm": "LLM tokens a minute",
    "concurrency": "calls at a time",
}
"""As options and forms say it."""


def flat(limits: Limits) -> dict[LimitKind, int | None]:
    """By kind, as rows, bodies and settings have them beside other fields."""
    return {kind: getattr(limits, kind) for kind in LIMIT_KINDS}


def limits_in(source: Any) -> Limits:
    """From something that has a limit of each kind as an attribute."""
    return Limits(*(getattr(source, kind) for kind in LIMIT_KINDS))
