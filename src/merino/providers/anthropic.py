"""The dialect of Anthropic's API and of servers that are compatible with it: the key has a header
of its own, and callers say which version and which betas of the API they mean."""

from __future__ import annotations

from merino.domain.deployment import Deployment
from merino.providers.openai import Auth, OpenAIProvider, OriginT, render_head

VERSION = "2023-06-01"
"""Of the API, if the caller does not say which: also of what is carried over from other dialects.
The newer one takes no `temperature`."""


def _key_header(credential: str) -> tuple[str, str]:
    return "x-api-key", credential


AUTH = Auth(_key_header, {"anthropic-version": VERSION})


class AnthropicProvider(OpenAIProvider[OriginT]):
    """As the other, with this dialect's headers."""

    auth = AUTH


def check_deployment(deployment: Deployment) -> None:
    """Raise `Misconfigured` if calls could not be sent to this deployment."""
    render_head(deployment, "messages", auth=AUTH)
