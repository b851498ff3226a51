"""The status page when the relay cannot read its own records."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from merino.dashboard.status import status_endpoint
from merino.domain.errors import StoreUnavailable


class Overview:
    """Cannot be read."""

    async def availability(self, aliases):
        raise StoreUnavailable("The database cannot be read now.", retry_after_s=1.0)


def asked(*, is_json: bool):
    desk: Any = SimpleNamespace(
        settings=lambda: SimpleNamespace(status=SimpleNamespace(public=True, objective=0.995)),
        session_of=lambda request: None,
        catalog=lambda: SimpleNamespace(aliases=[]),
        overview=Overview(),
    )
    endpoint: Any = status_endpoint(desk, is_json=is_json)
    return asyncio.run(endpoint(SimpleNamespace()))


def test_the_status_is_told_to_be_unknown() -> None:
    """With 503, which monitors understand, and no traceback."""
    page = asked(is_json=False)
    assert 503 == page.status_code
    assert b"Not known right now" in page.body
    twin = asked(is_json=True)
    assert 503 == twin.status_code
    assert "store_unavailable" == json.loads(twin.body)["error"]["type"]
