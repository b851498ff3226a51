"""What to do when an upstream model refuses a parameter: mend the request, and remember.

Which model takes what is never looked up in a list of names: the upstream says it.
"""

from __future__ import annotations

from merino.domain.deployment import Deployment
from merino.domain.errors import UpstreamRefused
from merino.wire.request import Fields, ModelRequest

REMEMBERED_S = 3600.0
MODELS_MAX = 1000

_CODES = frozenset(("unsupported_parameter", "unsupported_value", "unknown_parameter"))

_DISPENSABLE = frozenset(
    (
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "stream_options",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    )
)
"""Parameters an answer can do without. What shapes the answer (`tools`, `response_format`, `n`,
`stop`) is not among them: dropping it would answer another question."""


class Parameters:
    """Parameters that upstream models refused, by deployment and upstream model."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], dict[str, float]] = {}

    @property
    def has_any(self) -> bool:
        """Whether anything was refused that is remembered."""
        return bool(self._refused)

    def learn(
        self, error: UpstreamRefused, deployment: Deployment, request: ModelRequest, now: float
    ) -> bool:
        """Whether the request can be mended so that this deployment may take it."""
        name = error.param
        if error.status != 400 or error.code not in _CODES or name is None:
            return False
        if name not in request.fields or name not in _DISPENSABLE:
            return False
        refused = self._of(deployment)
        if name in refused and refused[name] > now:
            return False  # it was mended, and that did not help
        refused[name] = now + REMEMBERED_S
        return True

    def mended(
        self, request: ModelRequest, deployment: Deployment, now: float
    ) -> tuple[Fields, list[str]] | None:
        """The fields to send to this deployment and what was changed; `None` if nothing was."""
        refused = self._refused.get((deployment.name, deployment.upstream_model))
        if not refused:
            return None
        fields: Fields = request.fields
        changed: list[str] = []
        for name, until in refused.items():
            if until <= now or name not in fields:
                continue
            if not changed:
                fields = fields.copy()
            del fields[name]
            changed.append(f"{name} removed")
        return (fields, changed) if changed else None

    def _of(self, deployment: Deployment) -> dict[str, float]:
        if len(self._refused) >= MODELS_MAX:
            self._refused.clear()
        return self._refused.setdefault((deployment.name, deployment.upstream_model), {})
