"""How late the event loop comes, and what is named for it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvloop
from hypothesis import given
from hypothesis import strategies as st

from merino.running.loop_lag import BEAT_S, LATE_S, HeldUp, LoopLag
from merino.running.runner import Runner
from merino.telemetry import held_up
from merino.telemetry.held_up import EVERY_S, STARTING_S, UNSEEN_S, HeldUpLog
from merino.telemetry.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def recorder(frames: Callable[[], dict[int, FrameType]] = dict):
    clock, lags, told = Clock(), [], []
    lag = LoopLag(lags.append, told.append, clock=clock, frames=frames)
    lag.begin(threading.get_ident())
    return lag, clock, lags, told


def test_a_beat_in_time_is_observed_and_not_told():
    """A beat that comes when it is due was not late, and one a little late is no hold-up."""
    lag, clock, lags, told = recorder()
    clock.now += BEAT_S
    lag.beat()
    clock.now += BEAT_S + 0.003
    lag.beat()

    assert [0.0, 3.0] == [round(each * 1000, 3) for each in lags]
    assert [] == told


@given(st.floats(0, 5))
def test_beats_that_a_hold_up_swallowed_are_observed_too(lost_s):
    """A hold-up counts for every moment in it, as if each had had its own beat."""
    lag, clock, lags, told = recorder()
    clock.now += BEAT_S + lost_s
    lag.beat()

    assert (lost_s >= LATE_S) == bool(told) or abs(lost_s - LATE_S) < 1e-9
    assert max(1, int(lags[0] / BEAT_S) + 1 if told else 1) == len(lags)
    assert all(0 <= each <= lost_s + 1e-9 for each in lags)


def test_what_is_seen_most_often_is_named():
    """Of several looks during one hold-up, the place seen most often is told."""
    now = [sys._getframe()]
    lag, clock, _, told = recorder(lambda: {threading.get_ident(): now[0]})

    def short():
        now[0] = sys._getframe()
        lag.look()

    def long():
        now[0] = sys._getframe()
        lag.look()
        lag.look()

    clock.now += BEAT_S + 0.05
    short()
    long()
    lag.beat()

    assert "long" in told[0].where[0]


def test_who_comes_while_the_thread_waits_is_not_blamed():
    """What runs after the late beat had come was not what held it up."""

    def frames():
        clock.now += 0.001
        lag.beat()  # it came, while the thread waited for the interpreter
        return {threading.get_ident(): sys._getframe()}

    lag, clock, _, told = recorder(frames)
    clock.now += BEAT_S + 0.05
    lag.look()
    clock.now += BEAT_S + 0.05
    lag.beat()

    assert [(), ()] == [each.where for each in told]


def test_the_thread_wakes_only_when_a_beat_could_be_overdue():
    """While beats come in time it looks about as often as they do, never more."""
    lag, clock, _, _ = recorder()
    waits = []
    for _ in range(20):
        clock.now += BEAT_S
        lag.beat()
        waits.append(lag.look())

    assert all(wait_s > BEAT_S for wait_s in waits)


def block_here(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def held_up_by(run) -> list[HeldUp]:
    """What is told of a loop on which `run` is called once, after which a beat has come."""
    told: list[HeldUp] = []
    heard = asyncio.Event()

    def tell(each: HeldUp) -> None:
        told.append(each)
        if "block_here" in " ".join(each.where):
            heard.set()

    beating = asyncio.create_task(LoopLag(lambda _: None, tell).run())
    await asyncio.sleep(3 * BEAT_S)
    await run()
    await asyncio.wait_for(heard.wait(), 30)
    beating.cancel()
    await asyncio.wait([beating])
    return [each for each in told if "block_here" in " ".join(each.where)]


def test_a_task_that_blocks_the_loop_is_named():
    """A block of 50 ms is told with its function and its task's name."""

    async def run():
        async def work():
            block_here(0.05)

        await asyncio.create_task(work(), name="the shearer")

    [told, *_] = uvloop.run(held_up_by(run))

    assert "the shearer" == told.task
    assert LATE_S <= told.lost_s


def test_a_call_that_blocks_the_loop_is_named():
    """A runner is named, as a task is."""

    async def run():
        async def work():
            block_here(0.05)

        runner = Runner(work(), asyncio.get_running_loop(), None, lambda *_: None)
        runner.set_name("req_7")
        runner.go_on()

    [told, *_] = uvloop.run(held_up_by(run))

    assert "req_7" == told.task


def test_its_thread_ends_with_it():
    """Whoever stops the recorder leaves no thread behind."""

    async def run():
        beating = asyncio.create_task(LoopLag(lambda _: None, lambda _: None).run())
        await asyncio.sleep(2 * BEAT_S)
        threads = [each for each in threading.enumerate() if each.name == "merino-loop-lag"]
        beating.cancel()
        await asyncio.wait([beating])
        return threads

    [thread] = uvloop.run(run())
    thread.join(30)

    assert not thread.is_alive()


def test_a_place_is_logged_once_in_ten_seconds(monkeypatch):
    """A hold-up that comes again and again does not fill the log; how many there were is told. The
    start, and short ones that nobody was seen in, are no line."""
    lines = []
    monkeypatch.setattr(held_up.log, "warning", lambda event, **more: lines.append(more))
    clock = Clock()
    log = HeldUpLog(clock)
    log(HeldUp(3.0, "t", ("merino.a.start",)))
    clock.now += STARTING_S
    for _ in range(3):
        log(HeldUp(0.02, "t", ("merino.a.f", "merino.b.g")))
    log(HeldUp(UNSEEN_S / 2))
    log(HeldUp(UNSEEN_S))
    clock.now += EVERY_S
    log(HeldUp(0.025, "t", ("merino.a.f",)))

    assert [
        (20.0, "merino.a.f < merino.b.g", 0),
        (100.0, "nobody that was seen", 0),
        (25.0, "merino.a.f", 2),
    ] == [(each["ms"], each["by"], each["left_out"]) for each in lines]


def test_the_histogram_is_rendered():
    """Operators find the lag at /metrics."""
    metrics = Metrics()
    metrics.loop_lag(0.015)

    shown = metrics.render().decode()

    assert 'merino_loop_lag_seconds_bucket{le="0.01"} 0.0' in shown
    assert 'merino_loop_lag_seconds_bucket{le="0.02"} 1.0' in shown
