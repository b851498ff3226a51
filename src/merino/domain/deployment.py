"""Where calls go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from merino.domain.limits import NO_LIMITS, Limits

OnDisconnect = Literal["cancel", "drain"]
SelectionPolicyName = Literal[
    "priority", "round_robin", "weighted", "least_busy", "fastest", "cheapest"
]

LimitNaming = Literal["both", "as_sent", "max_tokens", "max_completion_tokens"]
"""Under which names a deployment is sent the output limit. `both`: which of them it obeys is not
known. `as_sent`: it refuses what it does not obey, so that the caller's own name will do."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One concrete place to send a call: provider, base URL, upstream model, credential.

    `provider` names the dialect (`openai`, `simulator`); `price_model` the name looked up in the
    price book. `credential` never shows in `repr`. Durations in seconds.
    """

    name: str
    provider: str
    upstream_model: str
    base_url: str = ""
    credential: str = field(default="", repr=False)
    price_model: str = ""
    on_disconnect: OnDisconnect = "cancel"
    connect_timeout_s: float = 5.0
    first_token_timeout_s: float = 300.0
    answer_timeout_s: float = 0.0
    idle_timeout_s: float = 60.0
    headers: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    limits: Limits = NO_LIMITS
    adaptive_concurrency: bool = False
    health_check_s: float = 0.0
    limit_naming: LimitNaming = "both"
    picture_tokens_max: int = 0
    """The most that one picture is billed for; 0: what is known of its model's family."""
    file_tokens_max: int = 0
    """The most that one document, video or file by id is billed for; 0: the whole context."""
    endpoints: tuple[str, ...] = ()
    """The APIs it has, by their paths; empty: that is learned of what it refuses."""
    is_free: bool = False
    """Nobody pays for its answers: the simulator stands in for it during a drill."""


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """One change of a breaker's state, by the wall clock."""

    at_ms: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """What is known of a deployment now. `breaker` is `closed`, `open` or `half_open`, `reason`
    says why; `usable_in_s` is 0 while it takes calls, infinity while only an operator can help.
    `first_token_s` is the recent time to first content, 0 while unknown. `history` is that of the
    breaker, the newest last."""

    breaker: str
    reason: str
    usable_in_s: float
    is_drained: bool
    in_flight: int
    concurrency_limit: int | None
    first_token_s: float
    history: tuple[BreakerChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Alias:
    """The model name callers send, its deployments in order of priority, and its token ceilings.

    `output_tokens_max` is the most one answer may have, also when the caller sets no limit;
    `context_tokens_max` bounds input plus output. `reasoning` marks models that think unseen.
    """

    name: str
    deployments: tuple[Deployment, ...]
    output_tokens_max: int = 16_384
    context_tokens_max: int = 128_000
    reasoning: bool = False
    timeout_s: float = 600.0
    selection_policy: SelectionPolicyName = "priority"
    standins: tuple[Deployment, ...] = ()
    """Deployments of its fallback aliases, tried when its own are of no use."""
    limits: Limits = NO_LIMITS
    hedging: bool = False
    session_affinity: bool = False
