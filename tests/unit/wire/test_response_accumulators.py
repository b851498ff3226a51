"""The accumulators of the `openai` packages over every scripted stream, however it is cut."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai._streaming import SSEDecoder
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.response_streams import ENDED, FAILED, asked, streamed

from merino.translation.table import TRANSLATIONS, Made
from merino.wire.responses import parse_responses

EVENTS = TypeAdapter(ResponseStreamEvent)
EVERY_BYTE = ["native: unpadded"]
PACKAGES = Path(__file__).parents[3] / ".venv" / "node" / "node_modules"


def through_chat(kind: str) -> bytes:
    """The same call's stream where the simulator has only chat completions."""
    from merino.simulator.playback import Simulation
    from merino.simulator.steps import Bytes

    request = parse_responses(json.dumps(asked(kind)).encode())
    carried = TRANSLATIONS["responses", "chat/completions"].carry(request, Made("req_1", 1))
    steps = Simulation().steps("chat/completions", carried.body)
    stream = carried.stream()
    pieces = [stream.feed(each.data) for each in steps if isinstance(each, Bytes)]
    return b"".join(pieces) + stream.finish()


ROADS = {"native": streamed, "through chat": through_chat}
both_roads = pytest.mark.parametrize("road", ROADS)


def datas(stream: bytes) -> list[dict[str, Any]]:
    found = [each.data for each in SSEDecoder().iter_bytes(iter([stream]))]
    return [json.loads(each) for each in found if each != "[DONE]"]


def accumulated(pieces: Iterator[bytes]) -> tuple[list[Any], Any]:
    """The events and the last response of the Python package, given a stream in these pieces."""

    class Body(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return pieces

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with openai.OpenAI(api_key="k", base_url="http://relay/v1", http_client=http) as client:
        with client.responses.stream(model="o3", input="hi") as stream:
            events = list(stream)
            snapshot: Any = stream._state.__dict__
    return events, snapshot


@both_roads
@pytest.mark.parametrize("kind", ENDED)
def test_the_python_package_accumulates_what_the_last_event_says(kind: str, road: str) -> None:
    """Byte by byte, the package's stream helper builds from the pieces the output of the last
    event's object, all events fit their strict types, and the object is a strict response."""
    stream = ROADS[road](kind)
    for each in datas(stream):
        EVENTS.validate_json(json.dumps(each), strict=True)
    told = datas(stream)[-1]["response"]
    whole = Response.model_validate_json(json.dumps(told), strict=True)
    events, state = accumulated(iter([stream[at : at + 1] for at in range(len(stream))]))
    built = state["_ResponseStreamState__current_snapshot"].output
    done = state["_completed_output"]
    assert f"response.{told['status']}" == events[-1].type
    assert list(range(len(events))) == [each.sequence_number for each in events]
    assert told["output"] == [done[index].to_dict() for index in sorted(done)]
    assert [_said(each) for each in whole.output] == [_said(each) for each in built]


def _said(item: Any) -> Any:
    """What the package puts together of an item's pieces: text and arguments."""
    if item.type == "message":
        return [getattr(part, "text", None) for part in item.content]
    return item.arguments if item.type == "function_call" else item.type


@pytest.mark.parametrize("kind", ["unpadded", "custom call", "fails in the text"])
def test_wherever_it_is_cut_the_python_package_reads_the_same_events(kind: str) -> None:
    """Two reads, parted at every byte, give the package's decoder what one gives."""
    stream = streamed(kind)
    whole = [(each.event, each.data) for each in SSEDecoder().iter_bytes(iter([stream]))]
    for at in range(len(stream)):
        pieces = iter([stream[:at], stream[at:]])
        assert whole == [(each.event, each.data) for each in SSEDecoder().iter_bytes(pieces)]


@both_roads
@pytest.mark.parametrize("kind", FAILED)
def test_a_failure_is_one_in_the_python_package(kind: str, road: str) -> None:
    """A stream that failed never looks like an answer that ended: it raises, or ends with what says
    so."""
    stream = ROADS[road](kind)
    for each in datas(stream):
        EVENTS.validate_json(json.dumps(each), strict=True)
    try:
        events, state = accumulated(iter([stream]))
    except openai.APIError as error:
        assert "Simulated failure" in error.message
    else:
        assert events[-1].type in ("response.failed", "error")
        assert state["_completed_response"] is None


NODE = """
const OpenAI = require("openai");
const { scripts, every } = JSON.parse(require("fs").readFileSync(0, "utf8"));

async function run(pieces) {
  const body = new ReadableStream({
    start(controller) {
      for (const piece of pieces) if (piece.length) controller.enqueue(piece);
      controller.close();
    },
  });
  const headers = { "content-type": "text/event-stream" };
  const fetch = async () => new Response(body, { headers });
  const client = new OpenAI({ apiKey: "k", baseURL: "http://relay/v1", maxRetries: 0, fetch });
  return await client.responses.stream({ model: "o3", input: "hi" }).finalResponse();
}

async function main() {
  const told = {};
  for (const [name, text] of Object.entries(scripts)) {
    const lines = new TextEncoder().encode(text);
    const whole = await run([lines]);
    const expected = JSON.stringify(whole);
    let different = 0;
    // Every byte of short ones; of others every so many, and all at once.
    const step = Math.ceil(lines.length / (every.includes(name) ? lines.length : 12));
    for (let at = 1; at < lines.length; at += step) {
      const found = await run([lines.slice(0, at), lines.slice(at)]);
      if (JSON.stringify(found) !== expected) different++;
    }
    const bytes = Array.from(lines, (byte) => Uint8Array.of(byte));
    if (JSON.stringify(await run(bytes)) !== expected) different++;
    told[name] = { whole, different, cuts: lines.length };
  }
  console.log(JSON.stringify(told));
}
main().catch((error) => { console.error(error); process.exit(1); });
"""


def test_the_npm_package_accumulates_them_however_they_are_cut(tmp_path: Path) -> None:
    """The npm package's accumulator gives the last event's response, with the stream parted at every
    byte; both roads."""
    if shutil.which("node") is None or not (PACKAGES / "openai").exists():
        pytest.skip(f"Node.js or the npm packages are missing ({PACKAGES})")
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "run.js").write_text(NODE)
    scripts = {
        f"{road}: {kind}": make(kind).decode() for road, make in ROADS.items() for kind in ENDED
    }
    done = subprocess.run(
        ["node", "run.js"],
        cwd=tmp_path,
        input=json.dumps({"scripts": scripts, "every": EVERY_BYTE}),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (0, "") == (done.returncode, done.stderr)
    told = json.loads(done.stdout)
    for name, stream in scripts.items():
        final = datas(stream.encode())[-1]["response"]
        assert 0 == told[name]["different"]
        assert told[name]["cuts"] > 1000
        assert final["output"] == [
            {key: value for key, value in item.items() if key != "parsed"}
            for item in _plain(told[name]["whole"]["output"])
        ]
        assert final["usage"] == told[name]["whole"]["usage"]


def _plain(value: Any) -> Any:
    """Without what the package adds."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        added = {"parsed", "parsed_arguments"}
        return {key: _plain(each) for key, each in value.items() if key not in added}
    return value
