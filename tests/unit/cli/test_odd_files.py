"""Files, addresses and texts that commands are given: whatever is in them, one line says what is
wrong."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.in_process import run_command

from merino.cli import columns, output
from merino.cli.connection import Admin, AdminRefused, path_of
from merino.cli.options import MOMENT, OrNone
from merino.cli.options import given as fields_of
from merino.cli.root import root, run

EXPORT = "Date,USD,CNY\n2026-11-24,1.15,8.2\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str) -> str:
    """The line that says why."""
    done = run_command(*arguments)
    assert (2, "") == (done.returncode, done.stdout), done
    assert "internal error" not in done.stderr
    [line] = done.stderr.splitlines()
    return line.removeprefix("merino: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not CSV: it is empty"),
        (b"\xff\xfeD\x00", "is not UTF-8 text"),
        (b"Date,USD\n24. November 2026,1.15\n", "'24. November 2026' is not a day"),
        (b"Date,USD\n2026-02-30,1.15\n", "'2026-02-30' is not a day"),
        (b"Day,USD\n2026-11-24,1.15\n", "'' is not a day"),
        (b"Date,XAU\n2026-11-24,1.15\n", "has no rates of USD"),
        (b"Date,USD\n2026-11-24,N/A\n", "has no rates of USD"),
        (b"Date,USD\n2026-11-24\n", "has no rates of USD"),
        (b"Date,USD\n", "has no rates of USD"),
        (b"Date,USD\n2026-11-24,many\n", "rate"),
        (b"Date,USD\n2026-11-24,-1\n", "rate"),
        (b"Date,USD\n2026-11-24,1e400\n", "rate"),
    ],
)
def test_rates_that_cannot_be_read(tmp_path, content, said) -> None:
    """The file is named with what is wrong in it, and nothing is set."""
    (tmp_path / "data").mkdir()
    (tmp_path / "rates.csv").write_bytes(content)
    assert said in refused("rates", "import", "rates.csv", "--data", "data")
    listed = run_command("rates", "list", "--json", "--data", "data")
    assert [] == json.loads(listed.stdout)["data"]


@pytest.mark.parametrize(
    "content",
    [
        EXPORT.encode(),
        b"\xef\xbb\xbf" + EXPORT.replace("\n", "\r\n").encode(),
        b"Date, USD, CNY, \n24 November 2026, 1.15, 8.2, \n\n",
        b"Date,USD,CNY\n2026-11-24,1.15,8.2,extra,more\n",
        b"Date,USD,CNY,BGN\n2026-11-24,1.15,8.2\n",
    ],
)
def test_rates_in_any_of_their_spellings(tmp_path, content) -> None:
    """With a byte order mark, spaces, an empty last column, columns too many or too few."""
    (tmp_path / "data").mkdir()
    (tmp_path / "rates.csv").write_bytes(content)
    found = run_command("rates", "import", "rates.csv", "--json", "--data", "data")
    assert 0 == found.returncode, found.stderr
    rates = {(each["quote"], each["rate"]) for each in json.loads(found.stdout)["data"]}
    assert {("USD", "1.15"), ("CNY", "8.20")} == rates


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no prices"),
        (b"\xff", "utf-8"),
        (b"[[price]]\n", "model"),
        (b'provider = "p"\nsource = "s"\n[[price]]\nmodel = 7\ninput = 1\noutput = 1\n', "model"),
        (
            b'provider = "p"\nsource = "s"\n[[price]]\nmodel = "m"\ninput = "x"\noutput = 1\n',
            "input",
        ),
        (
            b'provider = "p"\nsource = "s"\n[[price]]\nmodel = "m"\ninput = -1\noutput = 1\n',
            "input",
        ),
        (b"a" * 100_000, ""),
    ],
)
@pytest.mark.parametrize("command", [("prices", "check"), ("prices", "diff")])
def test_price_files_that_cannot_be_read(tmp_path, command, content, said) -> None:
    """The file is named, with line, key and value where there are some."""
    (tmp_path / "p.toml").write_bytes(content)
    done = run_command(*command, "p.toml")
    assert "internal error" not in done.stderr, done.stderr
    if done.returncode:
        assert "p.toml" in done.stderr
        assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prices", "show", "no-such-model"), "has no 'no-such-model'"),
        (("prices", "show", "o3", "--on", "2026-02-30"), "is not a date such as"),
        (("prices", "show", "openai/o3", "--on", "1990-01-01"), "has no 'openai/o3'"),
        (("prices", "diff"), "Give price files, or --from"),
        (("prices", "diff", "--to", "2026-01-01"), "Give price files, or --from"),
        (("prices", "import", "elsewhere"), "is not 'genai-prices'"),
        (("prices", "check", "none.toml"), "none.toml"),
        (("config", "check", "--config", "none.toml"), "no such file"),
        (("batch", "run", "none.jsonl"), "none.jsonl"),
        (("accounts", "list", "--data", "none"), "There is no data folder none"),
    ],
)
def test_what_is_not_there_is_named(arguments, said) -> None:
    """One line, exit code 2."""
    assert said in refused(*arguments)


def test_prices_are_shown_for_people() -> None:
    """A field a line, a model with several rows one after the other, a day on its own."""
    whole = run_command("prices", "show", "openai/o3").stdout
    assert "provider" in whole
    assert "o3" in whole
    assert len(run_command("prices", "show", "o3", "--on", "2026-06-01").stdout) <= len(whole)
    assert "no prices" in run_command("prices", "list", "--provider", "nobody").stdout


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[[", b"{}", b"7", b"\xff\xfe", b"a,b\n1\n", b"", b"null"]
)
def test_usage_exports_that_are_none(tmp_path, content) -> None:
    """One line that names the file."""
    for name in ("usage.json", "usage.csv"):
        (tmp_path / name).write_bytes(content)
        assert name in refused("roi", "--from-openai-export", name)


# What a relay answers to `roi --relay URL`


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"", "did not answer with JSON"),
        (200, b"<html>", "did not answer with JSON"),
        (200, b"[" * 100_000, "did not answer with JSON"),
        (200, b"7", "lists no prices"),
        (200, b"{}", "lists no prices"),
        (200, b'{"data": [7, null, {"id": 7}]}', "lists no prices"),
        (200, b'{"data": [{"id": "m", "pricing": {"prompt": "x"}}]}', "lists no prices"),
        (302, b"", "status 302"),
        (401, b"", "put its key into MERINO_API_KEY"),
        (500, b"oops", "status 500"),
    ],
)
def test_a_relay_that_lists_no_prices(monkeypatch, status, body, said) -> None:
    """Whatever it answers, one line says what was expected."""
    plain = httpx2.Client

    def client(**options: Any) -> httpx2.Client:
        answer = httpx2.MockTransport(lambda _: httpx2.Response(status, content=body))
        return plain(transport=answer, **options)

    monkeypatch.setattr(httpx2, "Client", client)
    plan = ("--model", "o3", "--input-tokens", "1M", "--output-tokens", "1M")
    assert said in refused("roi", *plan, "--relay", "http://relay.test")
    monkeypatch.setenv("MERINO_API_KEY", "k\u00e9y\u0663")
    assert "characters that no key has" in refused("roi", *plan, "--relay", "http://relay.test")


# What the admin API answers to a command


def asked(answer: httpx2.Response | Exception) -> str:
    """What a command is told."""

    def respond(_: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def work() -> str:
        transport = httpx2.MockTransport(respond)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            with pytest.raises(AdminRefused) as told:
                await Admin(client).ask("GET", "/accounts")
            pieces: list[bytes] = []
            with pytest.raises(AdminRefused) as broken:
                await Admin(client).download("/ledger/export", {}, pieces.append)
            assert None is await Admin(client).models_of("mk-secret")
            assert [] == pieces or not isinstance(answer, Exception)
            assert broken.value.message
            return told.value.message

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx2.Response(500, text="<html>"), "status 500"),
        (httpx2.Response(404, json={"error": {"message": "There is none"}}), "There is none"),
        (httpx2.Response(404, json={"error": "text"}), "status 404"),
        (httpx2.Response(503, json=[]), "status 503"),
        (httpx2.Response(400, content=b"\xff"), "status 400"),
        (httpx2.ConnectError("gone"), "did not answer: gone"),
        (httpx2.ReadError(""), "did not answer: ReadError"),
    ],
)
def test_a_relay_that_says_no(answer, said) -> None:
    """Its own words where it has some, else its status, or how the connection ended."""
    assert said in asked(answer)


@given(st.text(max_size=30))
def test_a_name_is_one_part_of_a_path(name) -> None:
    """Whatever is in it: no slash, no question mark, nothing that leaves its place."""
    path = path_of("accounts", name, "credit")
    assert path.startswith("/accounts/")
    assert path.isascii()
    assert 3 == path.count("/")
    assert not set(path) & set("?# ")


# Times, amounts and cells


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24", "2026-11-24T00:00:00Z"),
        ("2026-11-24T12:00:00", "2026-11-24T12:00:00Z"),
        ("2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z"),
        ("2026-11-24T12:00:00+02:00", "2026-11-24T10:00:00Z"),
    ],
)
def test_a_time_is_in_utc_unless_it_says_otherwise(text, expected) -> None:
    """A day begins at midnight."""
    assert expected == MOMENT.convert(text, None, None)


@given(st.text(max_size=25) | st.from_regex(r"[0-9]{1,7}[smhdw]?"))
def test_any_text_is_a_time_or_none(text) -> None:
    """A time that everybody can read, or one line that says how to write one."""
    try:
        found = MOMENT.convert(text, None, None)
    except click.UsageError as error:
        assert "is not a time" in error.message
    else:
        assert datetime.fromisoformat(found).tzinfo == UTC
        assert found.endswith("Z")


def test_none_takes_a_limit_away_and_nothing_else() -> None:
    """It becomes JSON's null; what was not given is left out."""
    kind = OrNone(click.IntRange(1, 9))
    assert {"a": None, "b": 7} == fields_of(
        {"a": kind.convert("none", None, None), "b": kind.convert("7", None, None), "c": None}
    )
    with pytest.raises(click.UsageError):
        kind.convert("None", None, None)


