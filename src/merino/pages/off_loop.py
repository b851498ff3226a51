"""Pages are made beside the loop of the calls: a long statement takes a tenth of a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# One, however many people look: each further thread would be a further turn that calls wait for.
_thread = ThreadPoolExecutor(1, thread_name_prefix="merino-page")


async def off_loop(make: Callable[P, T], /, *args: P.args, **values: P.kwargs) -> T:
    """What `make` answers, made by the thread for pages, in the context of who asks. It is given
    what it shows: what the loop goes on changing meanwhile is no value."""
    work = partial(copy_context().run, make, *args, **values)
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
