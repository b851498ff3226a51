"""Deployments in the admin API."""

from __future__ import annotations

from math import isfinite

from msgspec import Struct

from merino.domain.deployment import Deployment, DeploymentState
from merino.operations.fields import In, iso
from merino.operations.table import Asked, Operation


class BreakerChangeShape(Struct):
    at: str
    state: str
    reason: str


class DeploymentStateShape(Struct):
    """`breaker`: closed, open or half_open. `usable_in_s`: 0 while it takes calls, null while only
    an operator can help."""

    breaker: str
    reason: str
    usable_in_s: float | None
    drained: bool
    in_flight: int
    concurrency_limit: int | None
    first_token_s: float
    history: list[BreakerChangeShape]


class DeploymentShape(Struct):
    name: str
    provider: str
    base_url: str
    upstream_model: str
    price_model: str
    has_credential: bool
    on_disconnect: str
    connect_timeout_s: float
    first_token_timeout_s: float
    answer_timeout_s: float
    idle_timeout_s: float
    state: DeploymentStateShape | None


class Drain(In):
    """`drained`: true sends it no new calls, false sends them again."""

    name: str
    drained: bool = True


class Deployments(Struct):
    data: list[DeploymentShape]


def _state_shape(state: DeploymentState) -> DeploymentStateShape:
    return DeploymentStateShape(
        breaker=state.breaker,
        reason=state.reason,
        usable_in_s=round(state.usable_in_s, 3) if isfinite(state.usable_in_s) else None,
        drained=state.is_drained,
        in_flight=state.in_flight,
        concurrency_limit=state.concurrency_limit,
        first_token_s=round(state.first_token_s, 4),
        history=[
            BreakerChangeShape(iso(each.at_ms), each.state, each.reason) for each in state.history
        ],
    )


def deployment_shape(deployment: Deployment, state: DeploymentState | None) -> DeploymentShape:
    return DeploymentShape(
        name=deployment.name,
        provider=deployment.provider,
        base_url=deployment.base_url,
        upstream_model=deployment.upstream_model,
        price_model=deployment.price_model,
        has_credential=bool(deployment.credential),
        on_disconnect=deployment.on_disconnect,
        connect_timeout_s=deployment.connect_timeout_s,
        first_token_timeout_s=deployment.first_token_timeout_s,
        answer_timeout_s=deployment.answer_timeout_s,
        idle_timeout_s=deployment.idle_timeout_s,
        state=None if state is None else _state_shape(state),
    )


async def _list_deployments(asked: Asked) -> Deployments:
    return Deployments([deployment_shape(*each) for each in asked.control.list_deployments()])


async def _drain_deployment(asked: Asked) -> DeploymentShape:
    body: Drain = asked.body
    return deployment_shape(*asked.control.drain(body.name, is_drained=body.drained))


DEPLOYMENT_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/deployments",
        "list_deployments",
        "List where calls go",
        _list_deployments,
        Deployments,
    ),
    Operation(
        "POST",
        "/deployments/drain",
        "drain_deployment",
        "Send a deployment no new calls, or again",
        _drain_deployment,
        DeploymentShape,
        body=Drain,
    ),
)
