"""The dialect of Gemini's API, also at Vertex: the model, and whether its answer is streamed, stand
in the path."""

from __future__ import annotations

from collections.abc import Awaitable
from urllib.parse import quote

import msgspec

from merino.domain.deployment import Deployment
from merino.gateway.ports import UpstreamRequest, UpstreamResponse
from merino.providers.openai import Auth, OpenAIProvider, OriginT, render_head
from merino.wire.gemini import NAME


def _key_header(credential: str) -> tuple[str, str]:
    return "x-goog-api-key", credential


AUTH = Auth(_key_header)


class GeminiProvider(OpenAIProvider[OriginT]):
    """As the others, with this dialect's path and header."""

    auth = AUTH

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        path = _path(request.deployment, streamed=request.streamed)
        query = b"alt=sse" if request.streamed else b""
        return super().send(msgspec.structs.replace(request, endpoint=path, query=query))


def check_deployment(deployment: Deployment) -> None:
    """Raise `Misconfigured` if calls could not be sent to this deployment."""
    render_head(deployment, _path(deployment, streamed=False), auth=AUTH)


def _path(deployment: Deployment, *, streamed: bool) -> str:
    method = "streamGenerateContent" if streamed else NAME
    model = deployment.upstream_model
    place = quote(model) if "/" in model else f"models/{quote(model)}"
    return f"{place}:{method}"
