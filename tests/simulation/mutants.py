"""Broken protocols, each lacking one guard: the simulation must notice every one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

from tests.simulation.model_bank import ModelBank
from tests.simulation.world import World

from merino.ledger import teller
from merino.ledger.messages import Round
from merino.ledger.shared_bank import SharedBank


class LateRequestsCount(ModelBank):
    """A request that comes late, or after the relay has given it up, is executed all the same."""

    def _guarded(self, relay_id, request):
        row = self.tables.relays.get(relay_id)
        if row is not None and isinstance(request, Round):
            lines = [line for line in request.lines if line[0] > row.applied_seq]
            request = replace(request, op=row.op, after_seq=row.applied_seq, lines=lines)
        return super()._guarded(relay_id, request)

    def _round(self, relay_id, request):
        applied_seq = self.tables.relays[relay_id].applied_seq
        lines = [line for line in request.lines if line[0] > applied_seq]
        return super()._round(relay_id, replace(request, lines=lines))


class ResyncLeavesRequestsAlive(ModelBank):
    """What is on its way is not void once a relay has asked how it stands."""

    def _resync(self, relay_id, request):
        state = super()._resync(relay_id, request)
        if isinstance(state, str):
            return state
        row = self.tables.relays[relay_id]
        row.op -= 1
        return replace(state, op=row.op)


class TheBuriedAreServed(ModelBank):
    """A relay that was buried goes on as if nothing was."""

    def _guarded(self, relay_id, request):
        row = self.tables.relays.get(relay_id)
        if row is not None:
            request = replace(request, epoch=row.epoch)
        return super()._guarded(relay_id, request)

    def _resync(self, relay_id, request):
        row = self.tables.relays.get(relay_id)
        if row is not None:
            request = replace(request, epoch=row.epoch)
        return super()._resync(relay_id, request)


class BuriesSoon(ModelBank):
    """A relay is buried while holds of it may still run."""

    def bury_the_dead(self):
        with mock.patch.object(teller, "is_dead", lambda seen_at, now, hold_s: now - seen_at > 10):
            return super().bury_the_dead()


class ForgetsNoPlace(ModelBank):
    """Who does not wait any more keeps its place in the line."""

    def _leave(self, relay_id, but):
        pass

    def _round(self, relay_id, request):
        for account_id, line in self.tables.line.items():
            self.tables.line[account_id] = [replace(p, until=float("inf")) for p in line]
        return super()._round(relay_id, request)


class AnotherHistoryIsTheSame(ModelBank):
    """A bank that has lost its last second says nothing of it."""

    def fail_over(self, standby):
        super().fail_over(standby)
        self.timeline -= 1
        self.learning_until = float("-inf")
        self.unheard = {}


class AdvancesWhileItLearns(ModelBank):
    """It gives money away before it has heard who has it."""

    is_learning = False

    def fail_over(self, standby):
        super().fail_over(standby)
        self.unheard = {}


class OverrunsComeFromNowhere(ModelBank):
    """What exceeds a relay's part is forgotten."""

    def execute(self, relay_id, request):
        with mock.patch.object(teller, "charge", lambda out, free, n: (max(0, out - n), free)):
            return super().execute(relay_id, request)


class KeepsWhatItReturns(SharedBank):
    """What is on its way home can still be held."""

    def _give(self, part, nanos):
        super()._give(part, nanos)
        part.nanos += max(0, nanos)


class ForgetsWhatIsNotBooked(SharedBank):
    """A part is what the bank says, although charges are on their way to it."""

    def _believe(self, purse, out):
        super()._believe(purse, out)
        if purse in self._parts:
            self._parts[purse].nanos = out


class HoldsAlone(SharedBank):
    """A relay goes on holding, however long the bank is silent."""

    @property
    def is_closed(self):
        return not self._is_registered


class KeepsHoldsWhenFenced(SharedBank):
    """A relay whose parts were given to others keeps them."""

    def _fenced(self):
        self._is_registered = False

    def _begin(self, outs):
        pass


class ClaimsNothing(SharedBank):
    """A relay believes a bank that has lost its last second."""

    def _resynced(self, state):
        self._timeline = state.timeline
        super()._resynced(state)


class SendsNothingAgain(SharedBank):
    """Lines that the bank has lost are not sent again."""

    def _take_up_again(self, applied_seq):
        self.applied_seq = applied_seq


class RecoversNothing(SharedBank):
    """The lines of a dead process are not looked at."""

    def recover(self, records):
        pass


