"""When a drill lets the simulator answer, and who is told to have answered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from merino.domain.deployment import Deployment
from merino.gateway.ports import UpstreamRequest
from merino.simulator import drill as drills
from merino.simulator.drill import Drill, DrilledProvider

REAL = Deployment("east", "openai", "o3", "https://api.example.org/v1", credential="sk-secret")


class Taker:
    """Takes requests and says nothing."""

    def __init__(self) -> None:
        self.taken: list[UpstreamRequest] = []

    async def send(self, request: UpstreamRequest) -> Any:
        self.taken.append(request)


class World:
    def __init__(self, *planned: Drill, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(drills, "monotonic", lambda: self.now)
        self.real, self.simulator = Taker(), Taker()
        self.provider = DrilledProvider(self.real, self.simulator, planned)

    def ask(self, deployment: Deployment = REAL) -> UpstreamRequest:
        request = UpstreamRequest("call", "chat/completions", b'{"model":"o3"}', deployment)

        async def sent() -> None:
            await self.provider.send(request)

        asyncio.run(sent())
        return request


def test_a_drill_keeps_its_time(monkeypatch) -> None:
    """It runs from `after_s` on, until it ends, for its own deployment only."""
    world = World(Drill("east", "cut", after_s=10, until_s=40), monkeypatch=monkeypatch)
    for now, is_drilled in ((0, False), (9.9, False), (10, True), (39.9, True), (40, False)):
        world.now = now
        assert is_drilled == (REAL is not world.ask().deployment)
    world.now = 20
    other = Deployment("west", "openai", "o3")
    assert other is world.ask(other).deployment
    assert (4, 2) == (len(world.real.taken), len(world.simulator.taken))


def test_a_share_of_the_calls(monkeypatch) -> None:
    """So many of them, by chance, and the same ones each time."""
    runs = []
    for _ in range(2):
        world = World(Drill("east", "cut", share=0.25), monkeypatch=monkeypatch)
        runs.append([REAL is not world.ask().deployment for _ in range(400)])
    assert runs[0] == runs[1]
    assert 70 <= sum(runs[0]) <= 130


@pytest.mark.parametrize(
    ("provider", "is_charged", "is_free"),
    [("openai", False, True), ("openai", True, False), ("simulator", False, True)],
)
def test_who_answers_is_told(monkeypatch, provider, is_charged, is_free) -> None:
    """The simulator under the deployment's name, without its credential; free unless the drill
    says otherwise."""
    world = World(Drill("east", "status=500", is_charged=is_charged), monkeypatch=monkeypatch)
    request = world.ask(Deployment("east", provider, "o3!ttft=1s", credential="sk-secret"))
    answering = request.deployment
    assert ("east", "simulator", "o3!status=500", "", is_free) == (
        answering.name,
        answering.provider,
        answering.upstream_model,
        answering.credential,
        answering.is_free,
    )
    assert {"model": "o3!status=500"} == json.loads(request.body)
