"""A whole relay in this process, with its journal and SQLite, and what must hold after each input."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.fuzz.virtual import CLOCK, Hung, Pipe, VirtualLoop  # isort: skip - before all of Merino

import anyio.to_thread
import structlog
import uvicorn
from uvicorn.server import ServerState

from merino.app import Relay
from merino.domain.call import CallRecord
from merino.live import live_of
from merino.settings import load
from merino.sqlite.writer import Writer
from merino.storage import Store
from merino.transport.server import lane_protocol
from merino.transport.sweeping import ServerLimits

CREDENTIAL = b"sk-fuzz-credential-4c1d"
HEADER_SECRET = b"fuzz-header-secret-9b2e"
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
INPUTS_PER_RELAY = 400
VERIFY_EVERY = 50
REST_S = 7_200.0
"""Between inputs: longer than anything is remembered that one input could do to the next."""
HANG_S = 120.0
POOR_NANOS = 2_000_000

SETTINGS = """
[credits]
start = "1000000"
[retries]
attempts_max = 2
backoff_base_s = 0.01
backoff_throttled_s = 0.01
budget_min = 1000
[breaker]
outcomes_min = 1000000000
consecutive_failures = 1000000000
[stream]
keep_alive_s = 0.5
idle_timeout_s = 1
[upstream]
idle_s = 10
[[deployments]]
name = "up"
base_url = "http://127.0.0.1:9/v1"
upstream_model = "m"
credential = "env:FUZZ_CREDENTIAL"
headers = { api-key = "env:FUZZ_HEADER" }
price = { input = "1.00", cached = "0.10", cache_write = "1.25", output = "10.00" }
first_token_timeout_s = 2
idle_timeout_s = 1
answer_timeout_s = 2
[aliases.m]
deployments = ["up"]
output_tokens_max = 200
context_tokens_max = 4000
timeout_s = 6
[aliases.thinks]
deployments = ["up"]
output_tokens_max = 200
context_tokens_max = 4000
reasoning = true
timeout_s = 6
"""


async def _here(func: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """Instead of a thread, which would take real time."""
    return func(*args)


def _at_once(writer: Writer, work: Callable[..., Any], then: Callable[..., Any]) -> None:
    """The writer's thread would take real time, too."""
    found, error = None, None
    try:
        found = work(writer.database)
    except Exception as failed:  # noqa: BLE001 - it is told to whoever asked
        error = failed
    asyncio.get_running_loop().call_soon(then, found, error)


anyio.to_thread.run_sync = _here
setattr(Writer, "submit", _at_once)  # noqa: B010 - a type checker knows that it is another


class Broken(AssertionError):
    """Something that must hold does not."""


class _Records:
    """Stands before the relay's own recorder and keeps what it is told of calls."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.records: list[CallRecord] = []

    def call_finished(self, record: CallRecord) -> None:
        self.records.append(record)
        self._inner.call_finished(record)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Log(logging.Handler):
    """What the standard library's loggers are told: an error there is a finding."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self._failures.append(record.getMessage() + _traceback(record.exc_info))


def _traceback(exc_info: Any) -> str:
    if exc_info and exc_info is not True:
        error = exc_info if isinstance(exc_info, BaseException) else exc_info[1]
        if error is not None:
            return f" {error!r}"
    return ""


