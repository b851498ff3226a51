"""`merino reconcile` as its users meet it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.in_process import InProcess, in_process, run_command

from merino import reconcile as rules
from merino.cli import reconcile as commands

CONFIG = """
[[deployments]]
name = "d"
provider = "simulator"
upstream_model = "o3!output=40,reasoning=20"
[aliases.o3]
deployments = ["d"]
"""


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcess]:
    monkeypatch.chdir(tmp_path)
    with in_process(tmp_path / "data", CONFIG) as running:
        yield running


def exported(calls: list[dict[str, Any]], **more: Any) -> str:
    """What OpenAI's usage API would say of these calls."""
    day = int(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    result = {
        "object": "organization.usage.completions.result",
        "model": "o3-2025-04-16",
        "num_model_requests": len(calls),
        "input_tokens": sum(call["input_tokens"] for call in calls),
        "output_tokens": sum(call["output_tokens"] for call in calls),
        **more,
    }
    return json.dumps({"data": [{"start_time": day, "results": [result]}]})


def reconcile(relay: InProcess, text: str, *more: str) -> tuple[int, str, str]:
    Path("usage.json").write_text(text)
    done = relay.command(
        "reconcile", "--provider", "openai", "--month", "this", "--deployment", "d",
        "usage.json", *more,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def booked(relay: InProcess) -> list[dict[str, Any]]:
    for _ in range(3):
        assert 200 == relay.chat("o3").status
    calls: list[dict[str, Any]] = relay.cli("calls", "list", "--json")["data"]
    return calls


def test_a_bill_that_is_right(relay: InProcess):
    """Real calls, and what their provider says of them: nothing differs, exit code 0."""
    code, output, errors = reconcile(relay, exported(booked(relay)))
    assert (0, "") == (code, errors)
    assert "difference  $0.00" in output
    assert "Nothing is left without a reason." in output


def costs(line_item: str, dollars: str) -> None:
    Path("costs.csv").write_text(
        "start_time_iso,amount_value,amount_currency,line_item\n"
        f'{datetime.now(UTC):%Y-%m-%d},{dollars},usd,"{line_item}"\n'
    )


def test_calls_past_the_relay_are_named(relay: InProcess):
    """More calls than booked: told as such in words and in JSON."""
    costs("o3-2025-04-16, output", "0.006")
    text = exported([*booked(relay), {"input_tokens": 1000, "output_tokens": 500}])
    code, output, _ = reconcile(relay, text, "costs.csv")
    assert 0 == code
    assert "another price for the same usage (o3 on" in output
    costs("gpt-4o, output", "0.006")
    code, output, _ = reconcile(relay, exported(booked(relay)), "costs.csv", "--json")
    found = json.loads(output)
    assert 0 == code
    assert ["unmetered"] == [each["cause"] for each in found["causes"]]
    assert found["difference_nanos"] == found["causes"][0]["difference_nanos"] == 6_000_000


def test_what_nothing_explains_ends_with_exit_code_1(relay: InProcess):
    """A cost for the relay's own calls, and no usage beside it."""
    booked(relay)
    costs("o3-2025-04-16, output", "12.50")
    done = relay.command(
        "reconcile", "--provider", "openai", "--month", "this", "--deployment", "d", "costs.csv"
    )
    assert 1 == done.returncode
    assert "$12.50  not explained (o3 on" in done.stdout


def test_a_line_for_each_day_and_model(relay: InProcess):
    code, output, _ = reconcile(relay, exported(booked(relay)), "--format", "csv")
    assert 0 == code
    head, line = output.splitlines()
    assert head.startswith("day,model,key,provider_calls,relay_calls,provider,")
    assert line.split(",")[3:5] == ["3", "3"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--month", "2026-13"), "'2026-13' is not a month"),
        (("--key", "key_1"), "write the provider's key, =, and a deployment"),
        (("--key", "a=d", "--key", "b=d"), "--key: d is given two keys"),
    ],
)
def test_options_that_cannot_be(relay: InProcess, arguments: tuple[str, ...], said: str):
    code, _, errors = reconcile(relay, exported([]), *arguments)
    assert 2 == code
    assert said in errors


def test_deployments_are_found_by_the_providers_address(relay: InProcess):
    """None is at it: the way out is named. Another provider has no address."""
    Path("usage.json").write_text(exported(booked(relay)))
    done = relay.command("reconcile", "--provider", "openai", "--month", "this", "usage.json")
    assert 2 == done.returncode
    assert "No deployment is at api.openai.com; name those it bills" in done.stderr
    Path("bill.csv").write_text("day,model,input_tokens,cost\n2026-10-01,m,5,1.5\n")
    done = relay.command("reconcile", "--provider", "other", "--month", "this", "bill.csv")
    assert 2 == done.returncode
    assert "name the provider's deployments with --deployment" in done.stderr


def test_a_file_that_is_none_of_the_providers(tmp_path: Path):
    file = tmp_path / "notes.csv"
    file.write_text("name,text\na,b\n")
    done = run_command("reconcile", "--provider", "anthropic", "--month", "last", str(file))
    assert 2 == done.returncode
    assert "notes.csv has no column with a day" in done.stderr


def test_the_command_knows_the_providers_that_are_read() -> None:
    """It names them without reading the rest, so that every command starts soon."""
    assert commands.PROVIDERS == rules.PROVIDERS
