"""How long pages of calls and of entries take with ten million of each.

    python benchmarks/pages.py [--calls 10000000] [--folder FOLDER] [--repeats 5] [--plans]

A folder is filled by SQL: calls of 90 days, 2 % of them failed, of 200 keys, 50 accounts (one has
40 % of the calls, one a few hundred) and 8 models (one of them rare), each answered call with its
entry. Then first pages, pages from the middle and from the far end are read through the store, and
first pages over HTTP from a relay that runs on the folder. With `--plans` SQLite says how it finds
them. A folder made here is deleted; one that is given is kept and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import apsw
import httpx2

from merino.control.ports import CallFilter, EntryFilter
from merino.storage import Store

NOW_MS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000
DAYS = 90
BYTES_PER_CALL = 1_300
"""What a call and its entry take, indexes and the room to sort them included."""
ACCOUNTS, KEYS, ALIASES = 50, 200, 8
PAGE = 100

_ROWS = """
WITH RECURSIVE number(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM number WHERE i < :last),
chance AS MATERIALIZED (
    SELECT i, random() & 1073741823 AS r, random() & 1073741823 AS s FROM number
),
drawn AS (
    SELECT i, r,
        CASE WHEN i % 30000 = 7 THEN 49 WHEN r % 100 < 40 THEN 0 ELSE 1 + r / 100 % 48 END
            AS account,
        s % 4 AS nth,
        CASE WHEN i % 100000 = 9 THEN 7 WHEN r % 100 < 40 THEN s / 4 % 3 ELSE s / 4 % 7 END
            AS alias,
        CASE s / 100 % 200 WHEN 0 THEN 400 WHEN 1 THEN 429 WHEN 2 THEN 500 WHEN 3 THEN 503 ELSE 200
            END AS status
    FROM chance
)
"""
_CALLS = """
INSERT INTO calls (row, id, account_id, key_id, alias, endpoint, at_ms, status, deployment,
    upstream_model, streamed, error_code, finish_reason, resolution, duration_ms, ttft_ms,
    queue_ms, relay_ms, upstream_ms, input_tokens, output_tokens, cached_tokens,
    cache_write_tokens, reasoning_tokens, usage_source, held_nanos, charged_nanos, overrun_nanos,
    upstream_nanos, price_id, attempts)
SELECT i + 1, printf('req_%024x', i), account.id, key.id, 'model-' || alias, 'chat/completions',
    :start + i * :span / :calls + r % 2000, status, 'deployment-' || alias, 'model', i % 2,
    iif(status = 200, NULL, 'upstream_failed'), iif(status = 200, 'stop', NULL),
    iif(status = 200, 'settled', 'voided'), 812.5, 230.25, 0.0, 0.2, 812.3, 900, 400, 0, 0, 200,
    'reported', 10000000, iif(status = 200, 5000000 + r % 997, 0), 0, iif(status = 200, 4000000, 0),
    'openai/o3@2025-06-10', '[]'
FROM drawn JOIN temp.name AS account ON account.kind = 'account' AND account.n = drawn.account
    JOIN temp.name AS key ON key.kind = 'key' AND key.n = drawn.account * 4 + drawn.nth
"""
_ENTRIES = """
INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, call_id, key_id,
    upstream_nanos, price_id)
SELECT at_ms + 800, 'settle', account_id, '@revenue', charged_nanos, id, key_id, upstream_nanos,
    price_id
FROM calls WHERE charged_nanos > 0 AND row BETWEEN :first + 1 AND :last + 1
"""
_CREDITS = """
INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, memo)
SELECT max(at_ms), 'credit', '@funding', account_id, sum(charged_nanos), 'an invoice' FROM calls
WHERE row BETWEEN :first + 1 AND :last + 1 GROUP BY account_id HAVING sum(charged_nanos) > 0
"""
_BALANCES = """
INSERT OR REPLACE INTO balances
SELECT account, sum(nanos) FROM (
    SELECT credit_account AS account, amount_nanos AS nanos FROM entries
    UNION ALL SELECT debit_account, -amount_nanos FROM entries
) GROUP BY account
"""
_SUMS = """
INSERT OR REPLACE INTO call_sums
SELECT {level}, at_ms / {ms}, account_id, {by}, count(*), sum(status BETWEEN 400 AND 499),
    sum(status >= 500), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(charged_nanos), sum(upstream_nanos), sum(status = 200),
    sum(iif(status = 200, 230, 0)), sum(iif(status = 200, output_tokens, 0)),
    sum(iif(status = 200, 582, 0))
