"""The bank's schema is made once; what cannot be used is told in one line, without a secret."""

from __future__ import annotations

import asyncio

import pytest
from tests.postgres_server import database, server

from merino.domain.errors import Misconfigured, StoreUnavailable
from merino.postgres.connection import Connection, shown
from merino.postgres.schema import Migrated, check, migrate, newest


@pytest.fixture(scope="module")
def running():
    with server() as url:
        yield url


@pytest.fixture
def url(running):
    with database(running) as url:
        yield url


async def opened(url):
    return await Connection.open(url)


def test_many_that_migrate_at_once_migrate_once(url) -> None:
    """The others wait for the first, and find nothing to do."""

    async def scenario() -> None:
        banks = [await opened(url) for _ in range(4)]
        done = await asyncio.gather(*(migrate(bank) for bank in banks))
        assert [0] + [newest()] * 3 == sorted(each.before for each in done)
        assert Migrated(newest(), newest()) == await migrate(banks[0])
        await check(banks[1])
        for bank in banks:
            await bank.close()

    asyncio.run(scenario())


def test_a_schema_that_is_older_or_newer_is_named(url) -> None:
    """The way out of the one is a migration, of the other a program."""

    async def scenario() -> None:
        bank = await opened(url)
        with pytest.raises(Misconfigured, match=r"has no schema.*merino db migrate"):
            await check(bank)
        await migrate(bank)
        await bank.run("UPDATE meta SET value = '99' WHERE name = 'schema'")
        for look in (check, migrate):
            with pytest.raises(Misconfigured, match=r"schema version 99.*later one"):
                await look(bank)
        await bank.close()

    asyncio.run(scenario())


def test_a_migration_that_fails_changes_nothing(url) -> None:
    """It is one transaction: what was made before it failed is gone, too."""

    async def scenario() -> None:
        bank, other = await opened(url), await opened(url)
        await bank.run("CREATE TABLE relays (id text)")
        with pytest.raises(Misconfigured, match=r"schema was not changed.*already exists"):
            await migrate(bank)
        with pytest.raises(Misconfigured, match="has no schema"):
            await check(other)
        await bank.close()
        await other.close()

    asyncio.run(scenario())


def test_what_is_wrong_with_a_bank_is_told_without_its_password(url) -> None:
    """One line each, with the way out."""
    there = url.partition("?")[2]
    cases = {
        "http://bank/merino": "cannot be read",
        "postgresql://u:s3cret/pa@ss@127.0.0.1:1x/m": "cannot be read",
        "postgresql://u:s3cret@127.0.0.1:1/m": "cannot be reached: Connection refused",
        f"postgresql://postgres:s3cret@/nowhere?{there}": "no such database. Make it: createdb",
        f"postgresql://nobody:s3cret@/postgres?{there}": "does not let this user in",
    }
    for wrong, told in cases.items():
        with pytest.raises((Misconfigured, StoreUnavailable), match=told) as caught:
            asyncio.run(opened(wrong))
        assert "s3cret" not in caught.value.message
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://user:pass@host:5432/merino?sslmode=require", "postgresql://host:5432/merino"),
        ("postgresql://user:p?ss/w@rd@host/merino", "postgresql://host/merino"),
        ("postgresql://host/merino?user=a@b&password=pass", "postgresql://b"),
        ("postgresql:///merino?host=/run/postgresql", "postgresql:///merino"),
        ("pass", "that was named"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_what_is_secret(url, told) -> None:
    """However the password is written."""
    assert told == shown(url)
