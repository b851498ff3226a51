"""Every command: its help, good arguments in plain form and with `--json`, and bad ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import httpx2
from asking import Recording, run_command
from cli_plan import ALONE, GOOD, NEVER_RUN, PREPARED
from neutral import shape, without_figures, without_tenths
from relay import Relay

USAGE_EXIT = 2
MEASURED = {
    "bench latency": shape,
    "bench throughput": shape,
    "bench compare": shape,
    "bench sweep": shape,
    "bench diff": shape,
    "calls list": without_tenths,
    "calls show": without_tenths,
    "doctor": without_figures,
}
BAD_TEXTS = {
    "Moment": "yesterday",
    "Day": "yesterday",
    "Amount": "much",
    "_IdempotencyKey": "ü",
    "IntParamType": "many",
    "IntRange": "many",
    "FloatRange": "many",
}


def commands() -> dict[str, click.Command]:
    """Every command that does something, by its words."""
    from merino.cli.root import root

    def walk(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield words, command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, f"{words} {name}".strip())

    return dict(walk(root, ""))


def sweep_commands(relay: Relay, recording: Recording) -> None:
    known = commands()
    if missing := known.keys() - GOOD.keys() - NEVER_RUN:
        raise SystemExit(
            f"tests/sweep/cli_plan.py has no good input of {', '.join(sorted(missing))}"
        )
    values = _prepare(relay)
    for name, text in PREPARED["files"].items():
        Path(name).write_text(text.format_map(values) if name.endswith(".toml") else text)
    recording.heading("Help")
    for words in _with_groups(known):
        _run(recording, [*words.split(), "--help"])
    recording.heading("Good arguments")
    for words, lines in GOOD.items():
        takes_json = any(each.name == "as_json" for each in known[words].params)
        for line in lines:
            for form in (1, 2) if takes_json else (1,):
                argv = [
                    *words.split(),
                    *shlex.split(line.format(n=form, **values)),
                    *(["--json"] if form == 2 else []),
                ]
                _run(recording, argv)
    recording.heading("Bad arguments")
    _run(recording, [])
    _run(recording, ["--version"])
    for words in (
        "sheep",
        "status",
        "kesy",
        "accounts sheep",
        "accounts delete",
        "--sheep",
        "topup",
    ):
        _run(recording, words.split())
    for words in _with_groups(known):
        if words not in known:
            _run(recording, words.split())
    for words, command in known.items():
        first = GOOD.get(words, [""])[0].format(n=1, **values)
        for argv in _bad(command, shlex.split(first)):
            _run(recording, [*words.split(), *argv])


def sweep_alone(recording: Recording) -> None:
    """What reads only, on a folder that no relay runs on; and folders that are none."""
    recording.heading("Without a relay")
    for line in ALONE:
        _run(recording, line.split())
        _run(recording, [*line.split(), "--json"])
    recording.heading("Without a folder")
    for line in ALONE:
        _run(recording, [*line.split(), "--data", "nowhere"])


def _run(recording: Recording, argv: Sequence[str]) -> None:
    code, out, err = run_command(argv)
    plainer = str
    if "--help" not in argv and code != USAGE_EXIT:
        plainer = MEASURED.get(" ".join(argv[:2])) or MEASURED.get(argv[0] if argv else "", str)
    if plainer is shape and code == 1:
        code = 0  # on a busy machine the load is late
    recording.ran(argv, code, out, err, plainer)


def _with_groups(known: dict[str, click.Command]) -> list[str]:
    groups = {words.rpartition(" ")[0] for words in known}
    return sorted({*known, *groups})


def _bad(command: click.Command, good: list[str]) -> Iterator[list[str]]:
    """Of each argument and option: none, one too many, and values that it cannot take."""
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    if any(each.required for each in command.params):
        yield []
    yield [*good, "--sheep"]
    yield [*good, "one", "too", "many"]
    if arguments and good:
        yield ["nobody", *good[1:]]
        yield ["", *good[1:]]
    for each in command.params:
        if isinstance(each, click.Argument):
            continue
        option = max(each.opts, key=len)
        if getattr(each, "is_flag", False):
            yield [*good, f"{option}=maybe"]
            continue
        yield [*good, option]
        kind = getattr(each.type, "_kind", each.type)
        if isinstance(kind, click.Choice):
            yield [*good, option, "sheep"]
        if isinstance(kind, (click.IntRange, click.FloatRange)):
            if kind.min is not None:
                yield [*good, option, str(kind.min if kind.min_open else kind.min - 1)]
            if kind.max is not None:
                yield [*good, option, str(kind.max + 1)]
        if text := BAD_TEXTS.get(type(kind).__name__):
            yield [*good, option, text]
        if isinstance(kind, click.Path) and each.name in {"config", "data", "out", "output"}:
            yield [*good, option, "folder" if not kind.dir_okay else "file"]
        if isinstance(kind, click.types.StringParamType):
            yield [*good, option, "?!"]


def _prepare(relay: Relay) -> dict[str, Any]:
    """What the commands of the plan need to be there."""
    http = httpx2.Client(
        base_url=f"{relay.url}/admin/v1",
        headers={"authorization": f"Bearer {relay.admin_key}"},
        timeout=30,
        trust_env=False,
    )
    values: dict[str, Any] = {"url": relay.url, "key": relay.key, "bench_url": relay.bench_url}
    with http:
        for name, path, body in PREPARED["objects"]:
            answer = http.post(path, json=body)
            assert answer.status_code < 300, answer.text
            values[name] = answer.json()
        values["call"] = http.get("/calls", params={"status": 200}).json()["data"][0]["id"]
    return json.loads(json.dumps(values))
