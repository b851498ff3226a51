"""What a call costs through a peer, beside the relay and nginx in the same run.

    python -m venv peers && peers/bin/pip install 'litellm[proxy]'
    npm install --prefix peers @portkey-ai/gateway
    python benchmarks/peers.py --litellm peers/bin/litellm \\
        --portkey peers/node_modules/@portkey-ai/gateway/build/start-server.js

Each runs as its documentation starts it, in one process. They do less for a call here than the
relay: LiteLLM has no database and keeps no spend, Portkey's gateway knows neither keys nor money.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from load import rounds_side_by_side
from machine import describe
from stand import (
    GATEWAY_CORE,
    LOAD_CORE,
    Gateway,
    free_port,
    json_upstream,
    nginx_gateway,
    on_core,
    relay_gateway,
    stopping,
    streaming_upstream,
    wait_for_port,
)

START_TIMEOUT_S = 120.0
LITELLM = """
model_list:
  - model_name: o3
    litellm_params:
      model: openai/o3
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: sk-mock
general_settings:
  master_key: sk-benchmark
"""


@contextmanager
def litellm_gateway(command: str, folder: Path, upstream_port: int) -> Iterator[Gateway]:
    config = folder / f"litellm-{upstream_port}.yaml"
    config.write_text(LITELLM.format(upstream_port=upstream_port))
    port = free_port()
    arguments = [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with (folder / "litellm.log").open("a") as log:
        process = on_core(
            GATEWAY_CORE,
            [*arguments, "--num_workers", "1", "--telemetry", "False"],
            stdout=log,
            stderr=log,
            env=environment,
        )
    with stopping(process):
        wait_for_port(port, process, timeout_s=START_TIMEOUT_S)
        yield Gateway("LiteLLM", port, process.pid, "sk-benchmark")


@contextmanager
def portkey_gateway(script: str, folder: Path, upstream_port: int) -> Iterator[Gateway]:
    port = free_port()
    with (folder / "portkey.log").open("a") as log:
        process = on_core(
            GATEWAY_CORE, ["node", script, f"--port={port}", "--headless"], stdout=log, stderr=log
        )
    with stopping(process):
        wait_for_port(port, process)
        upstream = ("x-portkey-custom-host", f"http://127.0.0.1:{upstream_port}/v1")
        headers = (("x-portkey-provider", "openai"), upstream)
        yield Gateway("Portkey", port, process.pid, "sk-mock", headers)


@contextmanager
def gateways(
    options: argparse.Namespace, folder: Path, *, streamed: bool
) -> Iterator[list[Gateway]]:
    with ExitStack() as stack:
        port = stack.enter_context(streaming_upstream() if streamed else json_upstream(folder))
        found = [
            stack.enter_context(nginx_gateway(folder, port)),
            stack.enter_context(relay_gateway(folder, port, data=f"data-{streamed}")),
        ]
        if options.portkey and not streamed:  # its 1.15.2 answers streams of the mock with 500
            found.append(stack.enter_context(portkey_gateway(options.portkey, folder, port)))
        if options.litellm:
            found.append(stack.enter_context(litellm_gateway(options.litellm, folder, port)))
        yield found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--litellm", metavar="COMMAND", help="its command")
    parser.add_argument("--portkey", metavar="SCRIPT", help="its start-server.js")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    print(describe())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, streamed, connections in (
            ("1 KB JSON call", False, 32),
            ("50-chunk stream", True, 8),
        ):
            with gateways(options, folder, streamed=streamed) as found:
                done = rounds_side_by_side(
                    folder,
                    found,
                    rounds=options.rounds,
                    connections=connections,
                    duration_s=options.seconds,
                    streamed=streamed,
                )
            for gateway, rounds in done.items():
                cpu_us = median(each.cpu_us_per_call for each in rounds)
                rate = median(each.calls_per_s for each in rounds)
                p50, p99 = (
                    median(getattr(each, f"{name}_ms") for each in rounds)
                    for name in ("p50", "p99")
                )
                print(
                    f"{what:16} {gateway:18} {cpu_us:10,.0f} us CPU {rate:10,.0f} calls/s"
                    f"  p50 {p50:8.2f} ms  p99 {p99:8.2f} ms"
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
