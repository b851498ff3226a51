"""The loop of the calls never runs SQL: a relay in this process does all it can do, with connections
that notice on which thread a statement runs."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
from tests.in_process import LaneExchange
from tests.sweep.admin_plan import PLAN
from tests.sweep.relay import SETTINGS

from merino.app import Relay
from merino.live import live_of
from merino.serving import first_start
from merino.settings import load
from merino.storage import Store

ENVIRON = {"GONE_CREDENTIAL": "sk-gone"}
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]},
}


class Guard:
    """Notices every statement that runs on its own thread while it `watches`."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.statements = 0
        self.watches = False
        self._thread = threading.get_ident()

    def __call__(self, connection: apsw.Connection) -> None:
        connection.exec_trace = self._ran

    def _ran(self, _: Any, sql: str, __: Any) -> bool:
        self.statements += 1
        if self.watches and threading.get_ident() == self._thread:
            ours = [each for each in traceback.extract_stack() if "/merino/" in each.filename]
            self.found.append(f"{ours[-2].name} in {ours[-2].filename}: {sql}")
        return True


@pytest.fixture
def guard(monkeypatch):
    guard = Guard()
    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, guard])
    return guard


def filled(value: Any, kept: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return value.format_map(kept) if "{" in value else value
    if isinstance(value, dict):
        return {name: filled(each, kept) for name, each in value.items()}
    return value


async def every_operation(client: httpx2.AsyncClient) -> set[str]:
    """Those of the sweep's plan, which has good input for each."""
    described = (await client.get("/admin/v1/openapi.json")).json()
    operations = {
        operation["operationId"]: (method.upper(), path)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }
    kept: dict[str, Any] = {}
    for step in PLAN:
        method, path = operations[step.operation]
        with suppress(KeyError, IndexError):  # it names what the sweep alone has made
            answer = await client.request(
                method,
                "/admin/v1" + path.format(**filled(step.path, kept)),
                params=filled(step.query, kept),
                headers=step.headers,
                **({} if step.body is None else {"json": filled(step.body, kept)}),
            )
            if step.keep:
                kept[step.keep] = answer.json()
    return set(operations) - {step.operation for step in PLAN}


async def a_batch(client: httpx2.AsyncClient, key: str) -> str:
    """Its calls go the way of all calls. Its files are listed, read and deleted."""
    headers = {"authorization": f"Bearer {key}"}
    form = {"file": ("a.jsonl", json.dumps(LINE).encode()), "purpose": (None, "batch")}
    file = (await client.post("/v1/files", files=form, headers=headers)).json()
    order = {
        "input_file_id": file["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    batch = (await client.post("/v1/batches", json=order, headers=headers)).json()
    async with asyncio.timeout(20):
        while batch["status"] not in ("completed", "failed"):
            await asyncio.sleep(0.05)
            batch = (await client.get(f"/v1/batches/{batch['id']}", headers=headers)).json()
    for path in ("/v1/files", "/v1/batches", f"/v1/files/{batch['output_file_id']}/content"):
        await client.get(path, headers=headers)
    await client.post(f"/v1/batches/{batch['id']}/cancel", headers=headers)
    await client.delete(f"/v1/files/{file['id']}", headers=headers)
    return batch["status"]


async def kept_responses(relay: Relay, key: str) -> list[int]:
    """What the relay keeps of responses and conversations, and makes in the background."""
    body = {"model": "o3", "input": "Hi"}
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v1/conversations", {"items": [{"role": "user", "content": "Hi"}]}),
        ("POST", "/v1/responses", body),
        ("POST", "/v1/responses", {**body, "background": True}),
    ]
    statuses: list[int] = []
    while asked:
        method, target, given = asked.pop(0)
        content = b"" if given is None else json.dumps(given).encode()
        headers = {"authorization": f"Bearer {key}", "content-length": str(len(content))}
        exchange = LaneExchange(method, target, headers, content)
        await exchange.served_by(relay.front)
        statuses.append(exchange.answered.status)
        if target not in ("/v1/conversations", "/v1/responses"):
            continue
        path = f"{target}/{exchange.answered.json()['id']}"
        if target == "/v1/conversations":
            named = {"conversation": path.rpartition("/")[2]}
            asked += [
                ("POST", path, {"metadata": {"a": "b"}}),
                ("POST", f"{path}/items", {"items": [{"role": "user", "content": "Ho"}]}),
                ("POST", "/v1/responses", {**body, **named}),
                ("GET", f"{path}/items", None),
                ("DELETE", path, None),
            ]
        else:
            asked += [
                ("GET", path, None),
                ("GET", f"{path}?stream=true", None),
                ("GET", f"{path}/input_items", None),
                ("DELETE", path, None),
            ]
    return statuses


async def every_page(client: httpx2.AsyncClient, key: str) -> list[int]:
    origin = {"sec-fetch-site": "same-origin"}
    await client.post("/dashboard/sign-in", data={"key": key}, headers=origin)
    account, *_ = (await client.get("/admin/v1/accounts")).json()["data"]
    pages = ("", "/calls", "/calls.csv", "/models", "/keys", "/accounts", "/playground")
    pages += ("/roi", "/benchmarks", "/admin-keys", "/settings", "/audit")
    pages += (f"/accounts/{account['id']}", f"/accounts/{account['id']}/statement")
    return [(await client.get(f"/dashboard{page}")).status_code for page in pages]


async def once_of_everything(folder: Path, guard: Guard) -> None:
    (folder / "merino.toml").write_text(SETTINGS + '\n[responses]\nstore = "relay"\n')
    settings = load(folder / "merino.toml", ENVIRON)
    store = Store.open(folder / "data")
    await store.start()
    relay = Relay(live_of(settings, ENVIRON, store.accounts.get), store, ENVIRON)
    guard.watches = True
    key, admin_key = await first_start(settings.credits.start_nanos, store)
    assert key is not None
    assert admin_key is not None
    background = asyncio.create_task(relay.run_background())
    transport = httpx2.ASGITransport(app=relay.asgi())
    async with httpx2.AsyncClient(
        transport=transport,
        base_url="http://merino",
        headers={"authorization": f"Bearer {admin_key}"},
    ) as client:
        assert "completed" == await a_batch(client, key)
        assert set() == await every_operation(client)
        assert {200} == set(await every_page(client, admin_key))
        assert {200} == set(await kept_responses(relay, key))
        await client.get("/status")
        await client.get("/metrics")
    await relay.reload()
    await relay._upkeep._forget_calls()
    await relay._control_plane.billing.loops.tell()
    await relay.close()
    background.cancel()
    with suppress(asyncio.CancelledError):
        await background
    guard.watches = False
    await store.close()


def test_everything_but_a_start_and_an_end_runs_no_sql_on_the_loop(tmp_path, guard) -> None:
    """Every operation, files and batches with their calls, every page, and what is done beside the
    calls: whatever a disk does, calls go on."""
    asyncio.run(once_of_everything(tmp_path, guard))
    assert guard.statements > 500
    assert [] == sorted(set(guard.found))
