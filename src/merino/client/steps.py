"""The life of a call, step by step: one generator for every kind of client.

It yields what is to be done next (`Send`, `Wait`), is sent what came of it, and returns the outcome
that the caller gets. It decides; whoever drives it sends and waits, in a thread, on an event loop,
or on a test's own clock. Closing it, or throwing into it, at any point gives back what the call
took.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from merino.client.engine import Attempt, Call, Engine
from merino.client.turns import Waiter

DEADLINE = "DeadlineExceeded"
OPEN = "CircuitOpen"
_REST_MIN_S = 0.01
_REST_MAX_S = 1.0
_SWEEP_S = 1.0
"""How often who waits for a place looks whether somebody dropped a stream without closing it."""
_FAIR_SHARE = 0.5
"""An attempt that was cut by the deadline says something about its endpoint if it had this share
of it."""


class Wait(NamedTuple):
    """Wait so long, or until `waiter` is roused. `is_rest`: for an endpoint that is left alone."""

    seconds: float
    waiter: Waiter | None = None
    is_rest: bool = False


class Send:
    """Send the call to `attempt`'s endpoint; it must have ended in `seconds`. When a hedge wins,
    `attempt` becomes that one."""

    __slots__ = ("attempt", "call", "seconds")

    def __init__(self, call: Call, attempt: Attempt, seconds: float) -> None:
        self.call = call
        self.attempt = attempt
        self.seconds = seconds


class Outcome(NamedTuple):
    """What came of a `Send`. `error` names why no whole answer came (then `status` is 0; `DEADLINE`
    if its time was over). `is_open`: the head of a stream; its reader tells how it ends.
    `is_final`: whoever read it knows that trying again does not help, unless the server says so."""

    status: int
    headers: Mapping[str, str] = {}
    error: str = ""
    codes: tuple[str, ...] = ()
    is_open: bool = False
    result: Any = None
    failure: BaseException | None = None
    response: Any = None
    is_final: bool = False


class Refused(Exception):
    """The call ends without an answer, by our own decision: `name` is `DEADLINE` or `OPEN`."""

    def __init__(self, name: str, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.retry_after_s = retry_after_s


Steps = Generator["Send | Wait", "Outcome | None", "Outcome"]


def steps(engine: Engine, call: Call) -> Steps:
    """A place, then attempts until one is the answer."""
    status, error, is_open = 0, "cancelled", False
    try:
        waiter = engine.try_place(call)
        if waiter is not None:
            yield from _until_placed(engine, call, waiter)
        previous: Attempt | None = None
        while True:
            attempt = yield from _admitted(engine, call, previous)
            send = Send(call, attempt, call.deadline_s - engine.clock())
            try:
                outcome = yield send
            except BaseException:
                engine.left(send.attempt)
                raise
            assert outcome is not None, "a Send is answered by an Outcome"
            previous = send.attempt
            call.last_endpoint = previous.endpoint.base_url
            status, error = outcome.status, outcome.error
            if outcome.is_open:
                engine.begun(call, previous, status, outcome.headers)
                is_open = True
                return outcome
            if error == DEADLINE:
                engine.failed(call, previous, error, is_the_callers=_had_no_time(engine, send))
                raise _too_late(engine, call, 0.0)
            if error:
                after_s = engine.failed(call, previous, error)
            else:
                after_s = engine.answered(
                    call,
                    previous,
                    status,
                    outcome.headers,
                    outcome.codes,
                    is_final=outcome.is_final,
                )
            if after_s is None:
                return outcome
            if after_s > 0:
                yield from _pause(engine, call, Wait(after_s))
    except Refused as refused:
        status, error = 0, refused.name
        raise
    except GeneratorExit:
        status, error = 0, "cancelled"
        raise
    except BaseException as failure:
        status, error = 0, _name_of(failure)
        raise
    finally:
        if not is_open:
            engine.ended(call, status, error)


def _until_placed(engine: Engine, call: Call, waiter: Waiter) -> Generator[Wait, Any, None]:
    try:
        while not waiter.is_due:
            left_s = call.deadline_s - engine.clock()
            if left_s <= 0:
                raise _too_late(engine, call, 0.0)
            wait = Wait(min(left_s, _SWEEP_S), waiter)
            yield from _pause(engine, call, wait, may_reach_deadline=True)
            engine.sweep()
    except BaseException:
        engine.leave_places(waiter)
        raise
    call.has_place = True


def _admitted(
    engine: Engine, call: Call, previous: Attempt | None
) -> Generator[Wait, Any, Attempt]:
    """An endpoint that may be asked, and a permit of every limit."""
    while True:
        rest_s = engine.rest_s(call, previous)
        if rest_s == 0:
            queued = engine.try_permits(call)
            if queued is not None:
                yield from _until_permitted(engine, call, *queued)
            found = engine.attempt(call, previous)
            if isinstance(found, Attempt):
                if call.deadline_s - engine.clock() <= 0:
                    call.attempts -= 1
                    engine.left(found)
                    engine.give_back(call)
                    raise _too_late(engine, call, 0.0)
                return found
            engine.give_back(call)
            rest_s = found
        if not call.is_patient and engine.is_open(call):
            raise Refused(
                OPEN,
                f"Every endpoint failed too often and is left alone; try again in {rest_s:.1f} s.",
                rest_s,
            )
        yield from _pause(
            engine, call, Wait(min(max(rest_s, _REST_MIN_S), _REST_MAX_S), is_rest=True)
        )


def _until_permitted(
    engine: Engine, call: Call, waiter: Waiter, expected_s: float
) -> Generator[Wait, Any, None]:
    try:
        if engine.clock() + expected_s >= call.deadline_s:
            raise _too_late(engine, call, expected_s)
        while True:
            wait_s = engine.permits_wait_s(waiter)
            if wait_s == 0:
                return
            left_s = call.deadline_s - engine.clock()
            if left_s <= 0:
                raise _too_late(engine, call, 0.0)
            yield from _pause(
                engine, call, Wait(min(wait_s, left_s), waiter), may_reach_deadline=True
            )
    except BaseException:
        engine.leave_permits(waiter)
        raise


def _pause(
    engine: Engine, call: Call, wait: Wait, *, may_reach_deadline: bool = False
) -> Generator[Wait, Any, None]:
    began_s = engine.clock()
    if not may_reach_deadline and began_s + wait.seconds >= call.deadline_s:
        raise _too_late(engine, call, wait.seconds)
    try:
        yield wait
    finally:
        call.waited_s += engine.clock() - began_s


def _too_late(engine: Engine, call: Call, more_s: float) -> Refused:
    more = f", and {more_s:.1f} s more would be needed" if more_s else ""
    return Refused(
        DEADLINE,
        f"The call's {engine.policy.deadline_s:g} s are over: {call.attempts} attempts, "
        f"{call.waited_s:.1f} s of waiting{more}.",
    )


def _had_no_time(engine: Engine, send: Send) -> bool:
    return send.seconds < _FAIR_SHARE * (engine.policy.deadline_s or 0.0)


def _name_of(failure: BaseException) -> str:
    name = type(failure).__name__
    return "cancelled" if name in ("CancelledError", "Cancelled", "KeyboardInterrupt") else name
