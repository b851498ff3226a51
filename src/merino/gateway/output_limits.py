"""Under which names an upstream is sent the output limit, so that it obeys one of them.

A limit under a name that an upstream does not know is no limit. An upstream cannot be asked which
name it knows. It is sent both, each no higher than what is held, unless it is known to refuse that.
A refused name is learned once another attempt without it was answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from merino.domain.deployment import Deployment, LimitNaming
from merino.domain.errors import UpstreamRefused
from merino.wire.endpoints import LIMIT_NAMES
from merino.wire.request import ModelRequest

REMEMBERED_S = 3600.0
MODELS_MAX = 1000

NO_NAMES: frozenset[str] = frozenset()

_STATUSES = frozenset((400, 422))
_ABOUT_VALUE = re.compile(
    r"too (?:large|high|big|many|long|small)|at most|maximum|less than|greater than|exceed|range|"
    r"(?:above|below|higher|larger|more) than|context[ _](?:length|window|size)",
    re.IGNORECASE,
)
"""It knows the name, but refuses so large a value."""


def names_for(
    naming: LimitNaming,
    given: tuple[str, ...],
    refused: Collection[str],
    *,
    reasoning: bool,
) -> tuple[str, ...]:
    """The names to send, in the order of `LIMIT_NAMES`. `given` are the caller's, at least one;
    `reasoning` models of vendors that refuse `max_tokens` skip that attempt."""
    if naming == "both":
        wanted = LIMIT_NAMES
    elif naming == "as_sent":
        wanted = ("max_completion_tokens",) if reasoning else given
    else:
        wanted = (naming,)
    if not refused:
        return wanted
    taken = tuple(name for name in wanted if name not in refused)
    return taken or tuple(name for name in LIMIT_NAMES if name not in refused) or given


def refused_name(error: UpstreamRefused, sent: tuple[str, ...]) -> str | None:
    """The name of the limit that a refusal is about; `None` if it is about something else.

    Seen of vendors: "Unsupported parameter: 'max_tokens'" (o-series), "Setting 'max_tokens' and
    'max_completion_tokens' at the same time is not supported", "Unrecognized request argument
    supplied: max_completion_tokens" (older Azure), "Extra inputs are not permitted" (Pydantic).
    """
    if error.status not in _STATUSES or not sent:
        return None
    said = f"{error.param or ''} {error.message}"
    places = {said.find(name): name for name in sent if name in said}
    if not places:
        # Some vendors report it beside their message, as the path of a field.
        said = error.body.decode("utf-8", "replace")
        places = {said.find(name): name for name in sent if name in said}
    if not places:
        return None
    return None if _ABOUT_VALUE.search(error.message) else places[min(places)]


def is_too_much(error: UpstreamRefused, own_name: str = "") -> bool:
    """Whether an upstream refused a limit, or limit and input together, as more than it can do."""
    if error.status not in _STATUSES:
        return False
    said = f"{error.param or ''} {error.code or ''} {error.message}"
    names_it = (
        any(name in said for name in (*LIMIT_NAMES, own_name or LIMIT_NAMES[0]))
        or "context" in said.lower()
    )
    return names_it and _ABOUT_VALUE.search(said) is not None


class OutputLimits:
    """What is known of upstream models: the names they refused, by deployment and model."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], dict[str, float]] = {}

    def names(
        self,
        request: ModelRequest,
        deployment: Deployment,
        clock: Callable[[], float],
        *,
        reasoning: bool,
    ) -> tuple[str, ...]:
        """The names to send first; none if there is no limit."""
        if request.max_completion_tokens is None and request.max_tokens is None:
            return ()
        if not self._refused and deployment.limit_naming == "both":
            return LIMIT_NAMES  # nearly always
        refused = self.refused(deployment, clock())
        return _names_told(request, deployment, refused, reasoning=reasoning)

    def refused(self, deployment: Deployment, now: float) -> frozenset[str]:
        known = self._refused.get((deployment.name, deployment.upstream_model))
        if not known:
            return NO_NAMES
        return frozenset(name for name, until in known.items() if until > now)

    def learn(self, deployment: Deployment, names: Collection[str], now: float) -> None:
        """Without these names the upstream answered, with them it did not."""
        if len(self._refused) >= MODELS_MAX:
            self._refused.clear()
        known = self._refused.setdefault((deployment.name, deployment.upstream_model), {})
        known.update(dict.fromkeys(names, now + REMEMBERED_S))


def _names_told(
    request: ModelRequest, deployment: Deployment, refused: Collection[str], *, reasoning: bool
) -> tuple[str, ...]:
    """The names to send; what to tell the caller about it is noted."""
    given = request.limit_names
    names = names_for(deployment.limit_naming, given, refused, reasoning=reasoning)
    for name in given:
        if name not in names and len(names) == 1:
            request.tell(f"{name}->{names[0]}")
    return names


class Naming:
    """The limit of an attempt whose upstream refused something: what to send it instead."""

    __slots__ = ("_deployment", "_dropped", "_limits", "_reasoning", "_request", "names")

    def __init__(
        self,
        limits: OutputLimits,
        request: ModelRequest,
        deployment: Deployment,
        names: tuple[str, ...],
        *,
        reasoning: bool,
    ) -> None:
        self._limits = limits
        self._request = request
        self._reasoning = reasoning
        self._deployment = deployment
        self._dropped: frozenset[str] = NO_NAMES
        self.names = names

    def mend(self, error: UpstreamRefused, now: float) -> bool:
        """Whether the upstream may take the limit under other `names`, or without."""
        request = self._request
        if request.is_limit_made_up and is_too_much(error, request.endpoint.limit_name):
            # It cannot produce as much as is held: without a limit it produces less.
            if self.names:
                self.names = ()
                request.name_limits(())
                return True
            return request.drop_own_limit()
        name = refused_name(error, self.names)
        refused = self._limits.refused(self._deployment, now) | self._dropped
        if name is None or len(refused | {name}) == len(LIMIT_NAMES):
            return False
        self._dropped |= {name}
        self.names = _names_told(
            request, self._deployment, refused | {name}, reasoning=self._reasoning
        )
        return True

    def answered(self, now: float) -> None:
        """The upstream took it as it was sent last."""
        if self._dropped:
            self._limits.learn(self._deployment, self._dropped, now)
