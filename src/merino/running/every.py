"""Work that comes again and again, beside the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn


async def every(
    seconds: float, work: Callable[[], Awaitable[float | None]], *, at_once: bool = False
) -> NoReturn:
    """Do `work` after every so many seconds, the first time after them or at once; until cancelled.

    It may say after how long it wants to come again, if that is not as usual. A fault in one round
    is reported to the loop's exception handler, and the next round comes: nothing that has to be
    done again and again may end because it failed once.
    """
    wait_s = 0.0 if at_once else seconds
    while True:
        await asyncio.sleep(wait_s)
        wait_s = seconds
        try:
            wanted_s = await work()
        except Exception as error:  # noqa: BLE001 - whose it is, is not known here
            asyncio.get_running_loop().call_exception_handler(
                {
                    "message": f"Work that comes again failed: {_name_of(work)}",
                    "exception": error,
                }
            )
        else:
            if wanted_s is not None:
                wait_s = wanted_s


def _name_of(work: Callable[[], object]) -> str:
    return getattr(work, "__qualname__", None) or repr(work)
