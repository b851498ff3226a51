"""A typed connection to PostgreSQL; nothing else in the project knows asyncpg.

Statements are `LiteralString`s, as SQLite's are.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# asyncpg is typed in part only.
from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any, LiteralString, Self, cast

import asyncpg

from merino.domain.errors import Misconfigured, StoreUnavailable

CONNECT_S = 5
STATEMENT_S = 10

Row = tuple[Any, ...]
PostgresError = asyncpg.PostgresError
LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says when the server goes amid its statement
    asyncpg.PostgresConnectionError,
)
"""Errors after which it is unknown whether the statement was executed."""

_REFUSED: dict[type[Exception], str] = {
    asyncpg.InvalidPasswordError: "it does not take this password. Correct it in the URL, or in "
    "PGPASSWORD or the file that passfile names",
    asyncpg.InvalidAuthorizationSpecificationError: "it does not let this user in. Look at the "
    "user in the URL, and at pg_hba.conf",
    asyncpg.InvalidCatalogNameError: "there is no such database. Make it: createdb",
}
_NOT_NOW: dict[type[Exception], str] = {
    asyncpg.TooManyConnectionsError: "has no connection left. A relay needs two: raise "
    "max_connections, or give this user more",
    asyncpg.CannotConnectNowError: "is starting or stopping, or is a standby that takes no "
    "connections. Try again, or name the primary",
}


class Connection:
    """One connection, and one statement at a time."""

    def __init__(self, raw: asyncpg.Connection) -> None:
        self._raw = raw

    @classmethod
    async def open(cls, url: str) -> Self:
        """Raises `Misconfigured` for what does not end by itself, else `StoreUnavailable`. What is
        told never has the password."""
        try:
            raw = await asyncpg.connect(
                url,
                timeout=CONNECT_S,
                command_timeout=STATEMENT_S,
                server_settings={"application_name": "merino", "jit": "off"},
            )
        except tuple(_REFUSED) as error:
            raise Misconfigured(f"The bank {shown(url)}: {_REFUSED[type(error)]}.") from None
        except tuple(_NOT_NOW) as error:
            raise StoreUnavailable(
                f"The bank {shown(url)} {_NOT_NOW[type(error)]}.", retry_after_s=1.0
            ) from None
        except (ValueError, asyncpg.ClientConfigurationError):
            # What is wrong may be the password: its own words are not repeated.
            raise Misconfigured(
                "The bank's URL cannot be read. It is like "
                "postgresql://user@host:5432/merino?sslmode=verify-full; in a password write @ as "
                "%40, / as %2F, : as %3A and ? as %3F, or keep it in a file: passfile=PATH."
            ) from None
        except asyncpg.PostgresError as error:
            raise Misconfigured(f"The bank {shown(url)}: {_first_line(error)}.") from None
        except (OSError, TimeoutError) as error:
            errno = getattr(error, "errno", None)
            reason = f"no answer in {CONNECT_S} s" if errno is None else os.strerror(errno)
            raise StoreUnavailable(
                f"The bank {shown(url)} cannot be reached: {reason}. Is PostgreSQL running there, "
                "and does a firewall let this machine in?",
                retry_after_s=1.0,
            ) from None
        return cls(raw)

    async def close(self) -> None:
        with contextlib.suppress(*LOST):
            await self._raw.close(timeout=CONNECT_S)

    async def drop(self) -> None:
        """Close it at once, whatever is on its way."""
        self._raw.terminate()

    async def listen(self, channel: LiteralString, on_payload: Callable[[str], None]) -> None:
        """Until the connection ends."""
        ended = asyncio.Event()

        def heard(_: object, __: int, ___: str, payload: object) -> None:
            on_payload(str(payload))

        def over(_: object) -> None:
            ended.set()

        self._raw.add_termination_listener(over)
        await self._raw.add_listener(channel, heard)
        await ended.wait()

    async def rows(self, sql: LiteralString, *values: object) -> list[Row]:
        return cast("list[Row]", await self._raw.fetch(sql, *values))

    async def nanos(self, sql: LiteralString, *values: object) -> dict[str, int]:
        """Amounts by name, of a statement that finds these two."""
        return {row[0]: row[1] for row in await self._raw.fetch(sql, *values)}

    async def row(self, sql: LiteralString, *values: object) -> Row | None:
        return cast("Row | None", await self._raw.fetchrow(sql, *values))

    async def only(self, sql: LiteralString, *values: object) -> Any:
        """The one value of a statement that always has one."""
        return await self._raw.fetchval(sql, *values)

    async def run(self, sql: LiteralString, *values: object) -> None:
        await self._raw.execute(sql, *values)

    async def script(self, sql: str) -> None:
        """Several statements of a file of our own."""
        await self._raw.execute(sql)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        """All of it or nothing; it sees what others have committed."""
        async with self._raw.transaction(isolation="read_committed"):
            yield


def shown(url: str) -> str:
    """A URL without what is secret in it."""
    scheme, separator, rest = url.partition("://")
    address = rest.rpartition("@")[2].partition("?")[0].partition("&")[0]
    return f"{scheme}{separator}{address}" if separator else "that was named"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
