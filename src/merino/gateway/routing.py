"""Selection policies: pure functions that order the candidates of a call, the best one first."""

# ruff: noqa: ARG001 - every policy is given the same, whatever it looks at

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import NamedTuple, Protocol

from merino.domain.deployment import Deployment, SelectionPolicyName
from merino.domain.errors import Misconfigured
from merino.resilience.latency import better_of_two


class Candidate(NamedTuple):
    """A deployment as a policy sees it. `first_token_s` is 0 while it is unmeasured; `worst_nanos`
    is the most this call can cost there."""

    deployment: Deployment
    in_flight: int = 0
    first_token_s: float = 0.0
    worst_nanos: int = 0


class SelectionPolicy(Protocol):
    """Orders candidates. `turn` counts the alias's calls; `chance` is the only source of
    randomness."""

    def __call__(
        self, candidates: Sequence[Candidate], turn: int, chance: Random
    ) -> Sequence[Candidate]: ...


def priority(candidates: Sequence[Candidate], turn: int, chance: Random) -> Sequence[Candidate]:
    """As configured: the first is preferred, the others stand in for it."""
    return candidates


def round_robin(candidates: Sequence[Candidate], turn: int, chance: Random) -> Sequence[Candidate]:
    """Each in turn."""
    first = turn % len(candidates)
    return [*candidates[first:], *candidates[:first]]


def weighted(candidates: Sequence[Candidate], turn: int, chance: Random) -> Sequence[Candidate]:
    """Drawn by weight, one after the other: the order of a weighted lottery without replacement
    (Efraimidis and Spirakis, 2006: the key of a draw is ``u ** (1 / weight)``)."""
    return sorted(candidates, key=lambda each: -(chance.random() ** (1 / each.deployment.weight)))


def least_busy(candidates: Sequence[Candidate], turn: int, chance: Random) -> Sequence[Candidate]:
    """The fewest calls in flight for its weight first; ties in turn."""
    in_turn = round_robin(candidates, turn, chance)
    return sorted(in_turn, key=lambda each: each.in_flight / each.deployment.weight)


def fastest(candidates: Sequence[Candidate], turn: int, chance: Random) -> Sequence[Candidate]:
    """The better of two drawn at random, by expected wait: time to first token, times the calls
    already in flight there. An unmeasured deployment is tried."""
    chosen = better_of_two(candidates, _expected_wait, chance.randrange)
    rest = sorted((each for each in candidates if each is not chosen), key=_expected_wait)
    return [chosen, *rest]


def cheapest(candidates: Sequence[Candidate], turn: int, chance: Random) -> Sequence[Candidate]:
    """The one where this call costs least first; ties as configured."""
    return sorted(candidates, key=lambda each: each.worst_nanos)


def _expected_wait(candidate: Candidate) -> float:
    return candidate.first_token_s * (candidate.in_flight + 1)


def kept_together(candidates: Sequence[Candidate], session: bytes) -> Sequence[Candidate]:
    """The same session prefers the same deployment, whichever others come or go (rendezvous
    hashing, Thaler and Ravishankar, 1998), so that its prompt cache is of use."""
    # Not a CRC: if two names differ in a letter, their CRCs differ by the same bits in every
    # session.
    return sorted(
        candidates,
        key=lambda each: blake2b(session + each.deployment.name.encode(), digest_size=8).digest(),
        reverse=True,
    )


POLICIES: dict[str, SelectionPolicy] = {
    "priority": priority,
    "round_robin": round_robin,
    "weighted": weighted,
    "least_busy": least_busy,
    "fastest": fastest,
    "cheapest": cheapest,
}


def policy_named(name: SelectionPolicyName) -> SelectionPolicy:
    """Raises `Misconfigured` for an unknown name."""
    policy = POLICIES.get(name)
    if policy is None:
        raise Misconfigured(
            f"selection_policy = {name!r}: must be one of {', '.join(sorted(POLICIES))}"
        )
    return policy
