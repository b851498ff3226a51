"""The bank that lies in the relay's own folder: nobody else has a part of its purses, so each part
is the whole purse, and is there at once."""

from __future__ import annotations

from collections.abc import Callable

from merino.domain.account import SpendPeriod
from merino.domain.errors import StoreUnavailable
from merino.domain.key import VirtualKey
from merino.ledger.applier import Applier
from merino.ledger.key_spend import KeySpends
from merino.ledger.parts import CapPart, Part


class LocalBank:
    """`Bank` over SQLite."""

    def __init__(self, applier: Applier, key_spends: KeySpends, now_ms: Callable[[], int]) -> None:
        self._applier = applier
        self._key_spends = key_spends
        self._now_ms = now_ms
        # Every call passes these: they are the applier's own.
        self.add = applier.add
        self.schedule = applier.schedule
        self.replay = applier.replay
        self.caught_up = applier.caught_up
        self.apply_all = applier.apply_all

    @property
    def is_closed(self) -> bool:
        return self._applier.is_overfull

    def refusal(self) -> StoreUnavailable:
        return self._applier.outage.refusal(self._applier.backlog_calls)

    @property
    def backlog_calls(self) -> int:
        return self._applier.backlog_calls

    @property
    def is_catching_up(self) -> bool:
        return self._applier.is_catching_up

    def opened(self, part: Part) -> None:
        if isinstance(part, CapPart):
            part.nanos = part.cap_nanos - self.spent(part, part.period)

    def left(self, part: CapPart) -> None:
        pass

    def ask(self, key: VirtualKey, nanos: int, call_id: str, waited_s: float) -> bool:
        return False

    def unask(self, account_id: str, call_id: str) -> None:
        pass

    def ended(self, account_id: str, key_id: str, nanos: int, at_ms: int, seq: int) -> None:
        self._key_spends.of(key_id, account_id).add(nanos, at_ms)

    def spent(self, cap: CapPart, period: SpendPeriod) -> int:
        spends = self._key_spends
        is_account = cap.owner == cap.account_id
        spend = spends.of_account(cap.owner) if is_account else spends.of(cap.owner, cap.account_id)
        return spend.spent(period, self._now_ms())
