"""`make bench-dialects`: what a stream of 50 events costs in the Responses API, beside a chat's.

    python benchmarks/dialects.py [--rounds 9] [--seconds 3]

Four kinds of stream go through one relay on one core, in turn, behind the same load: a chat and a
response that go out as they came, and each where its upstream has only the other API, so that it is
carried over. The figure is the median of the ratios of neighbouring rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import quantiles

import stand
from load import wrk
from machine import describe
from stand import Gateway, relay_gateway, request_body, streaming_upstream

RATIO_MAX = 1.3
"""Of a response to a chat, both as they came."""
CONNECTIONS = 64
DEPLOYMENT = """
[[deployments]]
name = "only-{name}"
base_url = "http://127.0.0.1:{{upstream_port}}/v1"
credential = "env:MOCK_CREDENTIAL"
upstream_model = "o3"
endpoints = ["{endpoint}"]
[aliases.only-{name}]
deployments = ["only-{name}"]
"""
APIS = {"chat": "chat/completions", "responses": "responses"}


def _body(api: str, upstream: str) -> bytes:
    chat = json.loads(request_body(streamed=True)) | {"model": f"only-{upstream}"}
    if api == "responses":
        chat["input"], chat["max_output_tokens"] = (
            chat.pop("messages"),
            chat.pop("max_completion_tokens"),
        )
        del chat["stream_options"]
    return json.dumps(chat, separators=(",", ":")).encode()


@contextmanager
def kinds(folder: Path) -> Iterator[list[Gateway]]:
    """The kinds of stream, all of one relay; the chat that all are compared with comes first."""
    relay = stand.RELAY
    for name, endpoint in APIS.items():
        relay += DEPLOYMENT.format(name=name, endpoint=endpoint)
    stand.RELAY = relay
    with streaming_upstream() as port, relay_gateway(folder, port) as gateway:
        yield [
            replace(gateway, name=name, path=f"/v1/{APIS[api]}", body=_body(api, upstream))
            for name, api, upstream in (
                ("a chat", "chat", "chat"),
                ("a response", "responses", "responses"),
                ("a response, carried over a chat", "responses", "chat"),
                ("a chat, carried over a response", "chat", "responses"),
            )
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    print(describe())
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="merino-dialects-") as name, kinds(Path(name)) as each:
        for turn in range(options.rounds + 1):
            took: dict[str, float] = {}
            for kind in each if turn % 2 else reversed(each):
                took[kind.name] = wrk(
                    Path(name),
                    kind,
                    connections=CONNECTIONS,
                    duration_s=options.seconds,
                    streamed=True,
                ).cpu_us_per_call
            if turn:  # the first round fills caches
                for kind, us in took.items():
                    found.setdefault(kind, []).append(us / took[each[0].name])
                    found.setdefault(f"{kind}, us", []).append(us)
    is_kept = True
    for kind in each:
        low, middle, high = quantiles(found[kind.name], n=4)
        us = quantiles(found[f"{kind.name}, us"], n=4)[1]
        bar = ""
        if kind.name == "a response":
            is_kept = middle <= RATIO_MAX
            bar = f", bar {RATIO_MAX}"
        print(
            f"{kind.name}: {us:.0f} us, {middle:.2f} times a chat "
            f"(quartiles {low:.2f} to {high:.2f}, {options.rounds} rounds{bar})"
        )
    return 0 if is_kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
