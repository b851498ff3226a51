"""`make bench-paired`: what a call costs now, beside an earlier commit in the same run.

    python benchmarks/paired.py [--before HEAD~1] [--rounds 9] [--seconds 3]

Both relays run on one core, in turn, behind the same load. The figure is the median of the ratios
of neighbouring rounds, so that a machine whose speed drifts says the same of both.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from load import wrk
from machine import describe
from stand import json_upstream, relay_gateway, streaming_upstream

HERE = Path(__file__).resolve().parent.parent
RATIO_MAX = 1.05


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """The sources of a revision, in a folder of their own."""
    sources = folder / "before"
    sources.mkdir()
    packed = subprocess.run(
        ["git", "-C", str(HERE), "archive", revision, "src"], check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(sources)], input=packed.stdout, check=True)
    yield sources / "src"


def ratios(folder: Path, before: Path, port: int, *, streamed: bool, options) -> list[float]:
    kind = "stream" if streamed else "json"
    with (
        relay_gateway(folder, port, data=f"{kind}-then", sources=before) as then,
        relay_gateway(folder, port, data=f"{kind}-now") as now,
    ):
        found: list[float] = []
        for turn in range(options.rounds + 1):
            one, other = (
                wrk(
                    folder,
                    gateway,
                    connections=64 if streamed else 32,
                    duration_s=options.seconds,
                    streamed=streamed,
                ).cpu_us_per_call
                for gateway in ((now, then) if turn % 2 else (then, now))
            )
            if turn:  # the first round fills caches
                found.append(one / other if turn % 2 else other / one)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="HEAD~1", help="a commit, tag or branch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    print(describe())
    is_kept = True
    with (
        tempfile.TemporaryDirectory(prefix="merino-paired-") as name,
        checkout(options.before, Path(name)) as before,
        json_upstream(Path(name)) as plain,
        streaming_upstream() as streaming,
    ):
        for what, port, streamed in (
            ("1 KB JSON call", plain, False),
            ("50-chunk stream", streaming, True),
        ):
            found = ratios(Path(name), before, port, streamed=streamed, options=options)
            low, middle, high = quantiles(found, n=4)
            is_kept &= median(found) <= RATIO_MAX
            print(
                f"{what}: CPU now / {options.before} = {middle:.3f} "
                f"(quartiles {low:.3f} to {high:.3f}, {len(found)} pairs, bar {RATIO_MAX})"
            )
    return 0 if is_kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