@given(st.text(max_size=100) | st.integers() | st.floats(-1e9, 1e9) | st.none() | st.booleans())
def test_any_value_is_one_printable_line(value) -> None:
    """Nothing repaints a terminal or breaks a table."""
    shown = columns.text(value)
    assert shown.isprintable()
    assert len(shown) <= columns.CELL_LENGTH_MAX


def test_a_terminal_that_knows_few_characters_gets_question_marks(monkeypatch) -> None:
    """What it cannot say is replaced; nothing breaks."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", write_through=True))
    output.print_table(
        [{"a": "\u20ac7", "b": None}], [columns.Column("A", "a"), columns.Column("B", "b")]
    )
    assert b"A   B\n?7  -\n" == raw.getvalue()


# How commands end


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (OSError(28, "No space left on device", "/x"), 2, "merino: /x: No space left on device\n"),
        (OSError("odd"), 2, "merino: odd\n"),
        (ZeroDivisionError("x"), 2, "merino: internal error: ZeroDivisionError: x. "),
        (click.ClickException("no"), 2, "merino: no\n"),
        (click.exceptions.Exit(7), 7, ""),
    ],
)
def test_how_a_command_ends(monkeypatch, capsys, raised, code, said) -> None:
    """Interrupted, unread, out of room, or by a fault of ours: a code, and a line where one helps."""

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(type(root), "invoke", fail)
    assert code == run(["prices", "list"])
    told = capsys.readouterr()
    assert "" == told.out
    assert told.err.startswith(said)
    assert "Traceback" not in told.err


def test_a_fault_of_ours_shows_its_traceback_where_that_is_wanted(monkeypatch, capsys) -> None:
    """MERINO_DEBUG=1."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(root), "invoke", fail)
    monkeypatch.setenv("MERINO_DEBUG", "1")
    assert 2 == run(["prices", "list"])
    assert "Traceback" in capsys.readouterr().err
