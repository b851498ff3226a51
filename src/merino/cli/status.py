"""`merino status`."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from merino.cli.connection import Admin, is_relay_running, with_admin
from merino.cli.figures import count, duration, money
from merino.cli.options import admin_options
from merino.cli.output import print_fields, print_json, write

NOT_RUNNING_EXIT = 3
"""As services are asked: systemctl status says the same."""


@click.command("status")
@admin_options
def command(data: Path, as_json: bool) -> int:
    """Say whether a relay runs on the data folder, where, and how it is; exit code 3 if none does.

    The last hour's calls are counted, and deployments that get no calls now are named with why.
    """
    from merino.serving import running_note

    note = running_note(data) if data.is_dir() else None
    is_answering = data.is_dir() and is_relay_running(data)
    if not is_answering:
        return _absent(data, None if note is None else note.process, as_json)
    found: dict[str, Any] = {
        "running": True,
        "process": None if note is None else note.process,
        "version": None if note is None else note.version,
        "address": None if note is None else note.address,
        "dashboard": None if note is None else f"{note.address}/dashboard",
        "settings": None if note is None else note.settings,
        "data": str(data.absolute()),
        "up_s": None if note is None else round(max(0.0, time.time() - note.started_at)),
    }
    found |= with_admin(data, _asked)
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0


async def _asked(admin: Admin) -> dict[str, Any]:
    since = datetime.now(UTC) - timedelta(hours=1)
    query = {"by": "account", "since": since.isoformat().replace("+00:00", "Z")}
    rows = (await admin.ask("GET", "/reports", query=query))["data"]
    charged: dict[str, int] = {}
    for row in rows:
        charged[row["currency"]] = charged.get(row["currency"], 0) + row["charged_nanos"]
    running = await admin.ask("GET", "/calls/running", query={"limit": 1})
    deployments = (await admin.ask("GET", "/deployments"))["data"]
    return {
        "calls_running": running["running"],
        "last_hour": {
            "calls": sum(row["calls"] for row in rows),
            "failed": sum(row["failed"] for row in rows),
            "charged_nanos": charged,
        },
        "deployments": len(deployments),
        "left_alone": {each["name"]: why for each in deployments if (why := _why_not(each))},
    }


def _why_not(deployment: dict[str, Any]) -> str | None:
    state = deployment["state"]
    if state is None:
        return None
    if state["drained"]:
        return "drained"
    if state["breaker"] != "closed":
        return str(state["reason"] or f"breaker {state['breaker'].replace('_', ' ')}")
    if state["usable_in_s"]:
        return f"usable in {state['usable_in_s']:g} s"
    return None


def _absent(data: Path, process: int | None, as_json: bool) -> int:
    if as_json:
        print_json({"running": False, "process": process, "data": str(data.absolute())})
    elif process is not None:
        write(
            f"process {process} has the data folder {data}, but does not answer: it starts, stops, "
            "or hangs"
        )
    elif not data.is_dir():
        write(f"no relay runs here: there is no data folder {data}; start one with: merino serve")
    else:
        write(f"no relay runs on the data folder {data}; start one with: merino serve")
    return NOT_RUNNING_EXIT


def _print(found: dict[str, Any]) -> None:
    hour = found["last_hour"]
    sums = " + ".join(
        money(nanos, currency) for currency, nanos in sorted(hour["charged_nanos"].items())
    )
    trouble = [f"{name}: {why}" for name, why in found["left_alone"].items()]
    up = None if found["up_s"] is None else f"for {duration(found['up_s'])}"
    who = None if found["process"] is None else f"process {found['process']}"
    fields: list[tuple[str, Any]] = [
        ("relay", ", ".join(each for each in ("running", who, up) if each)),
        ("version", found["version"]),
        ("address", found["address"]),
        ("dashboard", found["dashboard"]),
        ("settings", found["settings"] or "no file, the defaults"),
        ("data", found["data"]),
        ("calls now", found["calls_running"]),
        (
            "last hour",
            f"{count(hour['calls'])} calls, {count(hour['failed'])} failed, {sums or '$0.00'}",
        ),
        ("deployments", f"{found['deployments']}, {len(trouble) or 'none'} left alone"),
    ]
    print_fields([*fields, *(("", each) for each in trouble)])
