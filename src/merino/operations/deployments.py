"""Deployments: where calls go."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from msgspec import Struct

from merino.domain.deployment import BreakerChange, Deployment, DeploymentState
from merino.operations.fields import In
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations

if TYPE_CHECKING:
    from merino.control.control import Control


@shows(BreakerChange)
class BreakerChangeShape(Struct):
    at: str
    state: str
    reason: str


@shows(DeploymentState)
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


_SET = "as the settings file says it; nothing of it changes while calls run"


@shows(
    Deployment,
    hidden={
        **dict.fromkeys(("headers", "weight", "limits", "adaptive_concurrency"), _SET),
        **dict.fromkeys(("health_check_s", "limit_naming", "endpoints"), _SET),
        **dict.fromkeys(("picture_tokens_max", "file_tokens_max"), _SET),
        "is_free": "a drill's own",
    },
    has_credential="credential",
)
class DeploymentShape(Struct):
    name: str
    provider: str
    base_url: str
    upstream_model: str
    price_model: str
    has_credential: bool
    source: str
    """The settings file, the environment, added by an operator, or built in."""
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


def shown_deployment(control: Control, name: str) -> DeploymentShape:
    [found] = [each for each in control.list_deployments() if each[0].name == name]
    return _shown(control, *found)


def _shown(
    control: Control, deployment: Deployment, state: DeploymentState | None
) -> DeploymentShape:
    return shown(
        DeploymentShape,
        deployment,
        source=control.source_of("deployment", deployment.name),
        has_credential=bool(deployment.credential),
        state=None if state is None else _state(state),
    )


def _state(state: DeploymentState) -> DeploymentStateShape:
    return shown(
        DeploymentStateShape,
        state,
        usable_in_s=round(state.usable_in_s, 3) if isfinite(state.usable_in_s) else None,
        first_token_s=round(state.first_token_s, 4),
    )


OPERATIONS = Operations()


@OPERATIONS.get("/deployments", "List where calls go")
async def list_deployments(asked: Asked) -> Deployments:
    return Deployments([_shown(asked.control, *each) for each in asked.control.list_deployments()])


@OPERATIONS.post("/deployments/drain", "Send a deployment no new calls, or again")
async def drain_deployment(asked: Asked, body: Drain) -> DeploymentShape:
    return _shown(asked.control, *asked.control.drain(body.name, is_drained=body.drained))
