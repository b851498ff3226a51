"""What a call is settled with, end to end: each kind of token and each kind of price, from the
upstream's usage to the entry."""

from __future__ import annotations

import http.server
import json
import threading
from decimal import Decimal

import httpx2
import pytest
from tests.conftest import RelayProcess

RATES = """
input = 2.00
cached = 0.50
cache_write = 2.50
output = 8.00
audio_input = 40.00
audio_output = 80.00
image_input = 5.00
"""
PRICES = f"""
provider = "priced"

[[price]]
model = "all"
{RATES}
steps = [{{ above_input_tokens = 1000, input = 4.00, output = 12.00, cached = 1.00 }}]

[[price]]
model = "all"
tier = "batch"
input = 1.00
output = 4.00

[[price]]
model = "fee"
per_call = 0.01
input = 2.00
output = 8.00
"""
USAGES = {
    "plain": {"prompt_tokens": 1000, "completion_tokens": 100},
    "cached": {"prompt_tokens_details": {"cached_tokens": 600}},
    "cache-write": {"prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 300}},
    "images": {"prompt_tokens_details": {"image_tokens": 400}},
    "audio-in": {"prompt_tokens_details": {"audio_tokens": 400}},
    "audio-out": {"completion_tokens_details": {"audio_tokens": 60}},
    "reasoning": {"completion_tokens_details": {"reasoning_tokens": 90}},
    "long": {"prompt_tokens": 1001, "prompt_tokens_details": {"cached_tokens": 1}},
}
# Dollars, as anybody would reckon them from the price list above.
MILLION = Decimal(10**6)
EXPECTED = {
    "plain": (1000 * 2 + 100 * 8) / MILLION,
    "cached": (400 * 2 + 600 * Decimal("0.5") + 100 * 8) / MILLION,
    "cache-write": (600 * 2 + 100 * Decimal("0.5") + 300 * Decimal("2.5") + 100 * 8) / MILLION,
    "images": (600 * 2 + 400 * 5 + 100 * 8) / MILLION,
    "audio-in": (600 * 2 + 400 * 40 + 100 * 8) / MILLION,
    "audio-out": (1000 * 2 + 40 * 8 + 60 * 80) / MILLION,
    "reasoning": (1000 * 2 + 100 * 8) / MILLION,
    "long": (1000 * 4 + 1 * 1 + 100 * 12) / MILLION,
}


def usage_of(model: str) -> dict:
    usage = {**USAGES["plain"], **USAGES.get(model, {})}
    return {**usage, "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers with the usage that its model's name asks for, and the tier it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        shared = {
            "id": "chatcmpl-1",
            "created": 1,
            "model": asked["model"],
            "service_tier": asked.get("service_tier", "default"),
        }
        usage = usage_of(asked["model"])
        if asked.get("stream"):
            chunks = [
                {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]},
                {"choices": [], "usage": usage},
            ]
            body = b"".join(
                b"data: %s\n\n"
                % json.dumps({**shared, "object": "chat.completion.chunk", **chunk}).encode()
                for chunk in chunks
            )
            self.reply(body + b"data: [DONE]\n\n", "text/event-stream")
            return
        message = {"role": "assistant", "content": "Hi"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {**shared, "object": "chat.completion", "choices": [choice], "usage": usage}
        self.reply(json.dumps(answer).encode(), "application/json")

    def reply(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def config(upstream: str, folder) -> str:
    (folder / "prices.toml").write_text(PRICES)
    deployments = "".join(
        f"""
[[deployments]]
name = "{model}"
base_url = "{upstream}"
upstream_model = "{model}"
price_model = "priced/{"fee" if model == "fee" else "all"}"
"""
        for model in [*USAGES, "fee"]
    )
    return f"""
[prices]
files = ["prices.toml"]

[prices.groups.resellers]
factor = 1.5

[[exchange_rates]]
base = "USD"
quote = "CNY"
rate = 7
valid_from = 2026-01-01
{deployments}
"""


@pytest.fixture(scope="module")
def relay(tmp_path_factory, upstream):
    folder = tmp_path_factory.mktemp("relay")
    process = RelayProcess(folder / "data", config(upstream, folder)).start()
    yield process
    assert 0 == process.stop()


def settled(relay, model: str, secret: str | None = None, **more) -> dict:
    """The entry of one call."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], **more}
    answer = httpx2.post(
        f"{relay.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {secret or relay.key}"},
        json={"max_tokens": 200, **body},
        trust_env=False,
        timeout=30,
    )
    assert 200 == answer.status_code, answer.text
    entries = relay.cli("entries", "list", "--limit", "10")["data"]
    call = entries[0]["call_id"]
    parts = [each for each in entries if each["call_id"] == call]
    # What the call cost above its hold has an entry of its own.
    total = sum(Decimal(each["amount"]) for each in parts)
    return {**parts[-1], "amount": total}


def charged(relay) -> dict[str, Decimal]:
    """What calls of `plain` were charged in each currency; no sum mixes two."""
    rows = relay.cli("report", "--by", "alias")["data"]
    plain = [row for row in rows if row["group"] == "plain"]
    found = {row["currency"]: Decimal(row["charged"]) for row in plain}
    assert len(plain) == len(found)
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_each_kind_of_token_has_its_price(relay, stream):
    """Plain, cached, cache-write, image, audio and reasoning tokens, and a context beyond a step:
    each is billed at its own rate, once, streamed or not."""
    found = {model: settled(relay, model, stream=stream)["amount"] for model in USAGES}
    assert EXPECTED == found


def test_the_batch_discount(relay):
    """A call that the upstream served at its batch tier costs the batch price, and the entry names
    it."""
    entry = settled(relay, "plain", service_tier="batch")
    assert (1000 * 1 + 100 * 4) / MILLION == entry["amount"]
    assert "priced/all:batch@1970-01-01" == entry["price_id"]


def test_a_fee_per_call(relay):
    """It comes on top of the tokens, once."""
    assert Decimal("0.01") + EXPECTED["plain"] == settled(relay, "fee")["amount"]


def test_a_margin_and_a_rate_of_the_settings(relay):
    """An account in another currency pays the price times its margin at the day's rate, which the
    settings give; price and rate are on the entry."""
    relay.cli("accounts", "create", "--name", "shop", "--currency", "CNY", "--group", "resellers")
    relay.cli("accounts", "credit", "shop", "10")
    key = relay.cli("keys", "create", "--account", "shop", "--name", "k")["key"]
    before = charged(relay)
    entry = settled(relay, "plain", key)
    assert EXPECTED["plain"] * Decimal("1.5") * 7 == entry["amount"]
    assert "USD/CNY=7.0@2026-01-01" == entry["exchange"]
    assert "priced/all@1970-01-01+resellers USD/CNY=7.0@2026-01-01" == entry["price_id"]
    settled(relay, "plain")
    after = charged(relay)
    assert {"CNY", "USD"} == set(after)
    assert Decimal("0.0294") == after["CNY"] - before.get("CNY", 0)
    assert Decimal("0.0028") == after["USD"] - before.get("USD", 0)


def test_rates_of_the_settings_are_not_changed_by_command(relay):
    """They are listed with where they come from, and another day's can be set beside them."""
    [listed] = relay.cli("rates", "list")["data"]
    assert ("7.00", "2026-01-01", "the settings") == (
        listed["rate"],
        listed["valid_from"],
        listed["source"],
    )
    done = relay.cli("rates", "set", "USD", "CNY", "8", "--on", "2026-01-01", check=False)
    assert (2, True) == (done.returncode, "in the settings" in done.stderr)
    relay.cli("rates", "set", "USD", "CNY", "8", "--on", "2025-12-31")
    rates = relay.cli("rates", "list")["data"]
    assert {("2025-12-31", "8.00"), ("2026-01-01", "7.00")} == {
        (each["valid_from"], each["rate"]) for each in rates
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('base = "USD"\nquote = "XXX"\nrate = 7\nvalid_from = 2026-01-01', "XXX"),
        ('base = "USD"\nquote = "CNY"\nrate = 0\nvalid_from = 2026-01-01', "above 0"),
        ('base = "USD"\nquote = "CNY"\nrate = 7.1234567\nvalid_from = 2026-01-01', "six decimals"),
        ('base = "USD"\nquote = "CNY"\nrate = 7', "valid_from"),
        ('base = "USD"\nquote = "CNY"\nrate = 7\nvalid_from = "soon"', "valid_from"),
    ],
)
def test_impossible_rates_in_the_settings(start_relay, line, told):
    """The relay does not start, and says why."""
    with pytest.raises(AssertionError, match=told):
        start_relay(f"[[exchange_rates]]\n{line}\n")
