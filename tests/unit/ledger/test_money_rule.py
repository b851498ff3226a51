"""How much may be reserved is said by one rule; the quick way to ask it says the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold
from merino.ledger.memory import MemoryLedger
from merino.ledger.parts import CapPart, Funds, Part, headroom_of

NANOS = st.integers(0, 60)
PARTS = {"nanos": st.integers(-60, 120), "held": NANOS, "elsewhere": NANOS}
CAPS = st.builds(CapPart, st.just("key_1"), st.just("acct_1"), **PARTS, cap_nanos=st.just(100))
FUNDS = st.builds(
    Funds,
    balance=st.builds(Part, st.just("acct_1"), st.just("acct_1"), **PARTS),
    cap=st.none() | CAPS,
)


@given(FUNDS, st.none() | CAPS, st.integers(0, 150))
def test_an_amount_fits_exactly_if_there_is_headroom_for_it(funds, cap, amount) -> None:
    """The quick way and the full one never differ, whatever is posted, held, lent or capped."""
    nobody: Any = None  # nothing is booked
    ledger = MemoryLedger(nobody, nobody, lambda: 0)
    ledger._funds["acct_1"] = funds
    key = VirtualKey("key_1", "acct_1", "k", "", b"")
    if cap is not None:
        funds.key_caps["key_1"] = cap
        key = VirtualKey("key_1", "acct_1", "k", "", b"", spend_cap_nanos=100)
    room = headroom_of(funds, cap)
    assert room == ledger.headroom(key)
    assert (amount <= room.available_nanos) == ledger._fits(amount, funds, key)
    hold = Hold("c1", "acct_1", "key_1", amount, 0, 60.0)
    assert (amount <= room.available_nanos) or ledger.hold(hold, key) is None


@given(FUNDS, st.none() | CAPS)
def test_headroom_is_the_least_of_what_applies(funds, key_cap) -> None:
    """Each of balance, account cap and key cap bounds it, less what is held; one of them is named.
    What a purse has elsewhere is for later, never for now."""
    bounds = {"balance": funds.balance, "account_cap": funds.cap, "key_cap": key_cap}
    parts = {name: part for name, part in bounds.items() if part is not None}
    room = headroom_of(funds, key_cap)
    assert max(0, min(part.nanos - part.held for part in parts.values())) == room.available_nanos
    ceilings = {name: part.nanos + part.elsewhere for name, part in parts.items()}
    assert max(0, min(ceilings.values())) == room.ceiling_nanos
    assert room.ceiling_nanos == max(0, ceilings[room.bound_by])
