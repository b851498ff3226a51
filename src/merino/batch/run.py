"""A run of `merino batch`, put together: limits and retries, connections, results."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from merino.batch.items import Checked, Source
from merino.batch.results import ResultFiles
from merino.batch.runner import BatchRunner, Worst
from merino.batch.sending import CostOf, HttpSender
from merino.client.engine import ClientPolicy, Endpoint, Engine
from merino.domain.errors import Misconfigured
from merino.settings import UpstreamSettings
from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin

_BREAKER_FAILURES_MIN = 20
_BREAKER_OPEN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerms:
    """What is asked of a run. Making it raises `ValueError` for a base URL that is none; `worst` is
    needed with `max_cost_nanos`."""

    base_url: str
    api_key: str = field(repr=False)
    out: Path
    errors: Path
    is_resumed: bool = False
    changed: Literal["keep", "again"] | None = None
    """What is done about items that ask for something else than when they were answered; `None`:
    the run is refused."""
    in_order: bool = False
    concurrency_max: int
    retries: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_cost_nanos: int | None = None
    worst: Worst | None = None
    cost_of: CostOf

    def __post_init__(self) -> None:
        Origin.of(self.base_url)


@asynccontextmanager
async def batch_run(
    source: Source, checked: Checked, terms: RunTerms
) -> AsyncGenerator[BatchRunner]:
    """The runner of a file; its connections are closed when the block is left. Raises
    `Misconfigured`, and `OSError` if results cannot be written."""
    http = UpstreamClient(
        UpstreamSettings(connections_max_per_origin=terms.concurrency_max), environ=os.environ
    )
    try:
        files = ResultFiles(
            terms.out, terms.errors, resume=terms.is_resumed, in_order=terms.in_order
        )
        _heed_changes(source, checked, files, terms.changed)
        sender = HttpSender(
            partial(http.send, Origin.of(terms.base_url)),
            terms.base_url,
            terms.api_key,
            _engine(terms),
            cost_of=terms.cost_of,
        )
        yield BatchRunner(
            source,
            checked,
            files,
            sender,
            concurrency_max=terms.concurrency_max,
            worst=terms.worst,
            max_cost_nanos=terms.max_cost_nanos,
            in_order=terms.in_order,
        )
    finally:
        await http.aclose()


def _engine(terms: RunTerms) -> Engine:
    """The client's, which waits and asks again for as long as a batch may."""
    return Engine(
        [Endpoint(terms.base_url, terms.api_key)],
        ClientPolicy(
            max_retries=terms.retries,
            requests_per_minute=terms.requests_per_minute,
            tokens_per_minute=terms.tokens_per_minute,
            retry_share=1.0,
            retry_reserve=1000,
            breaker_threshold=max(_BREAKER_FAILURES_MIN, terms.concurrency_max),
            breaker_open_s=_BREAKER_OPEN_S,
        ),
    )


def _heed_changes(source: Source, checked: Checked, files: ResultFiles, wish: str | None) -> None:
    """Items that were changed. One that was refused has been mended; one that was answered may be
    another question by mistake, and was paid for."""
    changed = files.changed(checked)
    mended = {checked.hashes[number] for number in changed} & files.refused
    if wish == "again":
        files.forget(checked.hashes[number] for number in changed)
    elif mended:
        files.forget(mended)
    changed = [number for number in changed if checked.hashes[number] in files.done]
    if not changed or wish == "keep":
        return
    files.close()
    first = next(islice(source.items(), changed[0], None))
    line = first[0] if isinstance(first, tuple) else first.line
    others = f", and so do {len(changed) - 1:,} others" if len(changed) > 1 else ""
    raise Misconfigured(
        f"{source.path}:{line} asks for something else than when it was answered{others}; add "
        "--changed again or --changed keep, or name another --out"
    )
