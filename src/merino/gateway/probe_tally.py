"""Turns health checks into minutes in which a model could, or could not, be reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from merino.domain.deployment import Alias, Deployment

MINUTE_S = 60.0
_SLACK_S = 15.0


class ProbeMinute(NamedTuple):
    """One minute of an alias whose every deployment was asked."""

    alias: str
    is_answered: bool


@dataclass(slots=True)
class _Heard:
    at_s: float
    is_answered: bool
    answered_in_minute: bool


class ProbeTally:
    """Call `heard` for each outcome, then `minute` once a minute.

    A check's outcome holds until the next check is due. One answer within a minute is enough for
    that minute. A model counts only if all its deployments are asked: one that is not asked might
    have answered.
    """

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def heard(self, deployment: Deployment, *, is_answered: bool, now: float) -> None:
        before = self._heard.get(deployment.name)
        earlier = before is not None and before.answered_in_minute
        self._heard[deployment.name] = _Heard(now, is_answered, is_answered or earlier)

    def minute(self, aliases: Iterable[Alias], now: float) -> list[ProbeMinute]:
        """Sum up the minute that ends now."""
        outcomes: dict[str, bool | None] = {}
        found: list[ProbeMinute] = []
        for alias in aliases:
            answers: list[bool | None] = []
            for each in alias.deployments:
                if each.name not in outcomes:
                    outcomes[each.name] = self._outcome(each, now)
                answers.append(outcomes[each.name])
            if answers and None not in answers:
                found.append(ProbeMinute(alias.name, True in answers))
        self._heard = {name: each for name, each in self._heard.items() if name in outcomes}
        for each in self._heard.values():
            each.answered_in_minute = False
        return found

    def _outcome(self, deployment: Deployment, now: float) -> bool | None:
        """Whether the deployment answered; `None` if it was not asked."""
        heard = self._heard.get(deployment.name)
        if heard is None or deployment.health_check_s <= 0:
            return None
        if now - heard.at_s > deployment.health_check_s + MINUTE_S + _SLACK_S:
            return None
        return heard.answered_in_minute or heard.is_answered
