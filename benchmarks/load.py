"""Load: closed loop by wrk, open loop by a small asyncio generator."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from machine import cpu_s, machine_busy_s, tree
from stand import LOAD_CORE, Gateway, on_core, request_body

FOREIGN_CORES_MAX = 0.08
"""CPU of strangers, in cores, above which a round is repeated."""
REPEATS_MAX = 4

WRK_SCRIPT = """
wrk.method = "POST"
wrk.path = "%s"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
%s
wrk.body = %s
done = function(summary, latency, requests)
  local e = summary.errors
  local line = 'RESULT {"calls": %%d, "failed": %%d, "p50_ms": %%.3f, "p99_ms": %%.3f}\\n'
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format(line, summary.requests, failed,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One run of wrk. `foreign_cores` is what processes that are not ours used meanwhile."""

    calls: int
    failed: int
    cpu_us_per_call: float
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    gateway_cores: float
    foreign_cores: float

    @property
    def is_clean(self) -> bool:
        return self.foreign_cores <= FOREIGN_CORES_MAX


def wrk(
    folder: Path, gateway: Gateway, *, connections: int, duration_s: int, streamed: bool
) -> Round:
    script = folder / f"wrk-{gateway.port}.lua"
    # A JSON string is a Lua string too, as long as it has no escapes of its own beyond quotes.
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in gateway.headers)
    body = json.dumps((gateway.body or request_body(streamed=streamed)).decode())
    script.write_text(WRK_SCRIPT % (gateway.path, gateway.key, headers, body))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration_s}s", "--timeout", "10s"]
    command += ["-s", str(script), f"http://127.0.0.1:{gateway.port}"]
    gateway_pids = tree(gateway.pid)
    ours = tree(os.getpid())
    gateway_before, ours_before = cpu_s(gateway_pids), cpu_s(ours)
    children_before, busy_before, started = _children_s(), machine_busy_s(), perf_counter()
    load = on_core(LOAD_CORE, command, stdout=subprocess.PIPE)
    output, _ = load.communicate(timeout=duration_s + 30)
    elapsed_s = perf_counter() - started
    gateway_s = cpu_s(gateway_pids) - gateway_before
    ours_s = cpu_s(ours) - ours_before + _children_s() - children_before
    foreign_cores = max(0.0, (machine_busy_s() - busy_before - ours_s) / elapsed_s)
    found = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise SystemExit(f"wrk failed:\n{output}")
    result = json.loads(found[0].removeprefix("RESULT "))
    if result["failed"] or not result["calls"]:
        raise SystemExit(f"{gateway.name}: {result['failed']} of {result['calls']} calls failed")
    return Round(
        calls=result["calls"],
        failed=result["failed"],
        cpu_us_per_call=gateway_s * 1e6 / result["calls"],
        calls_per_s=result["calls"] / elapsed_s,
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        gateway_cores=gateway_s / elapsed_s,
        foreign_cores=foreign_cores,
    )


def rounds_side_by_side(
    folder: Path,
    gateways: list[Gateway],
    *,
    rounds: int,
    connections: int,
    duration_s: int,
    streamed: bool,
) -> dict[str, list[Round]]:
    """Rounds of all gateways in turn. The least disturbed ones are kept, `rounds` of each."""
    done: dict[str, list[Round]] = {gateway.name: [] for gateway in gateways}
    for gateway in gateways:
        wrk(folder, gateway, connections=connections, duration_s=1, streamed=streamed)
    for turn in range(rounds + REPEATS_MAX):
        for gateway in gateways:
            if turn < rounds or sum(each.is_clean for each in done[gateway.name]) < rounds:
                done[gateway.name].append(
                    wrk(
                        folder,
                        gateway,
                        connections=connections,
                        duration_s=duration_s,
                        streamed=streamed,
                    )
                )
    return {
        name: sorted(each, key=lambda round_: round_.foreign_cores)[:rounds]
        for name, each in done.items()
    }


def latencies_ms(gateway: Gateway, *, calls_per_s: float, duration_s: float) -> list[float]:
    """Latency of every call of an open loop, counted from the moment it was due."""
    gc.collect()
    gc.disable()
    try:
        return asyncio.run(_open_loop(gateway, calls_per_s, duration_s))
    finally:
        gc.enable()


async def _open_loop(gateway: Gateway, calls_per_s: float, duration_s: float) -> list[float]:
    body = request_body(streamed=False)
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b"
    ) % (gateway.key.encode(), len(body), body)
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    measured: list[float] = []
    loop = asyncio.get_running_loop()

    async def call(due: float) -> None:
        reader, writer = (
            idle.pop() if idle else await asyncio.open_connection("127.0.0.1", gateway.port)
        )
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{gateway.name} answered {head.decode(errors='replace')}")
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if line)
        await reader.readexactly(int(fields[b"content-length"]))
        measured.append((loop.time() - due) * 1000)
        idle.append((reader, writer))

    started = loop.time()
    async with asyncio.TaskGroup() as calls:
        for number in range(int(calls_per_s * duration_s)):
            due = started + number / calls_per_s
            await asyncio.sleep(due - loop.time())
            calls.create_task(call(due))
    for _, writer in idle:
        writer.close()
    # The first calls open connections and fill caches.
    return measured[len(measured) // 10 :]


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
