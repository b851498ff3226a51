"""Fuzzes the whole relay.

    python tests/fuzz/fuzz.py upstream|caller FINDINGS CORPUS [options of libFuzzer]   needs atheris
    python tests/fuzz/fuzz.py replay upstream|caller SEEDS|FILE|FOLDER ...
    python tests/fuzz/fuzz.py smaller upstream|caller FILE OUT
    python tests/fuzz/fuzz.py seeds FOLDER

Fuzzing goes on after what it finds: of each kind of finding the smallest input so far is kept in
FINDINGS, with what it broke beside it. `replay` runs inputs one after the other and exits with 1 if
any breaks something; `smaller` takes away what a finding does not need. `make fuzz` does the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
for _name in tuple(os.environ):
    if _name.lower().endswith("_proxy") or _name.startswith("MERINO_"):
        del os.environ[_name]

import tests.fuzz.virtual  # noqa: E402, F401 - before all of Merino

DICTIONARY = Path(__file__).with_name("words.dict")


def kind_of(error: Exception) -> str:
    """What is the same of two findings of the same fault: words without values, and the place."""
    words = re.sub(r"[0-9a-f]{6,}|\d+|b['\"].*", "#", str(error).partition("Answer(")[0])[:80]
    ours = [
        f"{Path(frame.filename).name}:{frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/merino/" in frame.filename
    ]
    return f"{type(error).__name__} {words} {ours[-1] if ours else ''}"


def failure_of(world: Any, play: Any, data: bytes) -> Exception | None:
    """What one input breaks, if anything."""
    try:
        world.run(play(data))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        world.forget()
        return error
    return None


def replay(target: str, paths: list[Path]) -> int:
    from tests.fuzz import world as worlds
    from tests.fuzz.targets import PLAYS

    worlds.VERIFY_EVERY = 10
    world = worlds.World()
    broken = 0
    inputs = list(inputs_of(target, paths))
    for name, data in inputs:
        error = failure_of(world, PLAYS[target], data)
        if error is not None:
            broken += 1
            print(f"{target}: {name} breaks something: {error!r:.1500}", file=sys.stderr)
    world.close()
    print(f"{target}: {len(inputs)} inputs, {broken} break something")
    return min(broken, 1)


def inputs_of(target: str, paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes. A path that is called SEEDS stands for all of them."""
    for path in paths:
        if path.name == "SEEDS":
            from tests.fuzz.seeds import SEEDS

            yield from SEEDS[target]().items()
            continue
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".txt":
                yield str(file), file.read_bytes()


def smaller(target: str, file: Path, out: Path) -> int:
    from tests.fuzz import world as worlds
    from tests.fuzz.targets import PLAYS

    worlds.VERIFY_EVERY = 1
    world = worlds.World()
    data = file.read_bytes()
    first = failure_of(world, PLAYS[target], data)
    if first is None:
        print(f"{file} breaks nothing", file=sys.stderr)
        return 1
    kind = kind_of(first)
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            error = failure_of(world, PLAYS[target], shorter)
            if error is not None and kind_of(error) == kind:
                data = shorter
            else:
                at += size
        size //= 2
    out.write_bytes(data)
    print(f"{len(data)} bytes: {kind}")
    return 0


def fuzz(target: str, findings: Path, options: list[str]) -> None:
    import atheris

    fuzzer: Any = atheris  # it has no types, and may not be there
    with fuzzer.instrument_imports(include=["merino"]):
        from tests.fuzz.targets import PLAYS
        from tests.fuzz.world import World

    findings.mkdir(parents=True, exist_ok=True)
    world = World()
    play = PLAYS[target]
    sizes: dict[str, int] = {}

    def one(data: bytes) -> None:
        error = failure_of(world, play, data)
        if error is None:
            return
        kind = kind_of(error)
        if len(data) >= sizes.get(kind, 1 << 30):
            return
        sizes[kind] = len(data)
        name = hashlib.sha256(kind.encode()).hexdigest()[:12]
        (findings / name).write_bytes(data)
        told = "".join(traceback.format_exception(error))
        (findings / f"{name}.txt").write_text(f"{kind}\n\n{told}", errors="replace")
        print(f"\nfound ({len(data)} bytes, {name}): {kind}", flush=True)

    named = [f"-dict={DICTIONARY}", "-max_len=6000", "-timeout=30", *options]
    named.append(f"-artifact_prefix={findings}/")
    atheris.Setup([sys.argv[0], *named], one)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    match arguments:
        case ["replay", target, *paths]:
            return replay(target, [Path(path) for path in paths])
        case ["smaller", target, file, out]:
            return smaller(target, Path(file), Path(out))
        case ["seeds", folder]:
            from tests.fuzz.seeds import write_seeds

            write_seeds(Path(folder))
        case [("upstream" | "caller") as target, findings, *options]:
            fuzz(target, Path(findings), options)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
