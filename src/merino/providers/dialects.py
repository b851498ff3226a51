"""The dialects that deployments may speak, the simulator's aside: a file each, and a line here.

The name of each stands in the settings' literal as well (`settings/sections/deployments.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from merino.domain.deployment import Deployment
from merino.gateway.health_checks import Pingable
from merino.gateway.ports import Keeper, Provider
from merino.providers import anthropic, gemini
from merino.providers.openai import HttpClient, OpenAIProvider, check_deployment

OriginOf = Callable[[str, str, int], Any]
"""The client's origin of scheme, host and port."""


class Speaker(Provider, Pingable, Keeper, Protocol):
    """What asks upstreams in one dialect, for answers and for how they are."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """`check` raises `Misconfigured` if calls could not be sent to a deployment."""

    speaker: Callable[[HttpClient[Any], OriginOf], Speaker]
    check: Callable[[Deployment], None]


DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(OpenAIProvider, check_deployment),
    "anthropic": Dialect(anthropic.AnthropicProvider, anthropic.check_deployment),
    "gemini": Dialect(gemini.GeminiProvider, gemini.check_deployment),
}


def speakers(
    client: HttpClient[Any], origin_of: OriginOf, dialects: Mapping[str, Dialect] = DIALECTS
) -> dict[str, Speaker]:
    """One of each dialect, by its name."""
    return {name: each.speaker(client, origin_of) for name, each in dialects.items()}
