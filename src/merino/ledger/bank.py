"""The port between the ledger in memory and where the money is kept."""

from __future__ import annotations

from typing import Protocol

from merino.domain.account import SpendPeriod
from merino.domain.errors import StoreUnavailable
from merino.domain.key import VirtualKey
from merino.gateway.ports import Replay
from merino.ledger.lines import Record
from merino.ledger.parts import CapPart, Part


class Bank(Protocol):
    """Has the purses and books what is charged; a relay holds and charges from its parts of them.

    Nothing here waits. A bank that lies in the relay's own folder gives it every purse whole, at
    once; one that others share is asked for more when a part does not suffice.
    """

    @property
    def is_closed(self) -> bool:
        """Whether no more holds may be given now. `refusal` says why."""
        ...

    def refusal(self) -> StoreUnavailable: ...

    @property
    def backlog_calls(self) -> int:
        """Calls that are in the journal and not yet booked."""
        ...

    # Parts

    def opened(self, part: Part) -> None:
        """There is a part; it is given what it can have at once."""
        ...

    def left(self, part: CapPart) -> None:
        """The window is over, or the cap was removed: nothing more is held of the part."""
        ...

    def ask(self, key: VirtualKey, nanos: int, call_id: str, waited_s: float) -> bool:
        """A call that is the first of its account needs this much and does not find it. True: the
        bank is asked, and the account is woken by its answer. False: it has said what there is.
        Raises `StoreUnavailable` if it cannot be asked."""
        ...

    def unask(self, account_id: str, call_id: str) -> None:
        """The call does not wait any more."""
        ...

    # Charges

    def ended(self, account_id: str, key_id: str, nanos: int, at_ms: int, seq: int) -> None:
        """A call's hold was released, and the parts were charged `nanos`, by the line with this
        number, which is not written yet."""
        ...

    def add(self, record: Record) -> None:
        """The line is in the journal."""
        ...

    def schedule(self) -> None:
        """Book soon what was added."""
        ...

    def spent(self, cap: CapPart, period: SpendPeriod) -> int:
        """What was charged to a capped account or key in this period."""
        ...

    # What else waits for being booked

    def replay(self, replay_id: bytes) -> Replay | None:
        """A kept answer that may not be booked yet."""
        ...

    async def caught_up(self) -> None:
        """Return once everything that was added is booked. Raises the database's error."""
        ...

    @property
    def is_catching_up(self) -> bool:
        """Whether calls wait that ended before or during an outage."""
        ...

    async def apply_all(self) -> bool:
        """Book everything. False if that is not possible."""
        ...
