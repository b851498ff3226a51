"""A folder that was written before saved cards and single refunds opens with all it had."""

from __future__ import annotations

import json

import apsw
import pytest

from merino.billing.stores.stores import BillingStores
from merino.sqlite.schema import MIGRATIONS
from merino.storage import Store

BEFORE = """
INSERT INTO accounts (id, name, currency, overdraft_nanos, created_at_ms)
VALUES ('acct_1', 'a', 'USD', 0, 1);
INSERT INTO balances VALUES ('acct_1', 0);
INSERT INTO topups (id, account_id, provider, amount_nanos, currency, charge_minor,
    charge_currency, status, created_at_ms, taken_back_nanos)
VALUES ('top_1', 'acct_1', 'stripe', 10000000000, 'USD', 1000, 'USD', 'disputed', 1, 3000000000);
INSERT INTO takebacks VALUES ('stripe', 'refund:ch_1', 'top_1', 300, 3000000000),
    ('stripe', 'dispute:dp_1', 'top_1', 700, 7000000000),
    ('stripe', 'won:dp_1', 'top_1', -700, -7000000000);
INSERT INTO notices VALUES ('ntc_1', 'o1', 'acct_1', 'balance.low', 9, '{}', 2, 5, 7, NULL),
    ('ntc_2', 'o2', 'acct_1', 'balance.low', 9, '{}', 0, 5, NULL, NULL);
"""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_was_there_is_there(tmp_path, anyio_backend):
    """Orders, takebacks, events that wait, and notices with what became of them."""
    folder = tmp_path / "data"
    folder.mkdir()
    connection = apsw.Connection(str(folder / "merino.db"))
    for script in sorted(MIGRATIONS.glob("*.sql"))[:2]:
        connection.execute(script.read_text())
        connection.pragma("user_version", int(script.name[:4]))
    connection.execute(BEFORE)
    body = json.dumps({"data": {"object": {"payment_intent": "pi_9"}}}).encode()
    connection.execute(
        "INSERT INTO payment_events VALUES ('stripe', 'evt_1', 1, ?, 'waiting', '', NULL)", (body,)
    )
    connection.close()

    store = Store.open(folder, now_ms=lambda: 10)
    await store.start()
    try:
        assert 3 * 10**9 == (await BillingStores(store).topups.get("top_1")).taken_back_nanos
        facts = {"refunds:ch_1": 300, "dispute:dp_1": 700, "won:dp_1": 700}
        assert facts == dict(await BillingStores(store).topups.takebacks("top_1"))
        assert [body] == list(await BillingStores(store).topups.waiting_events("stripe", "pi_9"))
        by_id = {
            each.id: each.deliveries for each in await BillingStores(store).notices.list(None, 10)
        }
        assert (2, 7) == (by_id["ntc_1"][0].attempts, by_id["ntc_1"][0].delivered_at_ms)
        assert ["ntc_2"] == [
            each.id for each in await BillingStores(store).notices.due("webhook", 10)
        ]
        assert ["ntc_1", "ntc_2"] == [
            each.id for each in await BillingStores(store).notices.due("mail", 10)
        ]
    finally:
        await store.close()
