"""Every operation of the admin API and of the public one, with good input and with bad."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from admin_plan import PLAN, Step
from asking import Asking, Recording
from bad_input import resolved, wrong_bodies, wrong_queries
from relay import Relay

ADMIN = "/admin/v1"
UNKNOWN = ("nobody", "%00")


def sweep_admin(relay: Relay, recording: Recording) -> None:
    ask = Asking(relay.url, {"authorization": f"Bearer {relay.admin_key}"}, recording)
    recording.heading("The description, which needs no key")
    description = ask("openapi", "GET", f"{ADMIN}/openapi.json", without="authorization")
    operations = {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }
    if missing := operations.keys() - {step.operation for step in PLAN}:
        raise SystemExit(
            f"tests/sweep/admin_plan.py has no good input of {', '.join(sorted(missing))}"
        )
    kept: dict[str, Any] = {}
    recording.heading("Good input")
    first: dict[str, Step] = {}
    for step in PLAN:
        method, path, _ = operations[step.operation]
        filled = Step(
            step.operation,
            _filled(step.path, kept),
            _filled(step.query, kept),
            _filled(step.body, kept),
            step.headers,
        )
        first.setdefault(step.operation, filled)
        target = ADMIN + path.format(**filled.path)
        if filled.query:
            target += f"?{urlencode(filled.query)}"
        answer = ask(
            f"{step.operation}, {step.what}",
            method,
            target,
            body=filled.body,
            headers=step.headers,
        )
        if step.keep:
            kept[step.keep] = answer
    recording.heading("Bad input, of every operation")
    schemas = resolved(description["components"]["schemas"], description["components"]["schemas"])
    for name, (method, path, operation) in operations.items():
        _bad(ask, name, method, ADMIN + path, operation, first[name], schemas)
    recording.heading("What is no operation")
    for path in sorted({path for _, path, _ in operations.values()}):
        ask("a method it does not have", "PUT", ADMIN + path.replace("{", "").replace("}", ""))
    for path in ("/accounts/a%20b", "/accounts/%C3%BC", f"/accounts/{'x' * 300}", "/accounts/%FF"):
        ask("an odd name", "GET", ADMIN + path)
    for path in ("", "/", "/sheep", "/accounts/", "/accounts/ada/sheep", "//accounts"):
        ask("an unknown path", "GET", ADMIN + path)
    for key in ("Bearer mk-a", "Bearer mka-wrong", "Basic eA==", "Bearer", "", "Bearer mka-\xff"):
        target = f"{ADMIN}/accounts"
        ask("a key that is none", "GET", target, headers={"authorization": key})


def _bad(
    ask: Asking,
    name: str,
    method: str,
    path: str,
    operation: dict[str, Any],
    good: Step,
    schemas: dict[str, Any],
) -> None:
    parameters = operation.get("parameters", [])
    target = path.format(**good.path)
    ask(f"{name}, without a key", method, target, without="authorization")
    for each in good.path:
        for value in UNKNOWN:
            unknown = path.format(**(good.path | {each: value}))
            ask(f"{name}, an unknown {each}", method, unknown, body=good.body)
    queries = [each for each in parameters if each["in"] == "query"]
    names = {each["name"] for each in queries}
    if method == "GET":
        for what, pairs in wrong_queries(queries):
            more = [("limit", "2")] if "limit:" not in what and "limit" in names else []
            ask(f"{name}, {what}", method, f"{target}?{urlencode(pairs + more)}")
    if any(each["name"] == "Idempotency-Key" for each in parameters):
        for key in ("", "x" * 256, "\xfc"):
            headers = {"idempotency-key": key}
            ask(f"{name}, an unusable key", method, target, body=good.body, headers=headers)
    if "requestBody" not in operation:
        return
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    as_json = {"content-type": "application/json"}
    for what, content, headers in (
        ("no body", b"", as_json),
        ("no JSON", b"{", as_json),
        ("a list", b"[]", as_json),
        ("no text", b"\xff", as_json),
        ("too large", b" " * 65_537, as_json),
        ("not said to be JSON", json.dumps(good.body).encode(), {"content-type": "text/plain"}),
    ):
        ask(f"{name}, {what}", method, target, content=content, headers=headers)
    for what, body in wrong_bodies(resolved(schema, schemas), good.body):
        ask(f"{name}, {what}", method, target, body=body)


def _filled(value: Any, kept: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return value.format_map(kept) if "{" in value else value
    if isinstance(value, dict):
        return {name: _filled(each, kept) for name, each in value.items()}
    return value


# -- the public API -------------------------------------------------------------------------------


def _chat(text: Any = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": "o3", "messages": [{"role": "user", "content": text}]} | more


TOOL = {
    "type": "function",
    "function": {
        "name": "shear",
        "parameters": {
            "type": "object",
            "properties": {"sheep": {"type": "string"}},
            "required": ["sheep"],
        },
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "flock",
        "schema": {
            "type": "object",
            "properties": {"count": {"type": "integer"}},
            "required": ["count"],
            "additionalProperties": False,
        },
    },
}
CHATS: dict[str, Any] = {
    "plain": _chat(),
    "streamed": _chat(stream=True, max_completion_tokens=300),
    "streamed with usage": _chat(
        stream=True, stream_options={"include_usage": True}, reasoning_effort="none"
    ),
    "another model": _chat(model="talk", temperature=0.5, max_tokens=20),
    "two choices": _chat(n=2, max_completion_tokens=400),
    "a tool": _chat(tools=[TOOL], tool_choice="required"),
    "a schema": _chat(response_format=SCHEMA, reasoning_effort="low"),
    "a picture": _chat(
        [
            {"type": "text", "text": "See"},
            {
                "type": "image_url",
                "image_url": {"url": "https://example.org/a.png", "detail": "low"},
            },
        ]
    ),
    "a limit that thinking uses up": _chat(max_completion_tokens=20),
    "a tier": _chat(service_tier="flex"),
}
WRONG_CHATS: dict[str, Any] = {
    "an unknown model": _chat(model="sheep"),
    "no model": {"messages": []},
    "no messages": {"model": "o3"},
    "empty messages": {"model": "o3", "messages": []},
    "messages that are text": {"model": "o3", "messages": "Hi"},
    "a message that is text": {"model": "o3", "messages": ["Hi"]},
    "an unknown role": {"model": "o3", "messages": [{"role": "sheep", "content": "Hi"}]},
    "a model that is a number": _chat(model=3),
    "stream that is text": _chat(stream="yes"),
    "a limit of nothing": _chat(max_completion_tokens=0),
    "a limit that is text": _chat(max_completion_tokens="many"),
    "both limits": _chat(max_completion_tokens=10, max_tokens=20),
    "a huge limit": _chat(max_completion_tokens=10**12),
    "n of nothing": _chat(n=0),
    "too hot": _chat(temperature=9),
    "an unknown parameter": _chat(sheep=1),
    "an upstream that is not there": _chat(model="lost"),
    "an upstream that is busy": _chat(model="busy"),
    "an upstream that is broken": _chat(model="broken"),
    "a stream of one that is broken": _chat(model="broken", stream=True),
}
VECTORS: dict[str, Any] = {
    "plain": {"model": "vectors", "input": "Hi", "dimensions": 8},
    "several": {"model": "vectors", "input": ["Hi", "Ho"], "dimensions": 4},
    "in base64": {"model": "vectors", "input": "Hi", "dimensions": 4, "encoding_format": "base64"},
    "tokens": {"model": "vectors", "input": [1, 2, 3], "dimensions": 2},
    "no input": {"model": "vectors"},
    "empty input": {"model": "vectors", "input": []},
    "input of a number": {"model": "vectors", "input": 3},
    "an unknown model": {"model": "sheep", "input": "Hi"},
}
RESPONSES: dict[str, Any] = {
    "plain": {"model": "o3", "input": "Hi"},
    "streamed": {"model": "o3", "input": "Hi", "stream": True},
    "items": {"model": "o3", "input": [{"role": "user", "content": "Hi"}]},
    "cut at its limit": {"model": "o3", "input": "Hi", "max_output_tokens": 16},
    "in a conversation that is not there": {"model": "o3", "input": "Hi", "conversation": "conv_x"},
    "gone on from one that is not there": {
        "model": "o3",
        "input": "Hi",
        "previous_response_id": "resp_x",
    },
    "gone on in two ways": {
        "model": "o3",
        "input": "Hi",
        "previous_response_id": "resp_x",
        "conversation": "conv_x",
    },
    "in the background, not stored": {
        "model": "o3",
        "input": "Hi",
        "background": True,
        "store": False,
    },
    "input that is a number": {"model": "o3", "input": 3},
    "a limit of nothing": {"model": "o3", "input": "Hi", "max_output_tokens": 0},
    "effort that is no object": {"model": "o3", "input": "Hi", "reasoning": "high"},
    "no model": {"input": "Hi"},
    "an unknown model": {"model": "sheep", "input": "Hi"},
}
BATCH_LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": _chat()}


def sweep_public(relay: Relay, recording: Recording) -> None:
    ask = Asking(relay.url, {"authorization": f"Bearer {relay.key}"}, recording)
    chat, vectors = "/v1/chat/completions", "/v1/embeddings"
    recording.heading("The banner")
    recording.ran(["serve", "--data", "data", "--config", "relay.toml"], 0, relay.banner, "")
    recording.heading("Calls")
    for what, body in (CHATS | WRONG_CHATS).items():
        ask(f"chat, {what}", "POST", chat, body=body)
    for what, body in VECTORS.items():
        ask(f"embeddings, {what}", "POST", vectors, body=body)
    for what, body in RESPONSES.items():
        ask(f"response, {what}", "POST", "/v1/responses", body=body)
    for what, body in (CHATS | WRONG_CHATS).items():
        if "upstream" not in what:
            ask(f"estimate, {what}", "POST", "/v1/estimate", body=body)
    for what in ("plain", "gone on from one that is not there", "gone on in two ways"):
        ask(f"estimate of a response, {what}", "POST", "/v1/estimate", body=RESPONSES[what])
    vector = {"model": "vectors", "input": "Hi"}
    ask("estimate of an embedding", "POST", "/v1/estimate?endpoint=/v1/embeddings", body=vector)
    ask("estimate of what is none", "POST", "/v1/estimate?endpoint=/v1/sheep", body=vector)
    for what, content in (
        ("no body", b""),
        ("no JSON", b"{"),
        ("a list", b"[]"),
        ("no text", b'"\xff"'),
        ("deep", b"[" * 2000),
    ):
        for path in (chat, vectors, "/v1/estimate"):
            ask(what, "POST", path, content=content, headers={"content-type": "application/json"})
    recording.heading("Headers of calls")
    for what, headers in (
        ("once", {"idempotency-key": "p-1"}),
        ("once more", {"idempotency-key": "p-1"}),
        ("an empty idempotency key", {"idempotency-key": ""}),
        ("a long idempotency key", {"idempotency-key": "x" * 256}),
        ("a cost that is enough", {"x-merino-max-cost": "1.00"}),
        ("a cost that is too little", {"x-merino-max-cost": "0.0000001"}),
        ("a cost that is none", {"x-merino-max-cost": "much"}),
        ("a timeout", {"x-merino-timeout": "30"}),
        ("a timeout that is none", {"x-merino-timeout": "long"}),
        ("no key", {"authorization": ""}),
        ("no bearer", {"authorization": "Basic eA=="}),
        ("an unknown key", {"authorization": "Bearer mk-wrong"}),
        ("an admin key", {"authorization": f"Bearer {relay.admin_key}"}),
        ("a provider's key", {"authorization": "Bearer sk-abc"}),
    ):
        ask(f"chat, {what}", "POST", chat, body=_chat(), headers=headers)
    ask("chat, another body", "POST", chat, body=_chat("Ho"), headers={"idempotency-key": "p-1"})
    recording.heading("Models and calls")
    ask("models", "GET", "/v1/models")
    for name in ("o3", "sim/o3", "sheep", "a%20b"):
        ask("model", "GET", f"/v1/models/{name}")
    made = ask("chat, to be looked up", "POST", chat, body=_chat())
    assert made["usage"], made
    ask("call, unknown", "GET", "/v1/calls/req_0")
    ask("calls, all", "GET", "/v1/calls")
    for path in ("/v1/models", "/v1/calls/x", "/v1/models/o3"):
        ask("no key", "GET", path, without="authorization")
    recording.heading("Files and batches")
    _sweep_batches(ask)
    recording.heading("Other paths and methods")
    for path in (chat, vectors, "/v1/estimate", "/v1/files/x/content", "/v1/batches/x/cancel"):
        ask("a method it does not have", "PATCH", path)
    for path in (
        "/v1/responses",
        "/v1/assistants",
        "/v1/threads",
        "/v1/completions",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/moderations",
        "/v1/vector_stores",
        "/v1/uploads",
        "/v1/realtime",
        "/v1/fine_tuning/jobs",
        "/v1/messages",
        "/v1/v1/chat/completions",
        "/v1beta/models/o3:generateContent",
        "/v1",
        "/v1/",
        "/v1/sheep",
        "/chat/completions",
    ):
        ask("a path that is not served", "POST", path, body=_chat())
    for path in (
        "/",
        "/livez",
        "/health",
        "/readyz",
        "/status.json",
        "/sheep",
        "/webhooks/stripe",
        "/dashboard",
        "/dashboard/calls",
    ):
        ask("nobody's", "GET", path, without="authorization")
    ask("a page", "GET", "/", headers={"accept": "text/html"})
    for provider in ("stripe", "invoice", "sheep"):
        ask("a webhook", "POST", f"/webhooks/{provider}", body={})
    ask("the status page", "GET", "/status", without="authorization")


def _sweep_batches(ask: Asking) -> None:
    def upload(
        what: str, data: dict[str, Any], content: bytes | None, name: str = "a.jsonl"
    ) -> Any:
        files = {} if content is None else {"file": (name, content, "application/jsonl")}
        return ask(f"upload, {what}", "POST", "/v1/files", form=(data, files), notes=f"form {data}")

    line = json.dumps(BATCH_LINE).encode()
    good = upload("good", {"purpose": "batch"}, line + b"\n")
    upload(
        "it expires",
        {
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": "3600",
        },
        line,
    )
    upload("another purpose", {"purpose": "sheep"}, line)
    upload("no purpose", {}, line)
    upload("no file", {"purpose": "batch"}, None)
    upload("an empty file", {"purpose": "batch"}, b"")
    wrong = upload("no JSON", {"purpose": "batch"}, b"sheep\n")
    ask("upload, no form", "POST", "/v1/files", body={"purpose": "batch"})
    ask("files", "GET", "/v1/files")
    for query in (
        "purpose=batch&limit=1",
        "limit=0",
        "limit=x",
        "order=sheep",
        "after=x",
        "purpose=sheep",
    ):
        ask("files", "GET", f"/v1/files?{query}")
    order = {
        "input_file_id": good["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    ask(
        "order",
        "POST",
        "/v1/batches",
        body=order | {"metadata": {"flock": "1"}, "input_file_id": wrong["id"]},
    )
    for what, body in (
        ("an unknown file", order | {"input_file_id": "file-0"}),
        ("another endpoint", order | {"endpoint": "/v1/sheep"}),
        ("another window", order | {"completion_window": "1h"}),
        ("metadata of a number", order | {"metadata": 3}),
        *((f"no {name}", {each: order[each] for each in order if each != name}) for name in order),
    ):
        ask(f"order, {what}", "POST", "/v1/batches", body=body)
    ask("order, no JSON", "POST", "/v1/batches", content=b"{")
    for name in (good["id"], "file-0"):
        ask("file", "GET", f"/v1/files/{name}")
        ask("content", "GET", f"/v1/files/{name}/content")
        ask("delete", "DELETE", f"/v1/files/{name}")
    ask("delete, again", "DELETE", f"/v1/files/{good['id']}")
    for query in ("limit=0", "limit=x", "after=x"):
        ask("batches", "GET", f"/v1/batches?{query}")
    ask("batch, unknown", "GET", "/v1/batches/batch_0")
    ask("cancel, unknown", "POST", "/v1/batches/batch_0/cancel")
    for method, path in (
        ("GET", "/v1/files"),
        ("POST", "/v1/files"),
        ("GET", "/v1/batches"),
        ("POST", "/v1/batches"),
    ):
        ask("no key", method, path, without="authorization")
