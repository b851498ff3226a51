"""Where a call may go, in which order, and what that can cost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import InvalidCall
from merino.domain.usage import Usage
from merino.gateway.call import Call
from merino.gateway.expectations import Expectations
from merino.gateway.fleet import Fleet
from merino.gateway.issuers import is_same_home
from merino.gateway.origins import Origin, bound
from merino.gateway.ports import Ledger
from merino.gateway.roads import Roads, no_road
from merino.gateway.routing import Candidate, kept_together, policy_named
from merino.pricing.cost import Cost, cost_of_all
from merino.pricing.estimate import estimated, output_tokens_affordable, worst_case
from merino.pricing.media import CONTEXT_TOKENS_ASSUMED, MediaLimits
from merino.pricing.price import PPM, Price
from merino.wire.responses import LIMIT_MIN

Tariff = Callable[[Deployment, int, str | None, str], Price | None]
"""The price of a deployment at a time (epoch ms) for a service tier and an account; `None` if it
has none."""


def tariff_of(call: Call, tariff: Tariff) -> Tariff:
    """The prices of one call, with its discount if it has one."""
    if call.account_ppm == PPM:
        return tariff

    def discounted(
        deployment: Deployment, at_ms: int, tier: str | None, account_id: str
    ) -> Price | None:
        price = tariff(deployment, at_ms, tier, account_id)
        return None if price is None else price.times(call.account_ppm)

    return discounted


def with_model(deployment: Deployment, model: str) -> Deployment:
    """The same vendor's other model. A price that is the deployment's own is not its."""
    listed, slash, _ = deployment.price_model.rpartition("/")
    return replace(
        deployment,
        name=f"{deployment.name}/{model}",
        upstream_model=model,
        price_model=f"{listed}{slash}{model}",
    )


def with_others(call: Call, usage: Usage, price: Price, tariff: Tariff, tier: str | None) -> Cost:
    """The cost of a usage with what other models of the same vendor used for the call."""
    deployment = call.deployment
    assert deployment is not None, "somebody reported it"
    its = tariff_of(call, tariff)

    def price_of(model: str) -> Price | None:
        with contextlib.suppress(InvalidCall):
            return its(with_model(deployment, model), call.at_ms, tier, call.key.account_id)
        return None

    return cost_of_all(usage, price, price_of)


@dataclass(slots=True)
class Plan:
    """Where a call may go and what that can cost. `price` is the dearest of its alias's own
    deployments; those of its fallbacks come last, and are in `standins`."""

    candidates: Sequence[Deployment]
    price: Price
    quote: PricedQuote
    prices: Mapping[str, Price]
    standins: frozenset[str] = frozenset()


class PricedQuote:
    """`gateway.holds.Quote` of one call at the dearest of some prices. Which that is depends on how
    much output there may be."""

    __slots__ = (
        "_call",
        "_expectations",
        "_prices",
        "caller_limited",
        "has_output",
        "output_tokens",
    )

    def __init__(
        self,
        call: Call,
        prices: tuple[Price, ...],
        expectations: Expectations,
        output_tokens: int,
        *,
        caller_limited: bool,
        has_output: bool,
    ) -> None:
        self._call = call
        self._prices = prices
        self._expectations = expectations
        self.output_tokens = output_tokens
        self.caller_limited = caller_limited
        self.has_output = has_output

    @property
    def max_cost_nanos(self) -> int | None:
        return self._call.max_cost_nanos

    @property
    def expected_tokens(self) -> int | None:
        expectation = self._expectations.of(self._call.tag)
        return None if expectation is None else expectation.output_tokens_p99

    def worst_nanos(self, tokens: int, /) -> int:
        call, prices = self._call, self._prices
        request, input_tokens = call.request, call.input_tokens
        if len(prices) == 1:
            return worst_case(request, prices[0], input_tokens, tokens)
        return max(worst_case(request, each, input_tokens, tokens) for each in prices)

    def affordable_tokens(self, nanos: int, /) -> int:
        call = self._call
        request = call.request
        return min(
            output_tokens_affordable(nanos, each, call.input_tokens, request.n, request=request)
            for each in self._prices
        )

    def limit_output(self, tokens: int) -> bool:
        """Limit the call to this many LLM tokens, input included; returns whether that lowers its
        limit."""
        call = self._call
        least = call.request.endpoint.limit_min
        fitting = max(least, (tokens - call.asked_input_tokens) // call.request.n)
        if self.caller_limited or not self.has_output or fitting >= self.output_tokens:
            return False
        self.output_tokens = fitting
        return True


class Planner:
    def __init__(
        self,
        *,
        tariff: Tariff,
        fleet: Fleet,
        ledger: Ledger,
        expectations: Expectations,
        roads: Roads | None = None,
    ) -> None:
        self.tariff = tariff
        self._fleet = fleet
        self._ledger = ledger
        self._expectations = expectations
        self._roads = roads or Roads()
        self._turns: dict[str, count[int]] = {}
        self._media: dict[str, tuple[Alias, MediaLimits]] = {}

    def plan(self, call: Call) -> Plan:
        """Candidates, prices and what to hold. Raises `InvalidCall` if nothing has a price."""
        request, alias = call.request, call.alias
        tier, account_id = request.service_tier, call.key.account_id
        tariff = self.tariff if call.account_ppm == PPM else tariff_of(call, self.tariff)
        candidates: list[Deployment] = []
        prices: dict[str, Price] = {}
        closed: list[str] = []
        deployments: Sequence[Deployment] = alias.deployments
        if call.origin is not None:
            deployments = self._bound(call, call.origin)
        for deployment in deployments:
            if not self._may_take(call, deployment):
                closed.append(deployment.name)
                continue
            found = tariff(deployment, call.at_ms, tier, account_id)
            if found is not None:
                candidates.append(deployment)
                prices[deployment.name] = found
        if not candidates:
            raise no_road(call, closed) if closed else _unpriced(alias)
        if request.stream:
            request.request_usage()
        estimate = estimated(request, self._media_limits(alias), request.prior_tokens)
        call.input_tokens = input_tokens = estimate.tokens
        call.asked_input_tokens = estimate.asked_tokens
        has_output = request.endpoint.has_output
        wanted, asked = 0, request.output_tokens_max
        if has_output:
            # The input may turn out to be half of its estimate.
            room = alias.context_tokens_max - input_tokens // 2
            wanted = asked or min(alias.output_tokens_max, max(1, room))
            if wanted < LIMIT_MIN:
                wanted = max(wanted, self._roads.limit_min(call, candidates, self._fleet.clock()))
        call.asked_tokens = estimate.asked_tokens + (asked or 1) * request.n * has_output
        price = prices[candidates[0].name]
        quoted = (price,)
        if len(candidates) > 1:
            quoted = tuple({id(each): each for each in prices.values()}.values())
            worst = {
                name: worst_case(request, each, input_tokens, wanted)
                for name, each in prices.items()
            }
            price = prices[max(worst, key=worst.__getitem__)]
            candidates = self._ordered(call, candidates, worst)
            if (issuer := call.issuer) is not None:
                candidates.sort(key=lambda each: not is_same_home(each, issuer))
        if request.other_models:
            quoted += tuple(
                found
                for each in candidates
                for model in request.other_models
                if (found := tariff(with_model(each, model), call.at_ms, tier, account_id))
            )
        quote = PricedQuote(
            call,
            quoted,
            self._expectations,
            wanted,
            caller_limited=asked is not None,
            has_output=has_output,
        )
        standins: frozenset[str] = frozenset()
        if alias.standins and call.origin is None:
            standins = self._add_standins(call, tariff, candidates, prices)
        return Plan(candidates, price, quote, prices, standins)

    def _bound(self, call: Call, origin: Origin) -> Sequence[Deployment]:
        """Those that may take a call which goes on from another one."""
        home = self._fleet.named(origin.deployment)
        param = "conversation" if "conversation" in call.request.fields else "input"
        if call.request.previous_id is not None:
            param = "previous_response_id"
        return bound(call.alias, origin, home, param)

    def _add_standins(
        self,
        call: Call,
        tariff: Tariff,
        candidates: list[Deployment],
        prices: dict[str, Price],
    ) -> frozenset[str]:
        """The deployments of the alias's fallbacks, after its own; returns their names."""
        own = len(candidates)
        tier, account_id = call.request.service_tier, call.key.account_id
        for deployment in call.alias.standins:
            found = tariff(deployment, call.at_ms, tier, account_id)
            if (
                found is not None
                and deployment.name not in prices
                and self._may_take(call, deployment)
            ):
                prices[deployment.name] = found
                candidates.append(deployment)
        return frozenset(each.name for each in candidates[own:])

    def _may_take(self, call: Call, deployment: Deployment) -> bool:
        """Whether a deployment has the API of the call, or one into which it can be carried."""
        roads = self._roads
        if not deployment.endpoints and not roads.has_any:
            return True
        return roads.is_open(call, deployment, self._fleet.clock())

    def deployment(self, name: str) -> Deployment | None:
        """A deployment by its name, if there still is one."""
        return self._fleet.named(name)

    def expected_nanos(self, call: Call, plan: Plan) -> int | None:
        """What such a call usually costs; `None` until enough were seen."""
        expectation = self._expectations.of(call.tag)
        if expectation is None:
            return None
        return plan.quote.worst_nanos(min(plan.quote.output_tokens, expectation.output_tokens_p50))

    def may_use(self, call: Call, plan: Plan, deployment: Deployment) -> bool:
        """Whether a fallback's price is within what is held, or the hold can grow to it."""
        if deployment.name not in plan.standins:
            return True
        assert call.hold is not None
        worst_nanos = worst_case(
            call.request, plan.prices[deployment.name], call.input_tokens, call.output_tokens
        )
        if call.max_cost_nanos is not None and worst_nanos > call.max_cost_nanos:
            return False
        more_nanos = worst_nanos - call.hold.amount_nanos
        return more_nanos <= 0 or self._ledger.grow(call.hold, more_nanos, call.key)

    def _media_limits(self, alias: Alias) -> MediaLimits:
        known = self._media.get(alias.name)
        if known is None or known[0] is not alias:
            known = self._media[alias.name] = (alias, media_limits(alias))
        return known[1]

    def _ordered(
        self, call: Call, deployments: Sequence[Deployment], worst: Mapping[str, int]
    ) -> list[Deployment]:
        alias = call.alias
        is_by_pace = alias.selection_policy == "fastest"
        now = self._fleet.clock() if is_by_pace else 0.0
        candidates: Sequence[Candidate] = []
        for deployment in deployments:
            member = self._fleet.of(deployment)
            candidates.append(
                Candidate(
                    deployment,
                    member.in_flight,
                    member.pace(streamed=call.request.stream).ewma.faded_s(now)
                    if is_by_pace
                    else 0.0,
                    worst[deployment.name],
                )
            )
        session = _session(call) if alias.session_affinity else None
        if session is not None:
            candidates = kept_together(candidates, session)
        else:
            turns = self._turns.get(alias.name)
            if turns is None:
                turns = self._turns[alias.name] = count()
            policy = policy_named(alias.selection_policy)
            candidates = policy(candidates, next(turns), self._fleet.chance)
        return [candidate.deployment for candidate in candidates]