FROM calls GROUP BY at_ms / {ms}, account_id, {columns}
"""
SLICE = 250_000


async def fill(folder: Path, calls: int) -> None:
    """The relay's own schema, then everything by SQL; indexes last, which is faster."""
    store = Store.open(folder, now_ms=lambda: NOW_MS - DAYS * DAY_MS)
    await store.start()
    accounts = [await store.accounts.create(f"account {n}") for n in range(ACCOUNTS)]
    keys = [
        (await store.keys.create(account_id=accounts[n // 4].id, name=f"key {n}"))[0]
        for n in range(KEYS)
    ]
    await store.close()
    db = apsw.Connection(str(folder / "merino.db"))
    for setting in ("synchronous = OFF", "journal_mode = OFF", "cache_size = -1000000"):
        db.execute(f"PRAGMA {setting}")
    db.execute("CREATE TEMP TABLE name (kind, n, id, PRIMARY KEY (kind, n)) WITHOUT ROWID")
    db.executemany(
        "INSERT INTO temp.name VALUES (?, ?, ?)",
        [
            *[("account", n, account.id) for n, account in enumerate(accounts)],
            *[("key", n, key.id) for n, key in enumerate(keys)],
        ],
    )
    indexes = list(
        db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            " AND tbl_name IN ('calls', 'entries')"
        )
    )
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    values = {"start": NOW_MS - DAYS * DAY_MS, "span": DAYS * DAY_MS, "calls": calls}
    with db:
        for first in range(0, calls, SLICE):
            values["first"], values["last"] = first, min(first + SLICE, calls) - 1
            for statement in (_ROWS + _CALLS, _ENTRIES, _CREDITS):
                db.execute(statement, values)
            sys.stderr.write(f"\r{values['last'] + 1:,} calls")
        for name, sql in indexes:
            sys.stderr.write(f"\rindex {name:30}")
            db.execute(sql)
        sys.stderr.write("\rsums and balances       ")
        everything = "key_id, alias, deployment"
        for level, ms in ((1, 3_600_000), (2, DAY_MS)):
            db.execute(_SUMS.format(level=level, ms=ms, by=everything, columns=everything))
        db.execute(_SUMS.format(level=3, ms=3_600_000, by="'', '', ''", columns="account_id"))
        db.execute(_BALANCES)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    store = Store.open(folder)
    await store.start()
    await store.note_times()
    await store.close()
    sys.stderr.write("\r")


def filters(store: Store) -> dict[str, CallFilter]:
    """What is asked for, from the usual to what no index was made for."""
    accounts = {each.name: each.id for each in store.accounts.list()}
    keys = {each.name: each.id for each in store.keys.list()}
    big, small, rare = (accounts[f"account {n}"] for n in (0, 7, 49))
    middle = NOW_MS - DAYS * DAY_MS // 2
    return {
        "all": CallFilter(),
        "time (a week in the middle)": CallFilter(since_ms=middle - 7 * DAY_MS, until_ms=middle),
        "account with 40 %": CallFilter(account_id=big),
        "account with 1 %": CallFilter(account_id=small),
        "account with few": CallFilter(account_id=rare),
        "key": CallFilter(key_id=keys["key 30"]),
        "key of another account (none)": CallFilter(account_id=big, key_id=keys["key 30"]),
        "model": CallFilter(alias="model-1"),
        "rare model": CallFilter(alias="model-7"),
        "status 200": CallFilter(status=200),
        "status 500": CallFilter(status=500),
        "status 404 (none)": CallFilter(status=404),
        "voided": CallFilter(resolution="voided"),
        "expired (none)": CallFilter(resolution="expired"),
        "account with 40 %, model": CallFilter(account_id=big, alias="model-1"),
        "account with 40 %, model it never used": CallFilter(account_id=big, alias="model-6"),
        "account with 40 %, rare model": CallFilter(account_id=big, alias="model-7"),
        "key, model": CallFilter(key_id=keys["key 30"], alias="model-3"),
        "account with 40 %, status 500": CallFilter(account_id=big, status=500),
        "account with few, status 500": CallFilter(account_id=rare, status=500),
        "key, model, status 500, time": CallFilter(
            key_id=keys["key 30"], alias="model-3", status=500, since_ms=middle
        ),
        "rare model, status 200, time": CallFilter(
            alias="model-7", status=200, since_ms=middle, until_ms=middle + 7 * DAY_MS
        ),
        "model, voided": CallFilter(alias="model-1", resolution="voided"),
    }


def entry_filters(store: Store) -> dict[str, EntryFilter]:
    accounts = {each.name: each.id for each in store.accounts.list()}
    big, small, rare = (accounts[f"account {n}"] for n in (0, 7, 49))
    middle = NOW_MS - DAYS * DAY_MS // 2
    of_week = partial(EntryFilter, since_ms=middle - 7 * DAY_MS, until_ms=middle)
    return {
        "all": EntryFilter(),
        "time (a week in the middle)": of_week(),
        "time (before the first, none)": EntryFilter(until_ms=NOW_MS - 2 * DAYS * DAY_MS),
        "account with 40 %": EntryFilter(account_id=big),
        "account with 1 %": EntryFilter(account_id=small),
        "account with few": EntryFilter(account_id=rare),
        "account with few, time": of_week(account_id=rare),
        "account with 40 %, time": of_week(account_id=big),
        "credits": EntryFilter(kind="credit"),
        "settlements": EntryFilter(kind="settle"),
        "account with 40 %, credits": EntryFilter(account_id=big, kind="credit"),
        "account with 40 %, vouchers (none)": EntryFilter(account_id=big, kind="voucher"),
        "credits, time": of_week(kind="credit"),
        "overruns (none)": EntryFilter(kind="overrun"),
        "one call": EntryFilter(call_id=f"req_{12345:024x}"),
    }


Ask = Callable[[str | None], Awaitable[Any]]


async def timed(ask: Ask, cursor: str | None, repeats: int) -> tuple[float, float, int]:
    """The first time and the median of more, in ms; and how many there were."""
    times = []
    count = 0
    for _ in range(repeats + 1):
        began = perf_counter()
        page = await ask(cursor)
        times.append((perf_counter() - began) * 1000)
        count = len(page.items)
    return times[0], statistics.median(times[1:]), count


async def measure(folder: Path, repeats: int) -> None:
    store = Store.open(folder)
    await store.start()
    try:
        middle, end = NOW_MS - DAYS * DAY_MS // 2, NOW_MS - (DAYS - 5) * DAY_MS
        looked_at: list[tuple[str, dict[str, Any], Any]] = [
            ("calls", filters(store), store.calls.list),
            ("entries", entry_filters(store), store.books.entries),
        ]
        for title, found, read in looked_at:
            print(f"\n| {title} | on it | first page | middle | far end |")
            print("|---|--:|--:|--:|--:|")
            for name, wanted in found.items():
                cells: list[str] = []
                counts: list[int] = []
                ask: Ask = lambda cursor, wanted=wanted, read=read: read(  # noqa: E731
                    wanted, limit=PAGE, cursor=cursor
                )
                for until_ms in (None, middle, end):
                    cursor = None
                    if until_ms is not None:
                        if wanted.since_ms is not None or wanted.until_ms is not None:
                            break
                        # A page's cursor does not say for which filter it is.
                        ahead = await read(replace(wanted, until_ms=until_ms), limit=1, cursor=None)
                        cursor = ahead.next_cursor
                        if cursor is None:
                            break
                    first, median, count = await timed(ask, cursor, repeats)
                    cells.append(f"{first:.1f}, {median:.1f} ms")
                    counts.append(count)
                cells += [""] * (3 - len(cells))
                print(f"| {name} | {counts[0]} | {' | '.join(cells)} |", flush=True)
    finally:
        await store.close()


def over_http(folder: Path, repeats: int) -> None:
    """First pages from a running relay, over its socket's port."""
    command = [sys.executable, "-m", "merino", "serve", "--port", "0", "--data", str(folder)]
    made = subprocess.run(
        [sys.executable, "-c", _ADMIN_KEY, str(folder)], capture_output=True, text=True, check=True
    )
    # Else it would begin with forgetting the oldest.
    environ = {**os.environ, "MERINO_CALLS__KEEP_DAYS": "10000"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as relay:
        assert relay.stdout is not None
        url = ""
        while not url:
            found = re.search(r"Listening on (\S+)", relay.stdout.readline())
            url = found[1] if found else ""
        print("\n| `/admin/v1` | first page | second |")
        print("|---|--:|--:|")
        try:
            headers = {"authorization": f"Bearer {made.stdout.strip()}"}
            with httpx2.Client(
                base_url=f"{url}/admin/v1", headers=headers, trust_env=False, timeout=120
            ) as http:
                for path, query in _PATHS:
                    cells = []
                    cursor: dict[str, str] = {}
                    for _ in range(2):
                        times = []
                        for _ in range(repeats + 1):
                            began = perf_counter()
                            answer = http.get(path, params=query | cursor)
                            times.append((perf_counter() - began) * 1000)
                            assert answer.status_code == 200, answer.text
                        cells.append(f"{times[0]:.1f}, {statistics.median(times[1:]):.1f} ms")
                        cursor = {"cursor": answer.json()["next_cursor"]}
                        if cursor["cursor"] is None:
                            break
                    asked = " ".join((path, *(f"{name}={query[name]}" for name in query)))
                    print(f"| {asked} | {' | '.join([*cells, ''][:2])} |", flush=True)
        finally:
            relay.terminate()
            relay.wait(60)


_PATHS = (
    ("/calls", {}),
    ("/calls", {"account": "account 0"}),
    ("/calls", {"account": "account 49"}),
    ("/calls", {"key": "key 30"}),
    ("/calls", {"alias": "model-7"}),
    ("/calls", {"status": "500"}),
    ("/calls", {"account": "account 0", "alias": "model-6"}),
    ("/calls", {"key": "key 30", "alias": "model-3", "status": "500"}),
    ("/entries", {}),
    ("/entries", {"account": "account 0"}),
    ("/entries", {"kind": "credit"}),
    ("/entries", {"since": "2026-11-24T11:59:00Z"}),
    ("/accounts/account 49/entries", {}),
)
_ADMIN_KEY = """
import asyncio, secrets, sys
from pathlib import Path
from merino.storage import Store
store = Store.open(Path(sys.argv[1]))
print(asyncio.run(store.admin_keys.create(f"bench {secrets.token_hex(4)}"))[1])
"""


def plans(folder: Path) -> None:
    """How SQLite finds the pages, by the statements the store asks."""
    db = apsw.Connection(str(folder / "merino.db"), flags=apsw.SQLITE_OPEN_READONLY)
    asked: list[tuple[str, Any]] = []

    async def explain(read: Callable[[Database], Any]) -> Any:
        db.exec_trace = lambda cursor, sql, values: asked.append((sql, values)) or True
        try:
            return read(Database(db))
        finally:
            db.exec_trace = None

    from merino.sqlite.database import Database
    from merino.storage.calls import CallReader, EntryReader

    async def all_of_them() -> None:
        store = Store.open(folder)
        await store.start()
        found, entries = filters(store), entry_filters(store)
        await store.close()
        for name, wanted in found.items():
            asked.clear()
            await CallReader(explain).list(wanted, limit=1)
            show(f"calls: {name}")
        for name, wanted in entries.items():
            asked.clear()
            await EntryReader(explain).entries(wanted, limit=1)
            show(f"entries: {name}")

    def show(name: str) -> None:
        print(f"\n{name}")
        for sql, values in asked:
            for *_, detail in db.execute(f"EXPLAIN QUERY PLAN {sql}", values):
                print(f"    {detail}")

    asyncio.run(all_of_them())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plans", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "data"
        if not (folder / "merino.db").exists():
            free = shutil.disk_usage(folder.parent).free
            if free < given.calls * BYTES_PER_CALL * 2:
                sys.exit(f"{free / 1e9:.1f} GB are free, which is too few; take fewer --calls")
            began = perf_counter()
            asyncio.run(fill(folder, given.calls))
            size = (folder / "merino.db").stat().st_size
            print(f"{given.calls:,} calls: {size / 1e9:.2f} GB in {perf_counter() - began:.0f} s")
        if given.plans:
            plans(folder)
            return
        asyncio.run(measure(folder, given.repeats))
        over_http(folder, given.repeats)


if __name__ == "__main__":
    main()
