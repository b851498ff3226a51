"""The dialects of Anthropic and of Gemini: what leaves for an upstream."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from merino.domain.deployment import Deployment
from merino.domain.errors import Misconfigured
from merino.gateway.ports import UpstreamRequest
from merino.providers.anthropic import AnthropicProvider
from merino.providers.dialects import DIALECTS
from merino.providers.gemini import GeminiProvider

CLAUDE = Deployment("c", "anthropic", "m", base_url="https://api.example.com/v1", credential="k")
GEMINI = Deployment(
    "g", "gemini", "gemini-3", base_url="https://g.example.com/v1beta", credential="k"
)


class Client:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent = b""

    async def send(self, _origin, data: bytes, *, connect_timeout_s: float):
        self.sent = data


def head_of(provider_of, deployment: Deployment, **asked) -> list[str]:
    client = Client()
    provider = provider_of(client, lambda *origin: origin)
    request = UpstreamRequest("call", asked.pop("endpoint", "messages"), b"{}", deployment, **asked)
    asyncio.run(provider.send(request))
    head, _, body = client.sent.decode().partition("\r\n\r\n")
    assert "{}" == body
    return head.split("\r\n")


def test_a_key_of_its_own_header_and_a_version() -> None:
    """The version is the caller's, else the deployment's, else the one that takes most."""
    head = head_of(AnthropicProvider, CLAUDE)
    assert "POST /v1/messages HTTP/1.1" == head[0]
    assert {"x-api-key: k", "anthropic-version: 2023-06-01"} <= set(head)
    assert not any(line.startswith("authorization") for line in head)
    passed = ((b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"a,b"))
    head = head_of(AnthropicProvider, CLAUDE, passed=passed, query=b"beta=true")
    assert "POST /v1/messages?beta=true HTTP/1.1" == head[0]
    assert {"anthropic-version: 2026-10-21", "anthropic-beta: a,b"} <= set(head)
    own = replace(CLAUDE, headers=(("anthropic-beta", "own"), ("anthropic-version", "v")))
    head = head_of(AnthropicProvider, own, passed=passed)
    assert {"anthropic-version: v", "anthropic-beta: own,a,b"} <= set(head)


@pytest.mark.parametrize(
    ("model", "streamed", "target"),
    [
        ("gemini-3", False, "/v1beta/models/gemini-3:generateContent"),
        ("gemini-3", True, "/v1beta/models/gemini-3:streamGenerateContent?alt=sse"),
        ("tunedModels/mine", False, "/v1beta/tunedModels/mine:generateContent"),
        ("a b", False, "/v1beta/models/a%20b:generateContent"),
    ],
)
def test_the_model_is_in_the_path(model, streamed, target) -> None:
    """And whether the answer is streamed; the key has a header of its own."""
    deployment = replace(GEMINI, upstream_model=model)
    head = head_of(GeminiProvider, deployment, endpoint="generateContent", streamed=streamed)
    assert f"POST {target} HTTP/1.1" == head[0]
    assert "x-goog-api-key: k" in head


@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_a_credential_that_cannot_be_sent_is_found_before_any_call(name) -> None:
    """As in the other dialects."""
    deployment = replace(CLAUDE, provider=name, credential="a\nb")
    with pytest.raises(Misconfigured, match="credential"):
        DIALECTS[name].check(deployment)
