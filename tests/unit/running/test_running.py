"""Runners do for a call what tasks do, and are resumed by whoever has what they wait for."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar, copy_context

import pytest

from merino.running.runner import Runner, apart
from merino.running.signal import Signal


class Ends:
    """Keeps how runners ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, BaseException | None]] = []

    def __call__(self, runner, is_for, error) -> None:
        self.seen.append((is_for, error))


def run(scene) -> None:
    asyncio.run(scene())


def start(coroutine, ends: Ends, name: str = "one") -> Runner:
    runner = Runner(coroutine, asyncio.get_running_loop(), name, ends)
    runner.go_on()
    return runner


def test_all_who_wait_go_on_inside_set_and_in_order() -> None:
    """Nothing waits for the loop's next turn."""

    async def scene() -> None:
        ends, signal, order = Ends(), Signal(asyncio.get_running_loop(), is_shared=True), []

        async def wait(name: str) -> None:
            await signal
            order.append(name)

        for name in "abc":
            start(wait(name), ends, name)
        assert [] == order
        signal.set()
        assert ["a", "b", "c"] == order
        assert [("a", None), ("b", None), ("c", None)] == ends.seen
        start(wait("late"), ends)  # what has happened holds nobody up
        assert "late" == order[-1]

    run(scene)


def test_an_error_reaches_all_who_wait_and_whoever_comes_later() -> None:
    """And ends those that do not deal with it."""

    async def scene() -> None:
        ends, signal = Ends(), Signal(asyncio.get_running_loop())

        async def wait() -> None:
            await signal

        start(wait(), ends)
        signal.fail(ValueError("broken"))
        start(wait(), ends, "later")
        assert ["broken", "broken"] == [str(error) for _, error in ends.seen]

    run(scene)


async def cancelled(happened: list[str], waits_for) -> None:
    try:
        await waits_for
    except asyncio.CancelledError:
        happened.append("cancelled")
        raise
    happened.append("went on")


@pytest.mark.parametrize("kind", ["signal", "future", "sleep"])
def test_a_cancelled_runner_hears_of_it_by_the_next_turn(kind) -> None:
    """Whatever of its own it waits for, not inside the call of `cancel`."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        ends, happened = Ends(), []
        waits_for = {
            "signal": lambda: Signal(loop),
            "future": loop.create_future,
            "sleep": lambda: asyncio.sleep(60),
        }[kind]()
        runner = start(cancelled(happened, waits_for), ends)
        assert runner.cancel()
        assert [] == happened
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ["cancelled"] == happened
        assert isinstance(ends.seen[0][1], asyncio.CancelledError)

    run(scene)


def test_what_is_shared_is_waited_for_also_by_who_is_cancelled() -> None:
    """A hold that is being written must be known of before it can be given back."""

    async def scene() -> None:
        ends, happened = Ends(), []
        signal = Signal(asyncio.get_running_loop(), is_shared=True)
        runner = start(cancelled(happened, signal), ends)
        runner.cancel()
        await asyncio.sleep(0)
        assert [] == happened
        signal.set()
        assert ["cancelled"] == happened

    run(scene)


def test_a_cancellation_that_comes_together_with_what_was_waited_for() -> None:
    """It is not lost: it is raised where the runner stands then."""

    async def scene() -> None:
        ends, happened = Ends(), []
        signal = Signal(asyncio.get_running_loop())
        runner = start(cancelled(happened, signal), ends)
        runner.cancel()
        signal.set()
        assert ["cancelled"] == happened
        await asyncio.sleep(0)  # nothing more comes of it
        assert 1 == len(ends.seen)

    run(scene)


def test_a_cancellation_can_be_taken_back() -> None:
    """Whoever dealt with it goes on as if nothing had been."""

    async def scene() -> None:
        ends, happened = Ends(), []
        first, second = (Signal(asyncio.get_running_loop()) for _ in range(2))

        async def work() -> None:
            try:
                await first
            except asyncio.CancelledError:
                runner.uncancel()
            await second
            happened.append("done")

        runner = Runner(work(), asyncio.get_running_loop(), "one", ends)
        runner.go_on()
        runner.cancel()
        await asyncio.sleep(0)
        second.set()
        assert ["done"] == happened
        assert [("one", None)] == ends.seen

    run(scene)


@pytest.mark.parametrize("is_shared", [False, True])
def test_tasks_wait_for_signals_too(is_shared) -> None:
    """With results, errors and cancellation as of any future."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        happened: list[str] = []
        signals = [Signal(loop, is_shared=is_shared) for _ in range(3)]
        tasks = [asyncio.create_task(cancelled(happened, each)) for each in signals]
        await asyncio.sleep(0)
        signals[0].set()
        signals[1].fail(ValueError("broken"))
        tasks[2].cancel()
        await asyncio.sleep(0)
        signals[2].set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert ended[0] is None
        assert isinstance(ended[1], ValueError)
        assert isinstance(ended[2], asyncio.CancelledError)
        assert {"went on", "cancelled"} == set(happened)

    run(scene)


