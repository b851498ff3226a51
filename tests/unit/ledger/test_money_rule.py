"""How much may be reserved is said by one rule; the quick way to ask it says the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from merino.domain.key import VirtualKey
from merino.ledger.balances import AccountCap, Funds, fits, headroom_of
from merino.ledger.key_spend import KeySpend

NOW_MS = 1_800_000_000_000
NANOS = st.integers(0, 60)
PERIODS = st.sampled_from(["day", "month", "total"])


def spends(held=NANOS):
    def made(day, more, most, held) -> KeySpend:
        spend = KeySpend(day, day + more, day + more + most, NOW_MS)
        spend.held = held
        return spend

    return st.builds(made, NANOS, NANOS, NANOS, held)


FUNDS = st.builds(
    Funds,
    posted=st.integers(-60, 120),
    held=NANOS,
    overdraft=NANOS,
    cap=st.none() | st.builds(AccountCap, NANOS, PERIODS, spends(st.just(0))),
)
KEYS = st.builds(
    VirtualKey,
    id=st.just("key_1"),
    account_id=st.just("acct_1"),
    name=st.just("k"),
    spend_cap_nanos=st.none() | NANOS,
    spend_period=PERIODS,
)


@given(FUNDS, spends(), KEYS, st.integers(0, 150))
def test_an_amount_fits_exactly_if_there_is_headroom_for_it(funds, spend, key, amount) -> None:
    """The quick way and the full one never differ, whatever is posted, held, lent or capped."""
    room = headroom_of(funds, spend, key, lambda: NOW_MS)
    assert (amount <= room.available_nanos) == fits(amount, funds, spend, key, lambda: NOW_MS)


@given(FUNDS, spends(), KEYS)
def test_headroom_is_the_least_of_what_applies(funds, spend, key) -> None:
    """Each of balance, account cap and key cap bounds it, less what is held; one of them is named."""
    bounds = {"balance": (funds.posted + funds.overdraft, funds.held)}
    if funds.cap is not None:
        spent = funds.cap.spend.spent(funds.cap.period, NOW_MS)
        bounds["account_cap"] = (funds.cap.nanos - spent, funds.held)
    if key.spend_cap_nanos is not None:
        spent = spend.spent(key.spend_period, NOW_MS)
        bounds["key_cap"] = (key.spend_cap_nanos - spent, spend.held)
    room = headroom_of(funds, spend, key, lambda: NOW_MS)
    assert max(0, min(most - held for most, held in bounds.values())) == room.available_nanos
    assert max(0, min(most for most, _ in bounds.values())) == room.ceiling_nanos
    assert room.ceiling_nanos == max(0, bounds[room.bound_by][0])
