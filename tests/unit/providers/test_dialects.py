"""A dialect is a file and a line: a made-up one is asked like any other."""

from __future__ import annotations

import asyncio
from typing import Any, cast, get_args, get_type_hints

from tests.unit.gateway.test_lost_hedges import Stream
from tests.unit.gateway.test_pipeline import World

from merino.domain.deployment import Deployment
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.ports import UpstreamRequest
from merino.providers.dialects import DIALECTS, Dialect, speakers
from merino.settings.sections.deployments import DeploymentSettings


class Reversed:
    """A vendor who wants every body backwards, and answers so."""

    def __init__(self, client: Any, origin_of: Any) -> None:
        self.client, self.origin_of = client, origin_of

    async def send(self, request: UpstreamRequest, /) -> Any:
        origin = self.origin_of("https", "backwards.example", 443)
        return await self.client.send(origin, request.body[::-1], connect_timeout_s=1.0)

    async def ping(self, deployment: Deployment) -> int:
        return 200


class Client:
    def __init__(self) -> None:
        self.sent = []

    async def send(self, origin: Any, data: bytes, *, connect_timeout_s: float) -> Any:
        self.sent.append((origin, data))
        answer: Any = Stream(ends=True)
        answer.headers = ((b"content-type", b"application/json"),)
        body = b'{"choices":[{"message":{"role":"assistant","content":"oh"}}]}'
        answer.whole = lambda bytes_max: body
        return answer


def test_a_made_up_dialect_is_asked_like_any_other() -> None:
    """Its speaker gets the client and what makes origins, and the pipeline asks it."""
    client, world = Client(), World("plain")
    made_up = {"simulator": Dialect(cast("Any", Reversed), lambda deployment: None)}
    spoken = speakers(client, lambda *address: address, made_up)
    world.pipeline._attempts = Attempts(spoken, world.fleet, RetryPolicy())
    reply = world.run()
    assert reply.error is None
    origin, body = client.sent[0]
    assert ("https", "backwards.example", 443) == origin
    assert body[::-1].startswith(b'{"model":"plain"')
    assert 200 == asyncio.run(spoken["simulator"].ping(world.alias.deployments[0]))


def test_the_settings_offer_every_dialect_and_no_other() -> None:
    """What may be written is what can be spoken; the simulator is a house of its own."""
    offered = get_args(get_type_hints(DeploymentSettings)["provider"])
    assert {*DIALECTS, "simulator"} == {*offered}
