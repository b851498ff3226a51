"""Where a call may go, in which order, and what that can cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import InvalidCall
from merino.gateway.call import Call
from merino.gateway.expectations import Expectations
from merino.gateway.fleet import Fleet
from merino.gateway.holds import Quote
from merino.gateway.ports import Ledger
from merino.gateway.routing import Candidate, kept_together, policy_named
from merino.pricing.book import PPM, Price
from merino.pricing.estimate import (
    input_tokens_estimate,
    output_tokens_affordable,
    worst_case,
)

Tariff = Callable[[Deployment, int, str | None, str], Price | None]
"""The price of a deployment at a time (epoch ms) for a service tier and an account; `None` if it
has none."""


def tariff_of(call: Call, tariff: Tariff) -> Tariff:
    """The prices of one call: with its discount, if it has one."""
    if call.account_ppm == PPM:
        return tariff

    def discounted(
        deployment: Deployment, at_ms: int, tier: str | None, account_id: str
    ) -> Price | None:
        price = tariff(deployment, at_ms, tier, account_id)
        return None if price is None else price.times(call.account_ppm)

    return discounted


@dataclass(slots=True)
class Plan:
    """Where a call may go and what that can cost. `price` is the dearest of its alias's own
    deployments; those of its fallbacks come last, and are in `standins`."""

    candidates: Sequence[Deployment]
    price: Price
    quote: Quote
    prices: Mapping[str, Price]
    standins: frozenset[str] = frozenset()


class Planner:
    def __init__(
        self, *, tariff: Tariff, fleet: Fleet, ledger: Ledger, expectations: Expectations
    ) -> None:
        self._tariff = tariff
        self._fleet = fleet
        self._ledger = ledger
        self._expectations = expectations
        self._turns: dict[str, count[int]] = {}

    def plan(self, call: Call) -> Plan:
        """Candidates, prices and what to hold. Raises `InvalidCall` if nothing has a price."""
        request, alias = call.request, call.alias
        tier, account_id = request.service_tier, call.key.account_id
        tariff = tariff_of(call, self._tariff)
        priced = [
            (deployment, found)
            for deployment in alias.deployments
            if (found := tariff(deployment, call.at_ms, tier, account_id)) is not None
        ]
        if not priced:
            raise _unpriced(alias)
        if alias.reasoning and request.max_tokens is not None:
            request.use_max_completion_tokens()
        if request.stream:
            request.request_usage()
        call.input_tokens = input_tokens = input_tokens_estimate(request)
        has_output = request.endpoint != "embeddings"
        wanted, asked = 0, request.output_tokens_max
        if has_output:
            room = max(1, alias.context_tokens_max - input_tokens)
            wanted = asked or min(alias.output_tokens_max, room)
        candidates = [deployment for deployment, _ in priced]
        prices = {deployment.name: found for deployment, found in priced}
        price = priced[0][1]
        if len(priced) > 1:
            worst = {
                name: worst_case(request, each, input_tokens, wanted)
                for name, each in prices.items()
            }
            price = prices[max(worst, key=worst.__getitem__)]
            candidates = self._ordered(call, candidates, worst)
        standins: frozenset[str] = frozenset()
        if alias.standins:
            for deployment in alias.standins:
                found = tariff(deployment, call.at_ms, tier, account_id)
                if found is not None and deployment.name not in prices:
                    prices[deployment.name] = found
                    candidates.append(deployment)
            standins = frozenset(each.name for each in candidates[len(priced) :])
        expectation = self._expectations.of(call.tag)
        return Plan(
            candidates=candidates,
            price=price,
            quote=Quote(
                output_tokens=wanted,
                caller_limited=asked is not None,
                worst_nanos=lambda tokens: worst_case(request, price, input_tokens, tokens),
                affordable_tokens=lambda nanos: output_tokens_affordable(
                    nanos, price, input_tokens, request.n, request=request
                ),
                max_cost_nanos=call.max_cost_nanos,
                expected_tokens=expectation.output_tokens_p99 if expectation else None,
                has_output=has_output,
            ),
            prices=prices,
            standins=standins,
        )

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

    def _ordered(
        self, call: Call, deployments: Sequence[Deployment], worst: Mapping[str, int]
    ) -> list[Deployment]:
        alias = call.alias
        candidates: Sequence[Candidate] = []
        for deployment in deployments:
            member = self._fleet.of(deployment)
            candidates.append(
                Candidate(
                    deployment,
                    member.in_flight,
                    member.pace(streamed=call.request.stream).ewma.value_s,
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


def _session(call: Call) -> bytes | None:
    """What ties calls together: the prompt cache key, else the end user; within one account."""
    fields = call.request.fields
    named = fields.get("prompt_cache_key") or fields.get("user")
    return None if named is None else bytes(named) + call.key.account_id.encode()


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
