"""Asks the whole product everything, and writes down what it says: `make sweep-record`.

    python tests/sweep/record.py [--into FOLDER]

One relay under a clock of its own is asked over HTTP, then every command is run on its folder, then
some on the folder alone. What differs from run to run is replaced by the rules in neutral.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import clock

clock.set_to_noon(first_id=1_000_000)

import relay as relays  # noqa: E402 - the clock comes first
from asking import Recording  # noqa: E402
from cli_sweep import sweep_alone, sweep_commands  # noqa: E402
from http_sweep import sweep_admin, sweep_public  # noqa: E402
from neutral import Neutral  # noqa: E402

RECORDED = Path(__file__).resolve().parent / "recorded"


def record(into: Path, folder: Path) -> dict[str, int]:
    """How much was asked, by recording."""
    environ = relays.environment()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    (folder / "folder").mkdir()
    neutral = Neutral(str(folder))
    asked: dict[str, int] = {}

    def note(name: str, recording: Recording) -> None:
        recording.write(into / f"{name}.txt")
        asked[name] = recording.asked

    with relays.relay(folder) as running:
        os.environ |= {"MERINO_API_KEY": running.key, "MERINO_DATA": "data"}
        for name, sweep in (
            ("public", sweep_public),
            ("admin", sweep_admin),
            ("commands", sweep_commands),
        ):
            began = perf_counter()
            recording = Recording(neutral)
            sweep(running, recording)
            note(name, recording)
            print(f"{name}: {asked[name]} in {perf_counter() - began:.1f} s", file=sys.stderr)
    recording = Recording(neutral)
    sweep_alone(recording)
    note("commands_alone", recording)
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, default=RECORDED)
    into = parser.parse_args().into.resolve()
    into.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="merino-sweep-") as folder:
        asked = record(into, Path(folder).resolve())
    sizes = sum(each.stat().st_size for each in into.glob("*.txt"))
    print(f"{sum(asked.values())} questions, {sizes / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
