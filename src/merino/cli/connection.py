"""How commands reach the admin API of a data folder: through the running relay's socket, or, when
none runs, by opening the folder in this process. Both speak the same API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import httpx2

from merino.cli.options import config_here
from merino.domain.errors import MerinoError, Misconfigured
from merino.operations.local import admin_socket

T = TypeVar("T")

PAGE_LIMIT_MAX = 500
CONNECT_TIMEOUT_S = 5.0
OPEN_WAIT_S = 3.0
"""How long to wait for a folder that another command, or a relay about to start or stop, has open.
"""
_OPEN_RETRY_S = 0.05
_BASE_URL = "http://merino/admin/v1"
_MODELS_URL = "http://merino/v1/models"


class AdminRefused(MerinoError):
    """The admin API said no; its message is for the user as it is."""


class Admin:
    """The admin API, as commands use it."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        once: str | None = None,
    ) -> dict[str, Any]:
        """With an idempotency key as `once`, a repeat gets what the first one got, and `replayed`
        with it. Raises
        `AdminRefused` with the API's own words."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            headers = {} if once is None else {"idempotency-key": once}
            answer = await self._client.request(
                method, path, params=given, json=body, headers=headers
            )
        except httpx2.HTTPError as error:
            raise AdminRefused(
                f"The relay did not answer: {str(error) or type(error).__name__}"
            ) from None
        found = _read(answer)
        if "x-merino-replayed" in answer.headers:
            found["replayed"] = True
        return found

    async def list(
        self, path: str, *, query: dict[str, Any], limit: int, cursor: str | None = None
    ) -> dict[str, Any]:
        """`limit` items, over as many pages as that takes."""
        items: list[Any] = []
        while True:
            size = min(limit - len(items), PAGE_LIMIT_MAX)
            page = await self.ask("GET", path, query={**query, "limit": size, "cursor": cursor})
            items += page["data"]
            cursor = page["next_cursor"]
            if cursor is None or len(items) >= limit:
                return {"data": items, "next_cursor": cursor}

    async def download(
        self, path: str, query: dict[str, Any], write: Callable[[bytes], Any]
    ) -> None:
        try:
            async with self._client.stream("GET", path, params=query) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    _read(answer)
                async for piece in answer.aiter_bytes():
                    write(piece)
        except httpx2.HTTPError as error:
            raise AdminRefused(
                f"The answer broke off: {str(error) or type(error).__name__}"
            ) from None

    async def models_of(self, secret: str) -> list[str] | None:
        """What a key may call; `None` if no relay runs, or it does not say."""
        try:
            answer = await self._client.get(
                _MODELS_URL, headers={"authorization": f"Bearer {secret}"}
            )
            return [str(each["id"]) for each in _read(answer)["data"]]
        except (httpx2.HTTPError, AdminRefused):
            return None


def path_of(*parts: str) -> str:
    """A path below the API; names may have characters that need encoding."""
    return "".join(f"/{quote(part, safe='', errors='surrogateescape')}" for part in parts)


def with_admin(data: Path, work: Callable[[Admin], Awaitable[T]]) -> T:
    """Run `work` against the folder's admin API."""

    async def connected() -> T:
        async with _transport(data) as transport:
            timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
            async with httpx2.AsyncClient(
                transport=transport, base_url=_BASE_URL, timeout=timeout, trust_env=False
            ) as client:
                return await work(Admin(client))

    return asyncio.run(connected())


@contextlib.asynccontextmanager
async def _transport(data: Path) -> AsyncGenerator[httpx2.AsyncBaseTransport, None]:
    if not data.is_dir():  # noqa: ASYNC240 - nothing else runs on this loop yet
        raise Misconfigured(
            f"There is no data folder {data}; start a relay there first (merino serve --data "
            f"{data}), or name another folder with --data or MERINO_DATA"
        )
    async with contextlib.AsyncExitStack() as stack:
        yield await _reach(data, stack)


async def _reach(data: Path, stack: contextlib.AsyncExitStack) -> httpx2.AsyncBaseTransport:
    deadline = asyncio.get_running_loop().time() + OPEN_WAIT_S
    while True:
        if is_relay_running(data):
            # No TLS on a socket of the folder: to read the machine's certificates takes 30 ms.
            address = stack.enter_context(admin_socket(data))
            return httpx2.AsyncHTTPTransport(uds=address, verify=False)
        from merino.control_plane import admin_asgi  # much to import; only when no relay runs
        from merino.telemetry.logs import configure_logs

        configure_logs("text", "warning")  # on standard error: what is printed is for programs
        try:
            app = await stack.enter_async_context(admin_asgi(data, config_here()))
        except Misconfigured as error:
            # Told by name: which store it is, only `app` may know.
            is_busy = type(error).__name__ == "FolderInUse"
            if not is_busy or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_OPEN_RETRY_S)
        else:
            return httpx2.ASGITransport(app=app, raise_app_exceptions=False)


def is_relay_running(data: Path) -> bool:
    """Whether the folder's socket answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            with admin_socket(data) as address:
                probe.connect(address)
        except OSError:
            return False
        return True


def _read(answer: httpx2.Response) -> dict[str, Any]:
    try:
        content: Any = answer.json()
    except ValueError:
        content = None
    if answer.status_code < 400 and isinstance(content, dict):
        return cast("dict[str, Any]", content)
    try:
        message = str(content["error"]["message"])
    except (KeyError, TypeError):
        message = f"The relay answered with status {answer.status_code}"
    raise AdminRefused(message)
