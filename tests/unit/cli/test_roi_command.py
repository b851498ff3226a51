"""`merino roi` as its users meet it."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest
from tests.in_process import SIMULATED, in_process, run_command

PLAN = ("--model", "o3", "--input-tokens", "10M", "--output-tokens", "5M")


def roi(*arguments: str) -> tuple[int, str, str]:
    done = run_command("roi", *arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_guides_example_on_the_command_line():
    """The table's headline is the guide's arithmetic."""
    code, output, _ = roi(*PLAN, "--relay", "guide")
    assert 0 == code
    headline = "guide relay saves $387.00/month (86 %), $4,644.00/year against guide-direct."
    assert headline in output.splitlines()


def test_without_a_relay_this_one_is_set_beside_the_vendors_list():
    """What nobody asked for is not compared, and what costs more is not called a saving."""
    code, output, _ = roi(*PLAN)
    assert 0 == code
    assert "guide" not in output
    assert "saves" not in output
    headline = "relay (own book) costs as much as openai: $60.00/month."
    assert headline in output.splitlines()
    Path("merino.toml").write_text('[prices.markup]\nfactor = "1.05"\n')
    code, output, _ = roi(*PLAN)
    headline = "relay (own book) costs $3.00/month more (5 %), $36.00/year more against openai."
    assert headline in output.splitlines()
    assert "-$3.00" in output
    assert "$-" not in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--model", "o3"), "Missing option --input-tokens, --output-tokens"),
        ((*PLAN, "--growth", "x"), "growth"),
        ((*PLAN, "--hosting", "-1"), "negative"),
        ((*PLAN, "--hosting", "nan"), "not a finite amount"),
        ((*PLAN, "--relay", "elsewhere"), "not guide, book or a URL"),
        ((*PLAN, "--relay", "ftp://x"), "must begin with http"),
        ((*PLAN, "--from-ledger"), "cannot go with real usage"),
        (("--from-ledger", "--last", "soon"), "--last"),
        (("--from-ledger",), "no data folder"),
        (("--from-openai-export", "nothing.csv"), "does not exist"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(arguments, told):
    """Exit code 2, one line, no traceback."""
    code, output, errors = roi(*arguments)
    assert (2, "") == (code, output)
    assert told in errors
    assert 1 == len(errors.splitlines())


def test_an_export_is_read_from_a_file(tmp_path):
    """A usage export of one day stands for a thirtieth of a month."""
    result = {"model": "o3", "input_tokens": 1_000_000, "output_tokens": 0, "num_model_requests": 9}
    bucket = {"start_time": 0, "end_time": 86_400, "results": [result]}
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"data": [bucket]}))
    code, output, _ = roi("--from-openai-export", str(path), "--relay", "book", "--json")
    assert 0 == code
    assert "60.00" == json.loads(output)["offers"][0]["month"]


def test_a_report_is_written_to_a_file(tmp_path):
    """`--output` takes the report; the command says where it went."""
    path = tmp_path / "report.html"
    code, output, _ = roi(*PLAN, "--format", "html", "--output", str(path))
    assert (0, f"written to {path}\n") == (code, output)
    assert path.read_text().startswith("<!doctype html>")


class Models(http.server.BaseHTTPRequestHandler):
    """A relay that lists prices to whoever has its key."""

    def do_GET(self):
        allowed = self.headers.get("authorization") == "Bearer secret"
        body = json.dumps(
            {"data": [{"id": "o3", "pricing": {"prompt": "0.000001", "completion": "0.000004"}}]}
        ).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_relays_url_is_asked_for_its_prices(monkeypatch):
    """`--relay URL` reads that relay's list, with the key from the environment."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/v1"
            code, _, errors = roi(*PLAN, "--relay", url)
            assert 2 == code
            assert "MERINO_API_KEY" in errors
            monkeypatch.setenv("MERINO_API_KEY", "secret")
            code, output, _ = roi(*PLAN, "--relay", url, "--format", "json")
        finally:
            server.shutdown()
            thread.join()
    assert 0 == code
    assert "30.00" == json.loads(output)["offers"][-1]["month"]


