"""Serving a relay: its sockets, signals, the drain, and what the operator reads at the start."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from time import time
from typing import Any

import structlog
import uvicorn
import uvloop
from starlette.types import Scope

from merino import __version__
from merino.app import Relay
from merino.control_plane import as_local
from merino.data_plane import Watch
from merino.domain.errors import Misconfigured
from merino.domain.money import format_nanos
from merino.live import live_of
from merino.operations.local import (
    ADMIN_SOCKET,
    RelayNote,
    admin_socket,
    read_note,
    remove_note,
    write_note,
)
from merino.settings import Catalog, Settings, load
from merino.sqlite.data_folder import folder_owner
from merino.storage import Store
from merino.telemetry.logs import configure_logs
from merino.transport.server import ServerLimits, lane_protocol

log = structlog.get_logger("merino")

FIRST_ACCOUNT = "default"
FIRST_KEY = "first"


def serve(
    *,
    config: Path | None,
    data: Path,
    host: str | None = None,
    port: int | None = None,
    log_format: str | None = None,
    drill: Path | None = None,
    watch: Watch | None = None,
) -> int:
    """Run a relay until it is told to stop; `watch` is told of each call that ended. Raises
    `Misconfigured` if it cannot start."""
    options = {
        "MERINO_SERVER__HOST": host,
        "MERINO_SERVER__PORT": port,
        "MERINO_LOG__FORMAT": log_format,
    }
    given = {name: str(value) for name, value in options.items() if value is not None}
    environ = {**os.environ, **given}
    settings = load(config, environ)
    configure_logs(settings.log.format, settings.log.level)
    for warning in settings.warnings:
        log.warning(warning)
    return uvloop.run(_serve(settings, data, environ, frozenset(given), drill, watch))


async def _serve(
    settings: Settings,
    data: Path,
    environ: Mapping[str, str],
    given: frozenset[str],
    drill: Path | None,
    watch: Watch | None,
) -> int:
    listener = _listen(settings.server.host, settings.server.port, data)
    try:
        store = Store.open(
            data,
            durability=settings.ledger.durability,
            database_wait_s=settings.ledger.database_wait_s,
        )
    except BaseException:
        listener.close()
        raise
    await store.start()
    try:
        live = await asyncio.to_thread(
            live_of, settings, environ, store.accounts.get, store.additions.list()
        )
        relay = Relay(live, store, environ, drill, given, watch)
        await _run(relay, store, listener, data)
    finally:
        await store.close()
    log.info("stopped")
    return 0


async def _run(relay: Relay, store: Store, listener: socket.socket, data: Path) -> None:
    settings = relay.live.settings
    server_settings = settings.server
    protocol = lane_protocol(
        relay.front,
        ServerLimits(
            head_timeout_s=server_settings.head_timeout_s,
            body_timeout_s=server_settings.body_timeout_s,
            arriving_bytes_max=server_settings.arriving_bytes_max,
            keep_alive_s=server_settings.keep_alive_s,
            write_timeout_s=server_settings.write_timeout_s,
            buffer_bytes=settings.stream.buffer_bytes,
        ),
    )
    config = uvicorn.Config(
        as_local(relay.asgi(), _is_over_folder),
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_graceful_shutdown=max(1, round(server_settings.drain_s)),
        ssl_certfile=server_settings.tls.cert_file,
        ssl_keyfile=server_settings.tls.key_file,
    )
    config.load()
    server = _Server(config, relay)
    loop = asyncio.get_running_loop()
    socket_path = data / ADMIN_SOCKET
    socket_path.unlink(missing_ok=True)
    with admin_socket(data) as address:
        local = await loop.create_unix_server(
            lambda: protocol(config=config, server_state=server.server_state, app_state={}),
            path=address,
        )
    socket_path.chmod(0o600)
    server.take_signals()
    first_key, admin_key = await first_start(settings.credits.start_nanos, store)
    relay.warn_of_what_is_missing()
    sys.stdout.write(f"{_banner(relay, listener, first_key, admin_key)}\n")
    sys.stdout.flush()
    write_note(
        data,
        RelayNote(
            process=os.getpid(),
            version=__version__,
            address=_url(relay, listener),
            settings=None if settings.path is None else str(settings.path.absolute()),
            started_at=time(),
        ),
    )
    if first_key is not None:
        await store.first_start.shown()
    background = asyncio.create_task(relay.run_background())
    _calm_garbage_collection()
    try:
        await server.serve(sockets=[listener])
    finally:
        local.close()
        await relay.close()
        background.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await background
        socket_path.unlink(missing_ok=True)
        remove_note(data)


class _Server(uvicorn.Server):
    """uvicorn, except that a signal drains the relay and nothing is raised again afterwards."""

    def __init__(self, config: uvicorn.Config, relay: Relay) -> None:
        super().__init__(config)
        self._relay = relay
        self._ends_with_terminal = False
        self._on_terminal: tuple[int, ...] = ()

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._relay.drain()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # A second Ctrl-C: uvicorn stops waiting and leaves the calls as they are. They are cut
            # and settled like those that took too long.
            for task in tuple(self.server_state.tasks):
                task.cancel()

    def take_signals(self) -> None:
        """From before the banner is out: whoever has read it may send one."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        # Ignored already by `nohup` and the like: the terminal may go.
        is_detached = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._on_terminal = tuple(each for each in (0, 1, 2) if os.isatty(each))
        self._ends_with_terminal = _has_terminal() and not is_detached
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def _hang_up(self) -> None:
        """A reload, or the end of the terminal that the relay was started in. It ends with that, as
        programs do; else it would go on unseen, with the port and the folder."""
        if not self._ends_with_terminal or _has_terminal():
            self._relay.reload_soon()
            return
        # Whatever is written to a terminal that is gone raises.
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for each in self._on_terminal:
            os.dup2(nowhere, each)
        os.close(nowhere)
        self.handle_exit(signal.SIGTERM, None)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)