def media_limits(alias: Alias) -> MediaLimits:
    """The most tokens that pictures, files and the like may take at any of its deployments."""
    deployments = alias.deployments + alias.standins
    files = [each.file_tokens_max for each in deployments]
    context = alias.context_tokens_max
    return MediaLimits(
        models=tuple(
            sorted({each.upstream_model for each in deployments if not each.picture_tokens_max})
        ),
        picture_tokens_max=max((each.picture_tokens_max for each in deployments), default=0),
        file_tokens_max=0 if 0 in files else max(files, default=0),
        context_tokens_max=context,
        is_context_known=context != CONTEXT_TOKENS_ASSUMED,
    )


_NOBODY = frozenset((b"", b"null", b'""', b"{}"))
_ALSO = {"messages": ("metadata",)}


def _session(call: Call) -> bytes | None:
    """What ties calls together: the prompt cache key, otherwise the end user; within one account.
    Clients of the Messages API say both in one, in `metadata`."""
    fields = call.request.fields
    for name in ("prompt_cache_key", "user", *_ALSO.get(call.request.endpoint.name, ())):
        named = bytes(fields.get(name, b""))
        if named not in _NOBODY:
            return named + call.key.account_id.encode()
    return None


def _unpriced(alias: Alias) -> InvalidCall:
    name = alias.name
    if alias.deployments:
        name = alias.deployments[0].price_model or alias.deployments[0].upstream_model
    return InvalidCall(
        f"The model '{alias.name}' has no price, so its calls cannot be billed. The "
        f"relay's operator can price it: add `price = {{ input = 1.00, output = 4.00 }}` "
        f"(per million tokens) to its deployment, or '{name}' to a price file.",
        param="model",
        code="model_not_priced",
    )
