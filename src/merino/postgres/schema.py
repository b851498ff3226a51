"""The bank's schema: numbered files, each run once, under a lock that all programs take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merino.domain.errors import Misconfigured
from merino.postgres.connection import Connection, PostgresError

MIGRATIONS = Path(__file__).parent / "migrations"
OLDEST = "13"
_OLDEST_NUM = 130_000
_LOCK = 0x6D6572696E6F  # "merino"
_WAIT = "5s"

_META = """
CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Migrated:
    """From which version to which; the same if there was nothing to do."""

    before: int
    now: int


def newest() -> int:
    return int(max(MIGRATIONS.glob("*.sql")).name[:4])


async def migrate(bank: Connection) -> Migrated:
    """Bring the bank to the newest version, once, however many ask for it at the same time. Raises
    `Misconfigured`."""
    await _check_server(bank)
    try:
        async with bank.transaction():
            # Whoever holds a table for longer than this would hold up every relay behind us.
            await bank.run(f"SET LOCAL lock_timeout = '{_WAIT}'")
            await bank.run("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await bank.run(_META)
            before = await version(bank)
            _check_known(before)
            for path in sorted(MIGRATIONS.glob("*.sql")):
                if int(path.name[:4]) > before:
                    await bank.script(path.read_text(encoding="utf-8"))
            await bank.run(
                "INSERT INTO meta VALUES ('schema', $1)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                str(newest()),
            )
    except PostgresError as error:
        raise Misconfigured(
            f"The bank's schema was not changed: {error}. Mend that and migrate again; nothing is "
            "half done."
        ) from None
    return Migrated(before, newest())


async def check(bank: Connection) -> None:
    """Whether relays of this version can use the bank. Raises `Misconfigured`."""
    await _check_server(bank)
    found = await version(bank)
    _check_known(found)
    if found < newest():
        has = f"schema version {found}" if found else "no schema"
        raise Misconfigured(
            f"The bank has {has}; this Merino needs {newest()}. Run: merino db migrate"
        )


async def version(bank: Connection) -> int:
    """0: there is no schema yet."""
    if await bank.only("SELECT to_regclass('meta')") is None:
        return 0
    found = await bank.only("SELECT value FROM meta WHERE name = 'schema'")
    return int(found or 0)


def _check_known(found: int) -> None:
    if found > newest():
        raise Misconfigured(
            f"The bank has schema version {found}; this Merino knows up to {newest()}. Use the "
            "version of Merino that migrated it, or a later one."
        )


async def _check_server(bank: Connection) -> None:
    number = int(await bank.only("SHOW server_version_num"))
    if number < _OLDEST_NUM:
        raise Misconfigured(
            f"The bank is PostgreSQL {number // 10_000}; Merino needs {OLDEST} or later."
        )
    if await bank.only("SELECT pg_is_in_recovery()"):
        raise Misconfigured(
            "The bank is a standby, which takes no writes. Name the primary, or add "
            "target_session_attrs=read-write to the URL."
        )