class RefusesUnasked(SharedBank):
    """A call is refused for what is here, before the bank was asked."""

    def ask(self, key, nanos, call_id, waited_s):
        super().ask(key, nanos, call_id, waited_s)
        self._parts[key.account_id].elsewhere = 0
        return False


class KeepsWhatOthersNeed(SharedBank):
    """Nothing goes home while others wait."""

    def _is_poor(self, part, now):
        return False


class KeepsWhatLiesIdle(SharedBank):
    """Nothing goes home by itself."""

    def _idle_of(self, purse, slack, now):
        return 0


class ReturnsWhatIsHeld(SharedBank):
    """What goes home is not what is spare, but all there is."""

    def _spare(self, part):
        return part.nanos if super()._spare(part) > 0 else 0


class TakesWhatOthersWaitFor(SharedBank):
    """What a call releases goes to the next one here, although others came first elsewhere."""

    def ended(self, account_id, key_id, nanos, at_ms, seq):
        if nanos:
            self._charge(account_id, key_id, nanos, at_ms, seq)

    def _spare(self, part):
        return 0 if self._may_go(part.account_id) else part.nanos - part.held


class ForgetsWhatIsOnItsWayHome(SharedBank):
    """After a missing answer, what was about to go home is here and there."""

    def _believe(self, purse, out):
        part = self._parts.get(purse)
        homing = self._homing.get(purse, 0)
        super()._believe(purse, out)
        if part is not None:
            part.nanos += homing


class BegunWithLeftovers(SharedBank):
    """Charges of a dead process are not counted off what it has left."""

    def recover(self, records):
        for record in records:
            self.add(record)


class ServesWhoAsks(ModelBank):
    """Whoever asks is served, whoever came first."""

    def _round(self, relay_id, request):
        for account_id in request.asks:
            self.tables.line[account_id] = []
        return super()._round(relay_id, request)


class AdvancesHalf(ModelBank):
    """Of a call's purses those are advanced that have enough."""

    def _round(self, relay_id, request):
        asks = {}
        for account_id, ask in request.asks.items():
            for purse in ask.needs:
                self._open(purse)
            free = self.tables.free
            needs = {purse: n for purse, n in ask.needs.items() if free[purse] >= n}
            asks[account_id] = replace(ask, needs=needs)
        return super()._round(relay_id, replace(request, asks=asks))


RARE: dict[str, Any] = {"kinds": ("cut", "pause"), "late": 0.3, "poor": True}
LOSSES: dict[str, Any] = {"kinds": ("fail over",), "poor": True, "calls": 400}
SILENCE: dict[str, Any] = {"kinds": ("long cut",), "calls": 500, "until_s": 240.0}


class Shown(NamedTuple):
    """From which seed on it is looked for, in which kind of worlds."""

    seed: int
    kind: dict[str, Any]


ONE_CRASH: dict[str, Any] = {"kinds": ("crash",), "faults_max": 1, "poor": True}
MUTANTS: dict[type, Shown] = {
    LateRequestsCount: Shown(1, {}),
    ResyncLeavesRequestsAlive: Shown(7, RARE),
    TheBuriedAreServed: Shown(19, {}),
    BuriesSoon: Shown(19, {}),
    ForgetsNoPlace: Shown(5, ONE_CRASH),
    AnotherHistoryIsTheSame: Shown(4, LOSSES),
    AdvancesWhileItLearns: Shown(49, LOSSES),
    OverrunsComeFromNowhere: Shown(1, {}),
    ServesWhoAsks: Shown(20, ONE_CRASH),
    KeepsWhatItReturns: Shown(2, {}),
    ForgetsWhatIsNotBooked: Shown(1, {}),
    HoldsAlone: Shown(1, SILENCE),
    KeepsHoldsWhenFenced: Shown(9, {}),
    ClaimsNothing: Shown(14, LOSSES),
    SendsNothingAgain: Shown(3, LOSSES),
    RecoversNothing: Shown(3, {}),
    RefusesUnasked: Shown(1, {}),
    KeepsWhatOthersNeed: Shown(10, {}),
    KeepsWhatLiesIdle: Shown(1, {}),
    ReturnsWhatIsHeld: Shown(7, {}),
    TakesWhatOthersWaitFor: Shown(70, ONE_CRASH),
    ForgetsWhatIsOnItsWayHome: Shown(1, RARE),
    BegunWithLeftovers: Shown(3, {}),
}


def world_with(mutant: type, seed: int) -> World:
    more = MUTANTS[mutant].kind
    if issubclass(mutant, ModelBank):
        return World(seed, bank=mutant, **more)
    return World(
        seed, lambda kind, *given: (mutant if kind is SharedBank else kind)(*given), **more
    )