def test_real_calls_of_a_relay(tmp_path):
    """`--from-ledger` shows what accounts paid beside each model's list price."""
    config = '[[deployments]]\nname = "d"\nprovider = "simulator"\nupstream_model = "o3"\n'
    with in_process(tmp_path, config + '[aliases.o3]\ndeployments = ["d"]\n') as relay:
        usage = relay.chat("o3").json()["usage"]
        done = relay.command("roi", "--from-ledger", "--format", "json")
    assert (0, "") == (done.returncode, done.stderr)
    found = json.loads(done.stdout)
    assert 1 == found["calls"]
    assert usage["prompt_tokens"] == found["usage"]["input_tokens"]
    assert usage["completion_tokens"] == found["usage"]["output_tokens"]
    assert ["openai", "as charged"] == [offer["offer"] for offer in found["offers"]]
    charged_nanos = usage["prompt_tokens"] * 2_100 + usage["completion_tokens"] * 8_400
    assert charged_nanos == found["offers"][1]["month_nanos"]


NOTHING_MORE = dict.fromkeys(
    (
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "image_input_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
    ),
    0,
) | {"units": None}


def test_what_tools_did_is_compared(monkeypatch):
    """A call's searches cost at the vendor what its list says, beside the tokens."""
    call = {
        "price_id": "openai/o3@2025-06-10", "charged_nanos": 10**9, "input_tokens": 10**6,
        "output_tokens": 0, "upstream_model": "o3", "alias": "o3", **NOTHING_MORE,
    }  # fmt: skip
    costs = []
    for units in (None, '{"web_search": 1000}'):
        page = {"data": [{**call, "units": units}]}
        monkeypatch.setattr("merino.cli.connection.with_admin", lambda data, ask, page=page: page)
        code, output, errors = roi("--from-ledger", "--against", "openai", "--format", "json")
        assert (0, "") == (code, errors)
        costs.append(json.loads(output))
    assert costs[0] != costs[1]
    assert '"12.00' in json.dumps(costs[1])
    assert '"2.00' in json.dumps(costs[0])


def test_real_calls_in_other_currencies_and_tiers(monkeypatch):
    """What an account paid in yuan is counted in dollars at the very rate it was billed with, and a
    call at a cheaper tier is compared with that tier's price."""
    calls = [
        {"price_id": "openai/o3:flex@2025-06-10", "charged_nanos": 10**9},
        {
            "price_id": "openai/o3@2025-06-10 USD/CNY=7.12@2026-11-01",
            "charged_nanos": 7_120_000_000,
        },
        {"price_id": "deployment/llama3:8b", "charged_nanos": 10**9},
    ]
    tokens = {"input_tokens": 10**6, "output_tokens": 0, "upstream_model": "o3", "alias": "o3"}
    more = NOTHING_MORE
    page = {"data": [{**call, **tokens, **more} for call in calls]}
    monkeypatch.setattr("merino.cli.connection.with_admin", lambda data, ask: page)
    code, output, errors = roi("--from-ledger", "--format", "json")
    assert (0, "") == (code, errors)
    openai, paid = json.loads(output)["offers"]
    assert "3.00" == paid["month"]
    assert "openai/o3:flex@2025-06-10 openai/o3@2025-06-10" == openai["price_ids"]
    assert "5.00" == openai["month"]


def test_ones_own_traffic_comes_first(tmp_path) -> None:
    """With nothing given, a folder's calls are priced; without a folder it says what is missing."""
    with in_process(tmp_path, SIMULATED) as relay:
        assert 200 == relay.chat().status
        told = relay.command("roi")
        assert 0 == told.returncode, told.stderr
        assert told.stdout == relay.command("roi", "--from-ledger").stdout
        half = relay.command("roi", "--model", "o3")
    assert 2 == half.returncode
    assert "Missing option --input-tokens, --output-tokens" in half.stderr
    nowhere = run_command("roi", "--data", str(tmp_path / "none"))
    assert (2, "") == (nowhere.returncode, nowhere.stdout)
    assert "Missing option --model" in nowhere.stderr