def test_what_needs_a_task_runs_apart() -> None:
    """Timeouts of asyncio work in there, results and errors come back, and so does being cancelled."""

    async def scene() -> None:
        ends, happened = Ends(), []

        async def timed(seconds: float) -> str:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(0 if seconds > 1 else 60)
            return "in time"

        async def work() -> None:
            happened.append(await apart(timed(60)))
            try:
                await apart(timed(0.001))
            except TimeoutError:
                happened.append("too late")
            await cancelled(happened, apart(asyncio.sleep(60)))

        runner = start(work(), ends)
        while len(happened) < 2:  # noqa: ASYNC110 - a runner is no task to wait for
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        runner.cancel()
        while not ends.seen:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        assert ["in time", "too late", "cancelled"] == happened

    run(scene)


@pytest.mark.parametrize("kind", ["set", "fail"])
@pytest.mark.parametrize("broken", [{0}, {1}, {2}, {0, 1, 2}])
def test_a_fault_in_one_that_waits_strands_no_other(kind, broken) -> None:
    """All the others go on in order, who sets the signal does not hear of it, the loop does."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        signal, went_on, ended = Signal(loop, is_shared=True), [], []

        async def wait(number: int) -> None:
            try:
                await signal
            except ValueError:
                went_on.append(number)
                raise
            went_on.append(number)

        def on_end(runner, number, error) -> None:
            if number in broken:
                raise RuntimeError(f"the end of {number}")
            ended.append(number)

        for number in range(3):
            Runner(wait(number), loop, number, on_end).go_on()
        signal.set() if kind == "set" else signal.fail(ValueError("not written"))
        assert [0, 1, 2] == went_on
        assert sorted({0, 1, 2} - broken) == ended
        assert [f"the end of {number}" for number in sorted(broken)] == told

    run(scene)


def test_what_a_call_remembers_in_its_context_stays_its_own() -> None:
    """Neither who resumes it nor who is resumed by it sees it, whatever it waits for; nor does a
    call that begins at the end of another."""
    name: ContextVar[str] = ContextVar("name", default="nobody")

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        base = copy_context()
        shared, own = Signal(loop, is_shared=True), Signal(loop)
        seen: dict[str, list[str]] = {}

        async def work(mine: str) -> None:
            looks = seen[mine] = [name.get()]
            name.set(mine)
            await shared
            looks.append(name.get())
            if mine == "a":
                own.set()  # which runs what b does next inside of a
            elif mine == "b":
                await own
            looks.append(name.get())
            await asyncio.sleep(0)
            looks.append(name.get())
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future
            looks.append(name.get())

        def on_end(runner, mine, error) -> None:
            assert error is None
            ends.append(mine)
            if mine == "a":
                Runner(work("d"), loop, "d", on_end, base).go_on()

        ends: list[str] = []
        for mine in "bac":
            Runner(work(mine), loop, mine, on_end, base).go_on()
        shared.set()
        while len(ends) < 4:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        for mine in "abcd":
            assert ["nobody", *[mine] * 4] == seen[mine]
        assert "nobody" == name.get()

    run(scene)


def test_what_runs_apart_has_the_context_of_its_call_unless_told_otherwise() -> None:
    """So that what outlives the call can begin without it."""
    name: ContextVar[str] = ContextVar("name", default="nobody")

    async def scene() -> None:
        ends, seen = Ends(), []

        async def look() -> None:
            seen.append(name.get())

        async def work() -> None:
            name.set("mine")
            await apart(look())
            await apart(look(), Context())

        start(work(), ends)
        while not ends.seen:  # noqa: ASYNC110 - a runner is no task to wait for
            await asyncio.sleep(0)
        assert ["mine", "nobody"] == seen

    run(scene)


def test_a_fault_is_reported_under_the_name_of_the_call() -> None:
    """Whoever reads the log looks for a call by its id; before it has one, what runs is named."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda _, context: told.append(context["message"]))
        signal = Signal(loop, is_shared=True)

        async def wait() -> None:
            await signal

        def on_end(runner, is_for, error) -> None:
            raise RuntimeError("the end")

        runners = [Runner(wait(), loop, None, on_end) for _ in range(2)]
        runners[0].set_name("req_1")
        for each in runners:
            each.go_on()
        signal.set()
        assert ["req_1", "test_a_fault_is_reported_under_the_name_of_the_call"] == [
            message.partition(":")[0].partition(".")[0] for message in told
        ]

    run(scene)