def _has_terminal() -> bool:
    """Whether the terminal that this process was started in is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _listen(host: str, port: int, data: Path) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # Python's own text repeats the address.
        reason = os.strerror(error.errno) if error.errno is not None else error
        raise Misconfigured(
            f"Cannot listen on {host}:{port}: {reason}. {_way_out(error, data)}"
        ) from None


def _way_out(error: OSError, data: Path) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = folder_owner(data)
        if owner is not None:
            return (
                f"A relay runs on the folder {data} already, as process {owner}: use that one, or "
                f"stop it with: kill {owner}"
            )
        return "Choose another --port, or stop what uses it."
    if error.errno == errno.EACCES:
        return "Choose a --port above 1023, or allow this user the lower ones."
    return "Choose a --host that this machine has, such as 127.0.0.1, or 0.0.0.0 for all of them."


def _is_over_folder(scope: Scope) -> bool:
    """Whether a request came over the folder's unix socket: its permissions are the folder's."""
    server = scope.get("server")
    return server is not None and server[1] is None


def _calm_garbage_collection() -> None:
    """What is alive now lives as long as the process; and a call makes few cycles, so the young
    generation may grow larger before it is worth looking through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def first_start(credit_nanos: int, store: Store) -> tuple[str | None, str | None]:
    """Make the first account, key and admin key; their secrets are returned, to be shown this once.

    A start that died before it was told that they were shown is completed. Nobody knows whether
    somebody has read its keys: they stay good, and there are others.
    """
    progress = store.first_start
    if not await progress.begin(FIRST_ACCOUNT, FIRST_KEY):
        return None, None
    found = [each for each in store.accounts.list() if each.name == FIRST_ACCOUNT]
    account = found[0] if found else await store.accounts.create(FIRST_ACCOUNT)
    if credit_nanos and not await progress.has_credit(account.id):
        await store.accounts.credit(account.id, credit_nanos, "start credit")
    key_name = _free_name({key.name for key in store.keys.list()})
    _, first_key = await store.keys.create(account_id=account.id, name=key_name)
    admin_name = _free_name({key.name for key in store.admin_keys.list()})
    _, admin_key = await store.admin_keys.create(admin_name)
    await progress.made()
    return first_key, admin_key


def _free_name(taken: set[str]) -> str:
    numbered = (f"{FIRST_KEY}-{number}" for number in count(2))
    return next(name for name in chain([FIRST_KEY], numbered) if name not in taken)


def _why_simulated(catalog: Catalog) -> str:
    if not catalog.providers:
        return "no provider is configured"
    return f"no price is known of any model of {' and '.join(catalog.providers)}"


def running_note(data: Path) -> RelayNote | None:
    """What the relay that runs on a folder says of itself; `None` if none does. What one left
    behind that ended without warning is not believed."""
    owner = folder_owner(data)
    note = read_note(data)
    return note if note is not None and note.process == owner else None


def _url(relay: Relay, listener: socket.socket) -> str:
    """Where people reach it."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if relay.live.settings.server.tls.cert_file else "http"
    any_host = "0.0.0.0"  # noqa: S104 - compared, not bound
    shown_host = {any_host: "127.0.0.1", "::": "[::1]"}.get(
        host, f"[{host}]" if ":" in host else host
    )
    return f"{scheme}://{shown_host}:{port}"


def _banner(
    relay: Relay, listener: socket.socket, first_key: str | None, admin_key: str | None
) -> str:
    url = _url(relay, listener)
    path = relay.live.settings.path
    catalog = relay.live.offer.catalog
    names = [alias.name for alias in catalog.aliases]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    lines = [
        f"Merino {__version__}",
        f"Listening on {url}",
        f"Dashboard: {url}/dashboard",
        f"Settings: {path or 'no file, the defaults'}",
        f"Models: {shown or 'none'}",
    ]
    if not names:
        lines += [
            "",
            "NOTHING TO CALL: no provider is configured, and the simulator is switched off.",
            "Set OPENAI_API_KEY (or another provider's) or write merino.toml.",
        ]
    elif catalog.is_simulated:
        lines += [
            "",
            f"SIMULATED: {_why_simulated(catalog)}, so only the built-in simulator answers.",
            "Set OPENAI_API_KEY (or another provider's) or write merino.toml for real models.",
        ]
    if first_key is not None and admin_key is not None:
        credit = format_nanos(relay.live.settings.credits.start_nanos)
        model = "o3" if "o3" in names else names[0] if names else "MODEL"
        lines += [
            "",
            f"First start: account '{FIRST_ACCOUNT}' has ${credit} of credit. Shown this once:",
            f"  key        {first_key}",
            f"  admin key  {admin_key}",
            "",
            f"Sign in to the dashboard with the admin key: {url}/dashboard",
            "",
            "Try it:",
            f"  curl {url}/v1/chat/completions \\",
            f"    -H 'Authorization: Bearer {first_key}' -H 'Content-Type: application/json' \\",
            f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hi"}}]}}\'',
            "",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{url}/v1", api_key="{first_key}")',
            f'  answer = client.chat.completions.create(model="{model}",',
            '      messages=[{"role": "user", "content": "Hi"}])',
            "  print(answer.choices[0].message.content)",
        ]
    return "\n".join(lines)
