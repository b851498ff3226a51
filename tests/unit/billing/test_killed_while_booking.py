"""`kill -9` at each step between a payment event's receipt and its credit loses nothing and books
nothing twice: real processes, killed by themselves at that very step."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from merino.billing.credits import CreditDesk
from merino.billing.providers.stripe import StripeProvider, StripeTerms
from merino.billing.stores.stores import BillingStores
from merino.billing.topups import TopUpDesk
from merino.control.accounts import AccountDesk
from merino.settings.sections.payments import PaymentsSettings
from merino.storage import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def stripe_event(number: int, kind: str, about: dict) -> bytes:
    return json.dumps(
        {
            "id": f"evt_{number}",
            "object": "event",
            "type": kind,
            "livemode": False,
            "data": {"object": about},
        }
    ).encode()


def paid(account_id: str) -> bytes:
    return stripe_event(
        1,
        "checkout.session.completed",
        {
            "id": "cs_1",
            "payment_status": "paid",
            "payment_intent": "pi_1",
            "amount_total": 1000,
            "currency": "usd",
            "client_reference_id": "top_1",
            "metadata": {"merino_topup": "top_1", "merino_account": account_id},
        },
    )


REFUND = stripe_event(
    2,
    "refund.created",
    {"id": "re_1", "amount": 300, "currency": "usd", "payment_intent": "pi_1", "status": "pending"},
)


async def nobody(*_: object) -> None:
    """Is told of a booking."""


def desk_of(store: Store, tables: BillingStores) -> TopUpDesk:
    accounts = AccountDesk(store.accounts)
    credit = CreditDesk(
        accounts, tables.vouchers, tables.transfers, store.exchange, tables.statements
    )
    terms = StripeTerms("sk_test_x", "whsec_x", "https://a", "https://b")
    provider = StripeProvider(terms, lambda: 0.0)
    provider.verify = lambda body, headers: None  # signatures have tests of their own
    desk = TopUpDesk(
        accounts,
        credit,
        tables.topups,
        tables.cards,
        on_refused=lambda what, **details: None,
        on_booked=nobody,
    )
    desk.configure(
        PaymentsSettings(topup_min_nanos=1, topup_max_nanos=10**15), {"stripe": provider}
    )
    return desk


KILLED = """
import asyncio, contextlib, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.unit.billing.test_killed_while_booking import REFUND, desk_of, paid
from merino.billing.nouns import TopUp
from merino.billing.stores.stores import BillingStores
from merino.settings.sections.payments import PaymentsSettings
from merino.storage import Store

def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(folder, step):
    store = Store.open(Path(folder))
    tables = BillingStores(store)
    await store.start()
    account = await store.accounts.create("a")
    await tables.topups.create(TopUp("top_1", account.id, "stripe", 10**10, "USD", 1000, "USD", None,
        "open", 0))
    desk = desk_of(store, tables)
    if step == "before it is booked":
        tables.topups.apply = die
    elif step == "while it is booked":
        tables.topups._book = die
    elif step == "before memory follows":
        store.ledger.post = die
    elif step == "before what waited for it":
        assert "waiting" == (await desk.receive("stripe", REFUND, {})).outcome
        tables.topups.waiting_events = die
    await desk.receive("stripe", paid(account.id), {})
    die()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("step", "taken_up", "credited"),
    [
        ("before it is booked", 1, 10**10),
        ("while it is booked", 1, 10**10),
        ("before memory follows", 0, 10**10),
        ("before what waited for it", 1, 7 * 10**9),
        ("after it is booked", 0, 10**10),
    ],
)
async def test_killed_between_receipt_and_credit(tmp_path, step, taken_up, credited):
    """What was received is booked at the next start, once, also when the event comes again."""
    folder = tmp_path / "killed"
    root = str(Path(__file__).parents[3])
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [sys.executable, "-c", KILLED, str(folder), step, root], check=False, timeout=60
    )
    assert -signal.SIGKILL == done.returncode

    store = Store.open(folder)
    await store.start()
    try:
        [account] = store.accounts.list()
        desk = desk_of(store, BillingStores(store))
        assert [taken_up, 0] == [await desk.recover(), await desk.recover()]
        assert credited == store.accounts.balance(account.id).posted_nanos
        assert "ignored" == (await desk.receive("stripe", paid(account.id), {})).outcome
        assert credited == store.accounts.balance(account.id).posted_nanos
        assert [] == list((await store.books.verify()).differences)
    finally:
        await store.close()
