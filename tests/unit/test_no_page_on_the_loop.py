"""The loop of the calls fills in no template: every page of the dashboard and of the portal is asked
for, of a relay in this process, and whatever is filled in says on which thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template
from starlette.routing import BaseRoute, Route
from tests.in_process import InProcess, in_process
from tests.unit.portal.test_portal_pages import PORTAL, Customer

STREAMS = ("/dashboard/live", "/dashboard/calls/live")
"""They end with the browser's connection only."""


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of each template that was filled in, the thread."""
    found: dict[str, str] = {}
    render = Template.render

    def noticed(template: Template, *given: Any, **more: Any) -> str:
        found[template.name or ""] = threading.current_thread().name.partition("_")[0]
        return render(template, *given, **more)

    monkeypatch.setattr(Template, "render", noticed)
    return found


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path, PORTAL + "[status]\npublic = true\n") as relay:
        yield relay


def pages(routes: Iterable[BaseRoute]) -> Iterator[str]:
    for route in routes:
        if isinstance(route, Route) and "GET" in (route.methods or ()):
            yield route.path
        yield from pages(getattr(route, "_routes", ()))


def test_every_page_is_made_beside_the_loop(relay, threads) -> None:
    """Those that show nothing, the sign-in pages and those that say what is wrong, too."""
    account = relay.admin.get("/accounts").json()["data"][0]["id"]
    call = relay.chat().headers["x-request-id"]
    operator = relay.browser(relay.admin_key).http
    customer = Customer(relay)
    customer.sign_up()
    values = {"account": account, "call": call, "form": "csv", "rest": "nope", "month": "2026-11"}
    statuses: dict[str, int] = {}
    for path in pages(relay.relay.asgi().routes):
        if not path.startswith(("/dashboard", "/portal", "/status")) or path in STREAMS:
            continue
        asked = path
        for name, value in values.items():
            asked = asked.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
            asked = asked.replace(f"{{{name}:str}}", value)
        for browser in (operator, customer.http, relay.client()):
            answer = browser.get(asked)
            statuses[path] = max(statuses.get(path, 0), answer.status_code)
    assert [] == [path for path, status in statuses.items() if status >= 500]
    assert len(statuses) > 50
    assert len(threads) > 25
    assert {"merino-page"} == set(threads.values()), threads
