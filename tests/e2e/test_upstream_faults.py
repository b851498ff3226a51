"""An upstream that fails, over real sockets: what the caller gets, and what is billed."""

from __future__ import annotations

import contextlib
import time

import httpx2
import pytest

from merino.simulator.server import simulator_in_thread

DEPLOYMENT = """
[[deployments]]
name = "{name}"
base_url = "{url}"
upstream_model = "{model}"
price = {{ input = 1.00, output = 10.00 }}
{more}
"""


@pytest.fixture(scope="module")
def upstream():
    with simulator_in_thread() as server:
        yield server


FAULTS = {
    # Each fault: its script, whether streamed, the status (or "event"), how the hold ends.
    "503": ("plain!status=503", False, 503, "voided"),
    "429": ("plain!status=429,retry_after=2", False, 429, "voided"),
    "401": ("plain!status=401", False, 502, "voided"),
    "400": ("plain!status=400", True, 400, "voided"),
    "not-json": ("plain!garbage", False, 502, "voided"),
    "cut": ("plain!cut", False, 502, "voided"),
    "cut-stream-before-content": ("plain!cut", True, 502, "voided"),
    "error-in-stream": ("plain!error_in_stream", True, 502, "voided"),
    "wrong-content-type": ("plain!wrong_content_type", True, 502, "voided"),
    "huge-line": ("plain!huge_line", True, "event", "settled"),
    "cut-after-content": ("plain!cut_after=3,tps=200", True, "event", "settled"),
    "error-after-content": ("plain!error_after=3,tps=200", True, "event", "settled"),
    "malformed-sse": ("plain!malformed,tps=200", True, "event", "settled"),
    "no-done": ("plain!no_done", True, 200, "settled"),
}


def config(upstream) -> str:
    text = "".join(
        DEPLOYMENT.format(name=f"f-{name}", url=upstream.base_url, model=script, more="")
        for name, (script, *_) in FAULTS.items()
    )
    text += DEPLOYMENT.format(
        name="silent", url=upstream.base_url, model="plain!ttft=60s,input=9", more=""
    )
    text += DEPLOYMENT.format(
        name="hangs",
        url=upstream.base_url,
        model="plain!hang",
        more="first_token_timeout_s = 0.5",
    )
    text += DEPLOYMENT.format(
        name="stalls",
        url=upstream.base_url,
        model="plain!hang_after=3,tps=100",
        more="idle_timeout_s = 0.5",
    )
    text += DEPLOYMENT.format(name="good", url=upstream.base_url, model="plain", more="")
    return text + (
        '[aliases.f-503]\ndeployments = ["f-503"]\n'
        '[aliases.f-error-in-stream]\ndeployments = ["f-error-in-stream"]\n'
        '[aliases.guarded]\ndeployments = ["f-503", "good"]\n'
        '[aliases.guarded-stream]\ndeployments = ["f-error-in-stream", "good"]\n'
        "[stream]\nevent_bytes_max = 1_048_576\n"
    )


def body(model: str, *, stream: bool = False) -> dict:
    return {
        "model": model,
        "messages": [{"role": "user", "content": "Tell me something."}],
        "stream": stream,
    }


def call_of(http, call_id: str) -> dict:
    deadline = time.monotonic() + 5
    while (found := http.get(f"/v1/calls/{call_id}")).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found.json()


def test_faults(start_relay, upstream) -> None:
    """Each fault becomes an error of its class, before content as a status, after it as an event and
    a cut connection; only what was delivered is billed; no hold survives."""
    relay = start_relay(config(upstream))
    with relay.http() as http:
        for name, (_, stream, expected, resolution) in FAULTS.items():
            text, answer = "", None
            try:
                with http.stream(
                    "POST", "/v1/chat/completions", json=body(f"f-{name}", stream=stream)
                ) as answer:
                    for piece in answer.iter_text():
                        text += piece
                was_cut = False
            except httpx2.RemoteProtocolError:
                was_cut = True
            assert answer is not None
            if expected == "event":
                assert (200, True) == (answer.status_code, was_cut), (name, text)
                assert '"error"' in text, name
                assert "[DONE]" not in text, name
            else:
                assert (expected, False) == (answer.status_code, was_cut), (name, text)
            call = call_of(http, answer.headers["x-request-id"])
            assert resolution == call["resolution"], name
            assert (resolution == "settled") == (call["cost_nanos"] > 0), name
            if name == "429":
                assert "2" == answer.headers["retry-after"]
        assert 200 == http.post("/v1/chat/completions", json=body("guarded")).status_code
        streamed = http.post("/v1/chat/completions", json=body("guarded-stream", stream=True))
        assert "[DONE]" in streamed.text
        call = call_of(http, streamed.headers["x-request-id"])
        assert ["f-error-in-stream"] == [each["deployment"] for each in call["attempts"]]
        assert "good" == call["deployment"]
        for name in ("hangs", "stalls"):
            with (
                pytest.raises(httpx2.RemoteProtocolError)
                if name == "stalls"
                else contextlib.nullcontext()
            ):
                answer = http.post("/v1/chat/completions", json=body(name, stream=True))
                assert 504 == answer.status_code
    assert 0 == relay.cli("accounts", "show", "default")["balance"]["held_nanos"]
    assert [] == relay.cli("ledger", "verify")["differences"]


@pytest.mark.parametrize("stream", [False, True])
def test_hang_up_before_the_first_byte_cancels_a_silent_upstream(
    start_relay, upstream, stream
) -> None:
    """A caller who leaves while the upstream is silent cancels it at once, and pays for the input."""
    relay = start_relay(config(upstream))
    before = upstream.tally.cancelled
    with relay.http() as http:
        with pytest.raises(httpx2.ReadTimeout):
            http.post("/v1/chat/completions", json=body("silent", stream=stream), timeout=0.5)
        deadline = time.monotonic() + 5
        while upstream.tally.cancelled == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        [call] = relay.cli("calls", "list")["data"]
    assert ("settled", 499, "counted") == (call["resolution"], call["status"], call["usage_source"])
    assert 0 < call["input_tokens"]
    assert 0 == call["output_tokens"]
