"""How long a statement, `verify` and a balance take with a million entries.

    python benchmarks/books.py [--entries 1000000] [--folder FOLDER]

A data folder is filled with calls of one account as the relay books them (a call record and its
entry each), over three months; then each thing is timed in a fresh
process' first run and again. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

from merino.billing.operations.statement_files import statement_csv, statement_html
from merino.billing.statements import StatementDesk
from merino.billing.stores.stores import BillingStores
from merino.control.accounts import AccountDesk
from merino.domain.call import CallRecord
from merino.ledger.lines import Record, row_of
from merino.storage import Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
SPAN_MS = 85 * 86_400_000
PRICES = ("openai/o3@2025-06-10", "openai/o4-mini@2025-04-16", "openai/gpt-4.1@2025-04-14")
SLICE = 20_000


def fill(folder: Path, entries: int) -> None:
    """By the statements the relay itself uses, in larger slices."""
    store = Store.open(folder, now_ms=lambda: NOW_MS)
    asyncio.run(_fill(store, entries))


async def _fill(store: Store, entries: int) -> None:
    await store.start()
    account = await store.accounts.create("big")
    key, _ = await store.keys.create(account_id=account.id, name="k")
    applier = store._applier  # noqa: SLF001 - the benchmark fills what the relay fills
    seq = applier.applied_seq
    for start in range(0, entries, SLICE):
        records: list[Record] = []
        for number in range(start, min(start + SLICE, entries)):
            at_ms = NOW_MS - SPAN_MS + number * SPAN_MS // entries
            seq += 1
            record = CallRecord(
                id=f"call_{number:09d}",
                account_id=account.id,
                key_id=key.id,
                alias="o3",
                endpoint="chat/completions",
                at_ms=at_ms,
                status=200,
                deployment="openai-o3",
                upstream_model="o3",
                resolution="settled",
                input_tokens=900,
                output_tokens=400,
                usage_source="reported",
                held_nanos=10_000_000,
                charged_nanos=5_000_000 + number % 997,
                upstream_nanos=5_000_000,
                price_id=PRICES[number % len(PRICES)],
            )
            records.append((seq, "call", at_ms, row_of(record), None))
        await applier._writer.run(partial(applier._booking.book, records=records))  # noqa: SLF001
        applier.applied_seq = seq
    await store.close()


async def measure(folder: Path) -> dict[str, float]:
    figures: dict[str, float] = {}
    began = perf_counter()
    store = Store.open(folder, now_ms=lambda: NOW_MS)
    await store.start()
    figures["open_s"] = perf_counter() - began
    accounts = AccountDesk(store.accounts)
    desk = StatementDesk(accounts, BillingStores(store).statements, lambda: NOW_MS)
    [account] = store.accounts.list()
    months = (("statement_month", "2026-11"), ("statement_first_month", "2026-09"))
    # From the entries themselves, as right after an upgrade; then from the sums of them.
    for how in ("unsummed", "summed"):
        for name, month in months:
            began = perf_counter()
            made = await desk.make("big", month)
            html, text = statement_html(made), statement_csv(made)
            figures[f"{name}_{how}_s"] = perf_counter() - began
            assert html
            assert text
        while await BillingStores(store).statements.sum_up(100):
            pass
    began = perf_counter()
    verified = await store.books.verify()
    figures["verify_s"] = perf_counter() - began
    assert not verified.differences, verified.differences[:3]
    figures["entries"] = verified.entries
    rounds = 100_000
    began = perf_counter()
    for _ in range(rounds):
        store.accounts.balance(account.id)
    figures["balance_us"] = (perf_counter() - began) / rounds * 1e6
    now = await desk.make("big")
    assert now.closing_nanos == store.accounts.balance(account.id).posted_nanos
    figures["database_mb"] = (folder / "merino.db").stat().st_size / 1e6
    figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await store.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="A filled folder to measure, or to fill.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch) / "data"
        if not (folder / "merino.db").exists():
            began = perf_counter()
            fill(folder, given.entries)
            print(f"filled in {perf_counter() - began:.1f} s", file=sys.stderr)
        print(json.dumps(asyncio.run(measure(folder)), indent=2))


if __name__ == "__main__":
    main()
