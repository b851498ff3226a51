"""The commands around a relay: what begins it, asks after it, ends it; and help."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from tests.in_process import SIMULATED, InProcess, in_process, run_command
from tests.terminals import terminal

from merino.cli import COMPLETE_VARIABLE, root
from merino.cli.call_lines import LINES_MAX, CallLine, CallLines, drawn
from merino.cli.completion import SHELLS
from merino.cli.help import EXAMPLES
from merino.cli.terminal import Terminal
from merino.domain.call import CallRecord
from merino.operations.local import RelayNote, read_note, write_note
from merino.settings import KNOWN_PROVIDERS, load

NOTE = RelayNote(1, "0.1.0", "http://127.0.0.1:8080", None, 1.0)
WIDE = Terminal(200, has_colour=False, is_live=True)


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a line names, and what is left of the line."""
    command: click.Command = root.root
    context = click.Context(command, info_name="merino")
    while isinstance(command, click.Group) and words:
        inner = command.get_command(context, words[0])
        assert inner is not None, words
        command, words = inner, words[1:]
    return command, words


# -- help and what was meant ---------------------------------------------------------------------


@pytest.mark.parametrize("words", [each for each in EXAMPLES if each])
def test_every_example_is_a_line_that_the_command_takes(words, tmp_path, monkeypatch) -> None:
    """It is read as the command line reads it; files that it names are there."""
    monkeypatch.chdir(tmp_path)
    Path("merino-data/journal").mkdir(parents=True)
    for example in EXAMPLES[words]:
        line = example.removeprefix('eval "$(').removesuffix(')"').partition(" > ")[0]
        said = shlex.split(line)
        for name in said:
            if re.fullmatch(r"[\w-]+\.[a-z]+", name):
                Path(name).touch()
        assert ["merino", *words.split()] == said[: len(words.split()) + 1]
        command, rest = found(said[1:])
        assert not isinstance(command, click.Group)
        command.make_context(words, rest)
        assert example in run_command(*words.split(), "--help").stdout


def test_help_is_by_what_one_wants_to_do() -> None:
    """Each command stands once, under a heading; on a terminal headings are bold."""
    told = run_command("--help").stdout
    for section, commands in root.SECTIONS.items():
        assert f"\n{section}:\n" in told
        for name in commands:
            assert 1 == told.count(f"\n  {name} ")
    assert "\x1b" not in told
    with terminal() as tty:
        root.run(["--help"])
    assert "\x1b[1mRun a relay" in tty.getvalue()


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("repport", "'merino report'"),
        ("keys revoke", "'merino keys disable'"),
        ("ps", "'merino status'"),
        ("keys create --nme x", "'--name'"),
        ("report --by kez", "'key'"),
        ("report --sort chargd", "'charged'"),
        ("calls list --resolution setled", "'settled'"),
        ("bench throughput --target a=b --arrivals poison", "'poisson'"),
        ("completion bsh", "'bash'"),
        ("accounts update x --spend-period mont", "'month'"),
    ],
)
def test_what_was_meant_is_told(line, meant) -> None:
    """Of commands, options, and the words that options take; in one line."""
    done = run_command(*line.split())
    assert (2, "") == (done.returncode, done.stdout)
    assert 1 == len(done.stderr.splitlines())
    assert f"Did you mean {meant}?" in done.stderr


