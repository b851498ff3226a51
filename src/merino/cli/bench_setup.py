"""What a command line of `merino bench` comes to: targets, scenario, objectives, prices, loads."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, TypeVar

import click
import msgspec

from merino.bench.arrivals import arrivals, replayed
from merino.bench.caller import CallerPolicy
from merino.bench.generator import Load
from merino.bench.run import LoadMaker, Setup
from merino.bench.scenario import BadScenario, load_scenario
from merino.bench.slo import OF_STREAMS, Objective, parse_objectives
from merino.bench.targets import parse_target
from merino.cli.offline_prices import OfflinePrices
from merino.domain.errors import Misconfigured
from merino.domain.money import parse_nanos
from merino.wire.chat import CHAT
from merino.wire.responses import RESPONSES

T = TypeVar("T")
_WARMUP = 10

APIS = {"chat": CHAT.name, "responses": RESPONSES.name}
_TOLD = (
    "scenario", "api", "rate", "arrival_kind", "concurrency", "duration", "requests",
    "is_streamed", "max_output_tokens", "slo", "max_cost", "timeout", "retries", "seed",
    "same_prompts",
)  # fmt: skip
"""The options that a result shows."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def setup_of(options: dict[str, Any]) -> Setup:
    targets = [parsed(parse_target, text, "--target") for text in options["targets"]]
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise click.UsageError("--target: every target needs a name of its own")
    try:
        scenario = load_scenario(options["scenario"])
    except BadScenario as error:
        raise click.UsageError(f"--scenario: {error}") from None
    if options["parquet"]:
        if options["out"] is None:
            raise click.UsageError("--parquet writes into the folder of --out; give one")
        if find_spec("pyarrow") is None:
            raise Misconfigured("--parquet needs: pip install 'merino[parquet]'") from None
    max_cost = options["max_cost"]
    if max_cost is not None:
        max_cost = parsed(parse_nanos, max_cost, "--max-cost")
    prices = OfflinePrices(options["price"])
    if max_cost is not None:
        for target in targets:
            if prices.of(target.model) is None:
                raise Misconfigured(
                    f"--max-cost needs a price, and the book has none for {target.model!r}; give "
                    "--price input,output (per million tokens)"
                )
    url = f"/v1/{APIS[options['api']]}"
    objectives = objectives_of(options["slo"])
    for each in objectives:
        if each.metric in OF_STREAMS and not options["is_streamed"]:
            raise click.UsageError(
                f"--slo: {each.name} is of streams; leave out --no-stream, or bound e2e_ms"
            )
    return Setup(
        command=_told_command(),
        shown={name: options[name] for name in _TOLD if options.get(name) is not None},
        scenario=scenario,
        targets=targets,
        objectives=objectives,
        policy=CallerPolicy(
            is_streamed=options["is_streamed"],
            timeout_s=options["timeout"],
            retries=options["retries"],
            api=APIS[options["api"]],
        ),
        cost_of=lambda model, tier, used: prices.cost_nanos({"model": model}, used, tier),
        worst_nanos=lambda body: prices.worst_nanos(url, _decode(body)) or 0,
        max_cost_nanos=max_cost,
        output_tokens_max=options["max_output_tokens"],
        seed=options["seed"],
        same_prompts=options["same_prompts"],
    )


def _told_command() -> list[str]:
    """The command line, which has no secrets: keys are named by their variables."""
    return ["merino", *(shlex.quote(argument) for argument in sys.argv[1:])]


def warmup_of(options: dict[str, Any]) -> int:
    """One for each caller at least, so that none of them opens its connection in a call that
    counts."""
    given: int | None = options["warmup"]
    return max(_WARMUP, options.get("concurrency") or 0) if given is None else given


def load_maker(options: dict[str, Any]) -> LoadMaker:
    """Makes a load as the options say: a schedule can be used once."""
    rate, concurrency, kind = options["rate"], options["concurrency"], options["arrival_kind"]
    if (rate is not None) + (concurrency is not None) + (kind == "trace") != 1:
        raise click.UsageError(
            "give one of --rate (open loop), --concurrency (closed loop) or --arrivals trace"
        )
    duration, requests = options["duration"], options["requests"]
    if duration is None and requests is None and kind != "trace":
        duration = 60.0
    load = Load(
        concurrency=concurrency or 1,
        requests=requests,
        duration_s=duration,
        warmup=0 if kind == "trace" else warmup_of(options),
    )

    def make() -> Load:
        if kind == "trace":
            moments = load_scenario(options["scenario"]).timestamps_ms
            if moments is None:
                raise click.UsageError("--arrivals trace needs a .jsonl scenario with timestamps")
            return replace(load, arrivals=replayed(moments, options["trace_speed"]))
        if rate is not None:
            return replace(load, arrivals=arrivals(rate, kind, options["seed"]))
        return load

    return make


def objectives_of(text: str | None) -> tuple[Objective, ...]:
    return () if not text else parsed(parse_objectives, text, "--slo")


def parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
