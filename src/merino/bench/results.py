"""A run on the disk: `result.json` with every figure, `samples.jsonl` with every call."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from merino import __version__
from merino.bench.compare import Difference
from merino.bench.samples import CallSample
from merino.bench.summary import Summary
from merino.bench.sweep import Step

SCHEMA = 1
RESULT = "result.json"
SAMPLES = "samples.jsonl"
_encode = msgspec.json.Encoder().encode


class TargetShown(msgspec.Struct, kw_only=True):
    """A target as it may be told: without its key."""

    name: str
    base_url: str
    model: str


class Result(msgspec.Struct, kw_only=True):
    """`kind`: latency, throughput, sweep or compare. `why_invalid` lists what speaks against
    believing the figures; empty for a valid run."""

    schema: int = SCHEMA
    kind: str
    merino_version: str = __version__
    at: str
    machine: str
    python: str
    command: list[str]
    settings: dict[str, Any]
    targets: list[TargetShown]
    loop: str
    """``open`` or ``closed``."""
    why_invalid: list[str] = []
    summaries: list[Summary] = []
    differences: list[Difference] = []
    steps: list[Step] = []
    best_rate_per_s: float | None = None


_decode = msgspec.json.Decoder(Result).decode
_decode_sample = msgspec.json.Decoder(CallSample).decode


class BadRun(ValueError):
    """A folder that holds no run that this version can read."""


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine_text() -> str:
    """Processor architecture, system and cores; nothing that names the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()}, {platform.system()}, {cores} cores"


def write_run(folder: Path, result: Result, samples: Iterable[CallSample]) -> None:
    """Write both files. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SAMPLES).open("wb") as file:
        for sample in samples:
            file.write(_encode(sample) + b"\n")
    pretty = msgspec.json.format(_encode(result), indent=2)
    (folder / RESULT).write_bytes(pretty + b"\n")


def read_run(folder: Path) -> tuple[Result, list[CallSample]]:
    """Raises `BadRun`."""
    path = folder / RESULT
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadRun(f"{path}: {error.strerror}; give the folder that --out named") from None
    try:
        version = msgspec.json.decode(raw, type=dict[str, Any]).get("schema")
        if version != SCHEMA:
            raise BadRun(f"{path} has schema {version}; this version reads {SCHEMA}")
        result = _decode(raw)
    except msgspec.DecodeError as error:
        raise BadRun(f"{path} is no result of merino bench: {error}") from None
    return result, read_samples(folder / SAMPLES)


def read_samples(path: Path) -> list[CallSample]:
    """Raises `BadRun`. A last line that was cut short is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadRun(f"{path}: {error.strerror}") from None
    samples: list[CallSample] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            samples.append(_decode_sample(line))
        except msgspec.DecodeError as error:
            if number >= len(lines) - 1:
                break
            raise BadRun(f"{path}:{number}: not a sample: {error}") from None
    return samples


def write_parquet(path: Path, samples: Sequence[CallSample]) -> None:
    """The samples as one Parquet table. Needs the extra `merino[parquet]`; raises `ImportError`."""
    import pyarrow as pa  # type: ignore[import-not-found]
    import pyarrow.parquet as pq  # type: ignore[import-not-found]

    rows = [msgspec.structs.asdict(sample) for sample in samples]
    pq.write_table(pa.Table.from_pylist(rows), path)  # type: ignore[no-untyped-call]
