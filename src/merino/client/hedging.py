"""Two attempts of one call at a time: the second is sent when the first is slow to begin, whoever
answers first wins, and the other is cancelled.

Whether and where there is a second attempt is the engine's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from merino.client.answers import is_retryable
from merino.client.engine import Attempt, Call, Engine


class Sent(NamedTuple):
    """How an attempt ended: a response, or the failure that came instead of one."""

    attempt: Attempt
    response: Any = None
    failure: Exception | None = None


async def race(
    engine: Engine,
    call: Call,
    first: Attempt,
    send: Callable[[Attempt], Awaitable[Any]],
    errors: tuple[type[Exception], ...],
) -> Sent:
    """Send the first attempt, and perhaps a second. `errors` are the failures of sending."""

    async def sent(attempt: Attempt) -> Sent:
        try:
            return Sent(attempt, response=await send(attempt))
        except errors as failure:
            return Sent(attempt, failure=failure)

    running = {asyncio.create_task(sent(first)): first}
    winner: Sent | None = None
    has_place = False
    try:
        await asyncio.wait(running, timeout=engine.hedge_after_s(call))
        if not any(task.done() for task in running) and engine.try_hedge_place():
            has_place = True
            second = engine.hedge(call, first)
            if second is not None:
                running[asyncio.create_task(sent(second))] = second
        while winner is None:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del running[task]
                ended = task.result()
                if not running or _is_good(ended):
                    winner = ended
                    break
                await _half_failed(engine, call, ended)
        return winner
    finally:
        if has_place:
            engine.give_hedge_place()
        await _cancel(list(running))
        for attempt in running.values():
            if winner is None:
                engine.left(attempt)
            else:
                engine.lost(call, attempt)


def _is_good(ended: Sent) -> bool:
    response = ended.response
    return response is not None and not is_retryable(response.status_code, response.headers)


async def _half_failed(engine: Engine, call: Call, ended: Sent) -> None:
    if ended.response is None:
        engine.half_failed(call, ended.attempt, 0, {}, type(ended.failure).__name__)
    else:
        response = ended.response
        engine.half_failed(call, ended.attempt, response.status_code, response.headers, "")
        await response.aclose()


async def _cancel(tasks: list[asyncio.Task[Sent]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Sent) and ended.response is not None:
            await ended.response.aclose()  # it answered in the same moment