class World:
    """`on_connect` is what becomes of connections to upstreams."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.loop = self._new_loop()
        self._inputs = 0
        self._folder: Path | None = None
        self._background: asyncio.Task[None] | None = None
        self.relay: Any = None
        self.store: Any = None
        heard: Any = self._heard
        structlog.configure(processors=[heard], cache_logger_on_first_use=False)
        logging.getLogger().addHandler(_Log(self.failures))
        sys.unraisablehook = lambda args: self.failures.append(f"unraisable: {args.exc_value!r}")

    def run(self, play: Callable[[World], Any]) -> None:
        """One input: `play` does it and says what it found; then everything is at rest again."""
        if self.relay is None or self._inputs >= INPUTS_PER_RELAY:
            self.close()
            self._run(self._open())
            self._inputs = 0
        self._inputs += 1
        self.failures.clear()
        self.recorder.records.clear()
        self._run(self._one(play))

    def close(self) -> None:
        if self.relay is not None:
            self._run(self._close())

    def forget(self) -> None:
        """Leave a relay that something broke as it is, and begin anew with the next input."""
        assert self._folder is not None
        shutil.rmtree(self._folder, ignore_errors=True)
        # Its timers and tasks go with its loop.
        tasks: set[Any] = {*asyncio.all_tasks(self.loop)}
        for task in tasks:
            task._log_destroy_pending = False
        self.loop = self._new_loop()
        self.relay = None

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        CLOCK.until = CLOCK.now + REST_S + 10 * HANG_S
        try:
            self.loop.run_until_complete(work)
        except Hung:
            waiting = [task.get_stack(limit=1) for task in asyncio.all_tasks(self.loop)]
            raise Broken(f"nothing ends this: {waiting}") from None

    def _new_loop(self) -> VirtualLoop:
        loop = VirtualLoop(self.failures)
        asyncio.set_event_loop(loop)
        return loop

    # -- steps -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="merino-fuzz-", dir=IN_MEMORY))
        config = self._folder / "merino.toml"
        config.write_text(SETTINGS)
        environ = {
            "FUZZ_CREDENTIAL": CREDENTIAL.decode(),
            "FUZZ_HEADER": HEADER_SECRET.decode(),
        }
        settings = load(config, environ)
        self.store = store = Store.open(self._folder / "data")
        rich = await store.accounts.create("rich")
        await store.accounts.credit(rich.id, settings.credits.start_nanos, "start")
        poor = await store.accounts.create("poor")
        await store.accounts.credit(poor.id, POOR_NANOS, "start")
        self.accounts = (rich.id, poor.id)
        keys = [await store.keys.create(account_id=each.id, name=each.id) for each in (rich, poor)]
        self.key_ids = tuple(key.id for key, _ in keys)
        self.secrets = tuple(secret.encode() for _, secret in keys)
        self.relay = Relay(live_of(settings, environ, store.accounts.get), store, environ)
        pipeline = self.relay.front.pipeline
        self.recorder = pipeline.recorder = _Records(pipeline.recorder)
        self._app = self.relay.asgi()
        self._background = asyncio.create_task(self.relay.data_plane.watchdog.run())

    async def _close(self) -> None:
        assert self._background is not None
        self._background.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._background
        await self._check_books()
        await self.relay.close()
        await self.store.close()
        assert self._folder is not None
        shutil.rmtree(self._folder)
        self.relay = None

    def protocol(self, *, knows_heads: bool = True) -> Callable[[], Any]:
        """Makes client connections, which know each other's heads and no others'; or no heads at
        all, so that each is read."""
        kind = lane_protocol(
            self.relay.front,
            ServerLimits(
                head_timeout_s=2,
                body_timeout_s=2,
                keep_alive_s=3,
                write_timeout_s=2,
                buffer_bytes=4096,
            ),
        )
        if not knows_heads:
            heads: Any = kind.known_heads
            heads.find = lambda *_: None
        config = uvicorn.Config(
            self._app, http=kind, ws="none", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        state = ServerState()
        # As uvicorn's own loop does every second.
        state.default_headers = [(b"date", b"Sat, 28 Nov 2026 00:00:00 GMT")]
        return lambda: kind(config=config, server_state=state, app_state={}, _loop=self.loop)

    def connect(self, make: Callable[[], Any]) -> Pipe:
        """A client's new connection."""
        protocol = make()
        pipe = Pipe(self.loop, protocol)
        protocol.connection_made(pipe)
        return pipe

    async def quiet(self) -> None:
        """Until no call runs any more. Raises `Broken` if that takes longer than any limit."""
        until = CLOCK.now + HANG_S
        pause_s = 0.0
        while self.relay.metrics.in_flight:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s + 0.02, 0.25)
            if CLOCK.now > until:
                raise Broken(f"a call still runs after {HANG_S:g} s")

    async def _one(self, play: Callable[[World], Any]) -> None:
        before = {each: self.store.ledger.balance(each) for each in self.accounts}
        if before[self.accounts[1]].posted_nanos < POOR_NANOS:
            missing = POOR_NANOS - before[self.accounts[1]].posted_nanos
            await self.store.accounts.credit(self.accounts[1], missing, "refilled")
            before[self.accounts[1]] = self.store.ledger.balance(self.accounts[1])
        await play(self)
        await self.quiet()
        self._check(before)
        CLOCK.now += REST_S
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        if self._inputs % VERIFY_EVERY == 0:
            await self._check_books()

    def _check(self, before: dict[str, Any]) -> None:
        if self.failures:
            raise Broken(f"logged: {self.failures}")
        if self.store.ledger.open_holds:
            raise Broken("a hold is left that nobody resolved")
        charged = dict.fromkeys(self.accounts, 0)
        for record in self.recorder.records:
            charged[record.account_id] += record.charged_nanos
            if record.charged_nanos < 0:
                raise Broken(f"charged less than nothing: {record}")
            if record.resolution != "settled" and record.charged_nanos:
                raise Broken(f"charged without a settlement: {record}")
            if record.error_code == "internal_error":
                raise Broken(f"a fault of ours: {record}")
        for account, balance in before.items():
            after = self.store.ledger.balance(account)
            if after.held_nanos:
                raise Broken("something is held for no call")
            if balance.posted_nanos - charged[account] != after.posted_nanos:
                raise Broken(f"charged {charged[account]}, but {balance} became {after}")
            own_doing = all(
                record.usage_source not in ("reported", "raised")
                for record in self.recorder.records
                if record.account_id == account
            )
            if after.posted_nanos < 0 and own_doing:
                raise Broken(f"below zero by what was only counted: {self.recorder.records}")

    async def _check_books(self) -> None:
        found = await self.store.books.verify()
        if found.differences:
            raise Broken(f"the books differ: {found.differences}")

    def _heard(self, logger: Any, method: str, event: dict[str, Any]) -> Any:
        if event.get("exc_info") or method in ("exception", "critical"):
            error = event.get("exc_info")
            self.failures.append(f"{event.get('event')}{_traceback(error)}")
        raise structlog.DropEvent
