"""How long every page of the dashboard takes with a million calls.

    python benchmarks/dashboard.py [--calls 1000000] [--folder FOLDER] [--repeats 5]

A folder is filled with calls of 20 keys, 5 accounts and 4 models over 30 days, some of them failed,
a fourth of them with an end user, a tag and metadata, as the relay books them, and summed up as the
relay does in the background. Then a relay is started on it and every page is fetched over HTTP; the
first time and the median are printed. A folder that is given is kept, and measured again without
being filled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from time import perf_counter

import httpx2

from merino.billing.stores.stores import BillingStores
from merino.domain.call import CallRecord
from merino.ledger.lines import Record, row_of
from merino.storage import Store

DAY_MS = 86_400_000
DAYS = 30
SLICE = 20_000
ALIASES = ("o3", "o3-mini", "o4", "o4-mini")
PAGES = (
    "?window=1h", "?window=24h", "?window=7d", "?window=30d", "/calls", "/calls?status=500",
    "/calls?alias=o4&window=7d", "/calls?key={key}", "/calls/{call}", "/models", "/keys",
    "/keys/{key}", "/accounts", "/accounts/{account}", "/accounts/{account}/statement",
    "?window=30d&by=key&show=errors", "?window=7d&by=deployment&show=first_token",
    "/calls?view=failures&window=30d", "/calls?status=5xx&took=4&window=30d", "/calls?cost=1",
    "/calls?id=4711", "/models?of=deployment 1", "/models?heat=first_token&hours=7d",
    "?window=30d&by=user", "?window=30d&user=user 7&by=alias", "?window=7d&by=tag",
    "/calls?user=user 7&window=30d", "/calls?tag=etl&metadata=team%3Dsearch",
    "/calls?user=user 7&tag=rare", "/limits?window=30d", "/admin-keys",
    "/playground", "/playground?call={call}", "/roi", "/roi?from=own", "/benchmarks", "/settings",
    "/audit", "/audit?q=nobody",
)  # fmt: skip


def fill(folder: Path, calls: int) -> tuple[str, dict[str, str]]:
    """An admin key, and names to put into the pages' addresses."""
    return asyncio.run(_fill(folder, calls))


async def _fill(folder: Path, calls: int) -> tuple[str, dict[str, str]]:
    store = Store.open(folder)
    await store.start()
    chance = random.Random(1)
    now_ms = int(time.time() * 1000)
    accounts = [await store.accounts.create(f"account {n}") for n in range(5)]
    for account in accounts:
        await store.accounts.credit(account.id, 10**15, "a start")
    keys = [
        (await store.keys.create(account_id=accounts[n % 5].id, name=f"key {n}"))[0]
        for n in range(20)
    ]
    _, admin_key = await store.admin_keys.create("bench")
    applier = store._applier  # noqa: SLF001 - the benchmark fills what the relay fills
    seq = applier.applied_seq
    for start in range(0, calls, SLICE):
        records: list[Record] = []
        for number in range(start, min(start + SLICE, calls)):
            seq += 1
            key = keys[chance.randrange(20)]
            status = 200 if chance.random() < 0.98 else chance.choice((400, 429, 500, 503))
            record = CallRecord(
                id=f"req_{number:09d}",
                account_id=key.account_id,
                key_id=key.id,
                alias=chance.choice(ALIASES),
                endpoint="chat/completions",
                at_ms=now_ms - (calls - number) * DAYS * DAY_MS // calls,
                status=status,
                deployment=f"deployment {chance.randrange(3)}",
                upstream_model="o3",
                streamed=number % 2 == 0,
                resolution="settled" if status == 200 else "voided",
                duration_ms=chance.uniform(500, 5000),
                ttft_ms=chance.uniform(100, 900),
                relay_ms=chance.uniform(0.1, 0.5),
                input_tokens=900,
                output_tokens=400,
                reasoning_tokens=200,
                usage_source="reported",
                held_nanos=10_000_000,
                charged_nanos=5_000_000 + number % 997 if status == 200 else 0,
                upstream_nanos=4_000_000 if status == 200 else 0,
                price_id="openai/o3@2025-06-10",
                address=f"203.0.113.{number % 40}",
            )
            if number % 4 == 0:  # as many callers say what a call is about
                record.end_user = f"user {chance.randrange(300)}"
                record.tags = '["etl", "rare"]' if number % 4000 == 0 else '["etl"]'
                record.metadata = '{"team": "search"}'
            records.append((seq, "call", record.at_ms, row_of(record), None))
        await applier._writer.run(partial(applier._booking.book, records=records))  # noqa: SLF001
        applier.applied_seq = seq
        sys.stderr.write(f"\r{min(start + SLICE, calls):,} calls")
    began = perf_counter()
    pieces = [0.0]
    while True:
        piece = perf_counter()
        if not await BillingStores(store).statements.sum_up(100):
            break
        pieces.append(perf_counter() - piece)
    print(
        f"\nsummed up in {perf_counter() - began:.1f} s; 100 entries take the relay's loop "
        f"{statistics.median(pieces) * 1000:.2f} ms (p99 "
        f"{sorted(pieces)[int(len(pieces) * 0.99)] * 1000:.2f} ms)"
    )
    names = {"key": keys[3].id, "account": accounts[2].id, "call": f"req_{calls // 2:09d}"}
    await store.close()
    return admin_key, names


def measure(folder: Path, admin_key: str, names: dict[str, str], repeats: int) -> None:
    command = [sys.executable, "-m", "merino", "serve", "--port", "0", "--data", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        url = ""
        while not url:
            found = re.search(r"Listening on (\S+)", relay.stdout.readline())
            url = found[1] if found else ""
        try:
            with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
                http.post("/dashboard/sign-in", data={"key": admin_key})
                print("| page | first | median | KiB |")
                print("|---|---:|---:|---:|")
                for page in (*[f"/dashboard{each}" for each in PAGES], "/status"):
                    times = []
                    for _ in range(repeats + 1):
                        began = perf_counter()
                        answer = http.get(page.format(**names))
                        times.append((perf_counter() - began) * 1000)
                        assert answer.status_code == 200 or page == "/status", (page, answer)
                    print(
                        f"| {page} | {times[0]:.0f} ms | {statistics.median(times[1:]):.0f} ms | "
                        f"{len(answer.content) / 1024:.0f} |"
                    )
        finally:
            relay.terminate()
            relay.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "data"
        kept = folder.parent / f"{folder.name}.json"
        if given.folder and kept.exists():
            admin_key, names = json.loads(kept.read_text())
        else:
            admin_key, names = fill(folder, given.calls)
            kept.write_text(json.dumps([admin_key, names]))
        measure(folder, admin_key, names, given.repeats)


if __name__ == "__main__":
    main()