def test_what_is_like_nothing_is_not_guessed() -> None:
    """Then the choices alone are told."""
    assert "Did you mean" not in run_command("report", "--by", "zzz").stderr
    assert "Did you mean" not in run_command("zzz").stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_gets_its_script(shell) -> None:
    """It asks the program itself, by the variable that the program knows."""
    done = run_command("completion", shell)
    assert 0 == done.returncode
    assert COMPLETE_VARIABLE in done.stdout
    assert "merino" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("merino rep", ["report"]),
        ("merino keys ro", ["rotate"]),
        ("merino report --mo", ["--month"]),
        ("merino report --by ", ["day", "alias", "key", "account", "user", "tag", "metadata"]),
        ("merino keys list --sort na", ["name"]),
        ("merino completion f", ["fish"]),
    ],
)
def test_tab_completes(line, expected) -> None:
    """Commands, options, and the words that they take."""
    words = line.split(" ")
    environ = {
        **os.environ,
        COMPLETE_VARIABLE: "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "merino"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert expected == [each.partition(",")[2] for each in done.stdout.split()]


# -- init ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--provider", "openai"],
        ["--provider", "simulator", "--credit", "0"],
        ["--provider", "other"],
        [
            "--provider",
            "other",
            "--base-url",
            "https://llm.example.org/v1",
            "--model",
            'a "b" \\ c',
        ],
        [x for each in KNOWN_PROVIDERS for x in ("--provider", each.name)],
        ["--provider", "openai", "--provider", "other", "--host", "0.0.0.0", "--port", "9"],
    ],
    ids=" ".join,
)
def test_what_init_writes_is_read_by_a_relay(tmp_path, flags, monkeypatch) -> None:
    """Also its comments, once the marks are taken away; a second time it does not write over it."""
    for each in KNOWN_PROVIDERS:
        monkeypatch.delenv(each.credential_variable, raising=False)
    file = tmp_path / "merino.toml"
    done = run_command("init", "--yes", *flags, "--output", str(file))
    if 'a "b" \\ c' in flags:  # no name of a model
        assert (2, False) == (done.returncode, file.exists())
        return
    assert 0 == done.returncode, done.stderr
    settings = load(file, {}, needs_secrets=False)
    assert () == settings.warnings
    if "--port" in flags:
        assert ("0.0.0.0", 9) == (settings.server.host, settings.server.port)
    hidden = [
        line.removeprefix("# ") if re.match(r"# (\[|[a-z_]+ = )", line) else line
        for line in file.read_text().splitlines()
    ]
    file.with_name("all.toml").write_text("\n".join(hidden))
    load(file.with_name("all.toml"), {"OWN_API_KEY": "x"}, needs_secrets=False)
    again = run_command("init", "--yes", "--output", str(file))
    assert 2 == again.returncode
    assert "--force" in again.stderr
    assert 0 == run_command("init", "--yes", "--force", "--output", str(file)).returncode


