"""Failure drills: deployments that fail on schedule, so that operators can watch the relay cope.

A drill file is TOML::

    [[drill]]
    deployment = "openai-o3"
    fault = "status=500"     # options of the simulator, as after the ! of a simulated model
    after_s = 10             # from the start of the relay; 0 if left out
    for_s = 30               # until it stops if left out
    share = 1.0              # of the calls; all if left out
    charged = false          # whether accounts pay for simulated answers as for real ones
"""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, cast

import msgspec

from merino.domain.chance import chance_of
from merino.domain.errors import Misconfigured
from merino.gateway.ports import Provider, UpstreamRequest, UpstreamResponse
from merino.simulator.options import OptionError, Options, parse_options

_KEYS = {"deployment", "fault", "after_s", "for_s", "share", "charged"}


@dataclass(frozen=True, slots=True)
class Drill:
    """`deployment` fails as `fault` says from `after_s` to `until_s` after the start. Its simulated
    answers are paid for like real ones if `is_charged`, else by nobody."""

    deployment: str
    fault: str
    after_s: float = 0.0
    until_s: float = float("inf")
    share: float = 1.0
    is_charged: bool = False


def load_drills(path: Path, deployments: Sequence[str]) -> list[Drill]:
    """Raises `Misconfigured` that says what is wrong where."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: {error}") from None
    listed: object = document.get("drill")
    if not isinstance(listed, list) or not listed or set(document) != {"drill"}:
        raise Misconfigured(f"{path}: write one or more [[drill]] tables, and nothing else")
    return [
        _drill(each, f"{path}: drill {number}", deployments)
        for number, each in enumerate(cast("list[object]", listed), 1)
    ]


def _drill(table: object, where: str, deployments: Sequence[str]) -> Drill:
    if not isinstance(table, dict):
        raise Misconfigured(f"{where}: write it as a [[drill]] table")
    given = cast("dict[str, Any]", table)
    if unknown := set(given) - _KEYS:
        raise Misconfigured(
            f"{where}: unknown key {min(unknown)!r}; known: {', '.join(sorted(_KEYS))}"
        )
    name, fault = given.get("deployment"), given.get("fault")
    if name not in deployments:
        raise Misconfigured(
            f"{where}: deployment = {name!r}: there is none of this name; there are: "
            f"{', '.join(deployments[:20])}"
        )
    if not isinstance(fault, str):
        raise Misconfigured(f'{where}: fault: missing; write e.g. fault = "status=500"')
    try:
        parse_options(fault, Options())
    except OptionError as error:
        raise Misconfigured(f"{where}: fault = {fault!r}: {error}") from None
    is_charged = given.get("charged", False)
    if not isinstance(is_charged, bool):
        raise Misconfigured(f"{where}: charged = {is_charged!r}: expected true or false")
    numbers: dict[str, float] = {}
    for key, low, high in (("after_s", 0, 1e9), ("for_s", 0, 1e9), ("share", 0, 1)):
        value = given.get(key)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise Misconfigured(
                f"{where}: {key} = {value!r}: expected a number from {low} to {high:g}"
            )
        numbers[key] = float(value)
    after_s = numbers.get("after_s", 0.0)
    return Drill(
        deployment=str(name),
        fault=fault,
        after_s=after_s,
        until_s=after_s + numbers["for_s"] if "for_s" in numbers else float("inf"),
        share=numbers.get("share", 1.0),
        is_charged=is_charged,
    )


class DrilledProvider:
    """A provider whose calls go to the simulator instead while a drill of their deployment runs.
    Who answers such a call is told by the request's deployment: the simulator, for the real one."""

    def __init__(self, real: Provider, simulator: Provider, drills: Sequence[Drill]) -> None:
        self._real = real
        self._simulator = simulator
        self._drills = drills
        self._started_s = monotonic()
        self._chance = chance_of(0)

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        elapsed_s = monotonic() - self._started_s
        for drill in self._drills:
            if drill.deployment != request.deployment.name:
                continue
            if not drill.after_s <= elapsed_s < drill.until_s:
                continue
            if drill.share < 1.0 and self._chance.random() >= drill.share:
                continue
            _divert(request, drill)
            return self._simulator.send(request)
        return self._real.send(request)


def _divert(request: UpstreamRequest, drill: Drill) -> None:
    """Make it a request for a simulated model that fails as the drill says."""
    real = request.deployment
    model = f"{real.upstream_model.partition('!')[0]}!{drill.fault}"
    fields = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    request.body = msgspec.json.encode(fields)
    request.deployment = replace(
        real,
        provider="simulator",
        upstream_model=model,
        credential="",
        is_free=not drill.is_charged,
    )
