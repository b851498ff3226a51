"""How late the event loop comes to what is due, and what kept it.

The loop beats; how late each beat comes is observed. Beside it a thread, which wakes only when a
beat could be overdue, looks at what the loop's thread is doing then: so no callback pays for being
named. Whoever hears of a hold-up is told on the loop, once it is over.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType

_current_frames = sys._current_frames  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented
BEAT_S = 0.01
LATE_S = 0.01
"""A beat that comes so late was held up by something worth a name."""
_LOOK_S = 0.008
"""So late a beat is when the thread looks; it has to wait for the interpreter, too."""
_LOOKS_MAX = 50
_MISSED_MAX = 1_000
_DEPTH_MAX = 4


@dataclass(frozen=True, slots=True)
class HeldUp:
    """`task` is the name of the task or call that ran; `where` are the functions it was in, the
    innermost first. Both are empty if nobody was seen: then code outside of Python held the
    interpreter, or the machine gave this process no time."""

    lost_s: float
    task: str = ""
    where: tuple[str, ...] = ()


class LoopLag:
    """`observe` gets how late every beat was, in seconds, and for each beat that a hold-up
    swallowed how late that would have been: so its quantiles are those of any moment."""

    def __init__(
        self,
        observe: Callable[[float], None],
        on_held_up: Callable[[HeldUp], None],
        *,
        clock: Callable[[], float] = time.perf_counter,
        frames: Callable[[], Mapping[int, FrameType]] = _current_frames,
    ) -> None:
        self._observe = observe
        self._on_held_up = on_held_up
        self._clock = clock
        self._frames = frames
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread_id = 0
        self._due = 0.0
        self._has_ended = threading.Event()
        self._seen: Counter[tuple[str, tuple[str, ...]]] = Counter()

    async def run(self) -> None:
        """Beat until cancelled."""
        self._loop = asyncio.get_running_loop()
        self.begin(threading.get_ident())
        self._timer = self._loop.call_later(BEAT_S, self._next)
        threading.Thread(target=self._watch, name="merino-loop-lag", daemon=True).start()
        try:
            await self._loop.create_future()
        finally:
            self._timer.cancel()
            self._has_ended.set()

    def begin(self, thread_id: int) -> None:
        """The loop runs in this thread, and a beat is due after the usual time."""
        self._thread_id = thread_id
        self._due = self._clock() + BEAT_S

    def _next(self) -> None:
        self.beat()
        assert self._loop is not None
        self._timer = self._loop.call_later(BEAT_S, self._next)

    def beat(self) -> None:
        """On the loop."""
        now = self._clock()
        lost_s = max(0.0, now - self._due)
        self._due = now + BEAT_S
        self._observe(lost_s)
        if lost_s < LATE_S:
            if self._seen:
                self._seen.clear()
            return
        for missed in range(1, min(int(lost_s / BEAT_S), _MISSED_MAX) + 1):
            self._observe(lost_s - missed * BEAT_S)
        seen, self._seen = self._seen, Counter()
        [((task, where), _)] = seen.most_common(1) or [(("", ()), 0)]
        self._on_held_up(HeldUp(lost_s, task, where))

    def _watch(self) -> None:
        wait_s = BEAT_S
        while not self._has_ended.wait(wait_s):
            wait_s = self.look()

    def look(self) -> float:
        """In the thread beside: see what runs if a beat is overdue, and say when to look again."""
        due, seen = self._due, self._seen
        late_s = self._clock() - due
        if late_s < _LOOK_S:
            return _LOOK_S - late_s
        frame = self._frames().get(self._thread_id)
        # The beat may have come while this waited for the interpreter: then that is not to blame.
        if frame is not None and self._due == due and seen.total() < _LOOKS_MAX:
            seen[_task_of(frame, self._loop), _where(frame)] += 1
        return BEAT_S


def _where(frame: FrameType) -> tuple[str, ...]:
    """The innermost functions, ours before others' that they call."""
    named = [_name(each) for each in _outwards(frame)]
    ours = [name for name in named if name.startswith("merino.")]
    return tuple((named[:1] if named[:1] != ours[:1] else []) + ours[:_DEPTH_MAX])


def _task_of(frame: FrameType, loop: asyncio.AbstractEventLoop | None) -> str:
    """A call's runner is known by the frame that resumes it; a task, to its loop."""
    for each in _outwards(frame):
        if each.f_code.co_qualname == "Runner.go_on" and "self" in each.f_locals:
            return each.f_locals["self"].get_name()
    task = asyncio.current_task(loop) if loop is not None else None
    return "" if task is None else task.get_name()


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _name(frame: FrameType) -> str:
    module = frame.f_globals.get("__name__", "?")
    return f"{module}.{frame.f_code.co_qualname}"