def test_init_tells_what_is_missing_and_keeps_what_was_there(tmp_path, monkeypatch) -> None:
    """The credential that must be set; what cannot be read leaves the old file alone."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    file = tmp_path / "own.toml"
    told = run_command("init", "-y", "--provider", "openai", "--output", str(file)).stdout
    assert f"next: export OPENAI_API_KEY=...; merino serve --config {file}" in told
    before = file.read_text()
    done = run_command("init", "-y", "--force", "--credit", "much", "--output", str(file))
    assert (2, before) == (done.returncode, file.read_text())


def test_init_asks_at_a_terminal(tmp_path, monkeypatch) -> None:
    """What is given by options is not asked."""
    asked: list[str] = []

    def prompt(question: str, default: str = "", **_: object) -> str:
        asked.append(question)
        return {"Port": "9000"}.get(question, default)

    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    file = tmp_path / "merino.toml"
    run_command("init", "--provider", "simulator", "--credit", "1", "--output", str(file))
    assert 2 == len(asked)
    assert 9000 == load(file, {}).server.port


# -- status, stop, logs --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory):
    with in_process(tmp_path_factory.mktemp("relay"), SIMULATED) as relay:
        assert 200 == relay.chat().status
        assert 400 == relay.chat("broken").status
        yield relay


def test_where_no_relay_runs(tmp_path) -> None:
    """Exit code 3, for people and programs; a note that one left behind is not believed."""
    write_note(tmp_path, NOTE)
    for data in (tmp_path, tmp_path / "none"):
        for words in ("status", "stop"):
            done = run_command(words, "--data", str(data))
            assert (3, "") == (done.returncode, done.stderr)
            assert "no relay runs" in done.stdout
            asked = run_command(words, "--json", "--data", str(data))
            assert 3 == asked.returncode
            assert json.loads(asked.stdout)["process"] is None


def test_a_note_is_read_as_it_was_written(tmp_path) -> None:
    """One that is damaged is none."""
    write_note(tmp_path, NOTE)
    assert NOTE == read_note(tmp_path)
    for damaged in ("", "{", "[]", '{"process": "x"}', '{"process": null}'):
        (tmp_path / "relay.json").write_text(damaged)
        assert None is read_note(tmp_path)


def test_the_last_calls_are_shown_the_newest_last(relay: InProcess) -> None:
    """With the names of keys; failed ones with the reason; as JSON a line each."""
    lines = relay.command("logs").stdout.splitlines()
    assert 2 == len(lines)
    assert ["200", "o3", "first"] == lines[0].split()[1:4]
    assert "tokens" in lines[0]
    assert ["400", "broken", "first"] == lines[1].split()[1:4]
    assert [lines[1]] == relay.command("logs", "--failed").stdout.splitlines()
    assert [lines[1]] == relay.command("logs", "-n", "1").stdout.splitlines()
    assert "" == relay.command("logs", "-n", "0").stdout
    rows = [json.loads(line) for line in relay.command("logs", "--json").stdout.splitlines()]
    assert [200, 400] == [row["status"] for row in rows]


def record(number: int = 1, **more) -> CallRecord:
    kept = {"alias": "o3", "endpoint": "chat/completions", "status": 200, "duration_ms": 1234.0}
    return CallRecord(
        id=f"req_{number}", account_id="a", key_id="k", at_ms=1_795_951_016_000, **(kept | more)
    )


def test_a_call_is_one_line() -> None:
    """Its tokens, cost and time; of a failed one the reason, on one line whatever it says."""
    when = datetime.fromtimestamp(1_795_951_016, UTC).astimezone().strftime("%H:%M:%S")
    good = record(
        input_tokens=1200, output_tokens=34, charged_nanos=5 * 10**6, ttft_ms=210.0, deployment="a"
    )
    told = drawn(CallLine.of_record(good, "ada", "EUR"), WIDE).split()
    assert f"{when} 200 o3 ada 1,200 + 34 tokens €0.005 1.2 s (first 210 ms) a".split() == told
    bad = record(status=429, error_code="rate_limit", error_message="too\nmany\x1b[31m")
    line = drawn(CallLine.of_record(bad, "", None), WIDE)
    assert line.endswith("k             rate_limit  too?many?[31m")
    assert line.isprintable()
    narrow = drawn(CallLine.of_record(bad, "", None), Terminal(30, has_colour=True, is_live=True))
    assert "\x1b[33m  429\x1b[0m" in narrow
    assert narrow.endswith("…")


def test_more_calls_than_anybody_reads_are_counted() -> None:
    """A line each up to a number; what was refused and ends is one call."""
    lines = CallLines(WIDE)
    lines._thread = object()  # type: ignore[assignment]  # written by the test
    one = record()
    lines(one, "", None)
    lines(one, "", None)
    assert 1 == len(lines.drain())
    for number in range(LINES_MAX + 7):
        lines(record(number), "", None)
    *told, last = lines.drain()
    assert (LINES_MAX, "and 7 calls more") == (len(told), last.strip())
    assert [] == lines.drain()


def test_a_call_line_fits_by_leaving_out_what_is_asked_for_least() -> None:
    """The deployment goes first, then the first token, then the key; what it cost and how long it
    took stay whole."""
    line = CallLine(
        datetime(2026, 11, 29, 12, tzinfo=UTC),
        200,
        "o3",
        "support-chat",
        deployment="openai-o3",
        input_tokens=412,
        output_tokens=236,
        charged_nanos=2_710_000,
        currency="USD",
        duration_ms=2840.0,
        ttft_ms=612.0,
    )

    def parts(width: int) -> tuple[bool, ...]:
        told = drawn(line, Terminal(width, has_colour=False, is_live=True))
        assert len(told) <= width
        assert "$0.00271  2.8 s" in told
        return tuple(word in told for word in ("support-chat", "first 612 ms", "openai-o3"))

    assert [
        (True, True, True),
        (True, True, False),
        (True, False, False),
        (False, False, False),
    ] == [parts(width) for width in (120, 100, 85, 70)]


def test_without_a_command_the_help_is_shown(capsys) -> None:
    """As an answer, not as a mistake: on standard output, with exit code 0, the same as --help."""
    assert 0 == root.run([])
    told = capsys.readouterr()
    assert 0 == root.run(["--help"])
    assert (capsys.readouterr().out, "") == (told.out, told.err)
    assert "Run a relay:" in told.out


def test_groups_tell_of_their_commands_in_whole_sentences() -> None:
    """None is cut off, at whatever width; each ends as a sentence does."""
    context = click.Context(root.root)
    checked = 0
    for name in root.COMMANDS:
        command = root.root.get_command(context, name)
        for inner in command.commands.values() if isinstance(command, click.Group) else ():
            assert inner.get_short_help_str().endswith((".", ":")), f"{name} {inner.name}"
            checked += 1
    assert checked > 40
