"""Relays as processes of their own that need not read Python and the product anew.

One process for all tests of a pytest process has imported them; each relay is a fork of it, which
from then on is like any other process that `merino serve` runs in: own signals, own folder, own
sockets, own end. It saves a second of work a relay. Where a fork would not be the same (variables
that the interpreter itself reads, no Linux, `MERINO_TEST_PROCESSES=1`), a new interpreter starts.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn, Protocol

READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "LC_", "LANG", "COVERAGE", "TZ")
"""Variables with these beginnings take effect before a program's first line."""
FORKED_WITHIN_S = 60.0
_ASKED_BYTES_MAX = 150_000
SOONER = {
    "merino.batch.worker": {"_LOOK_S": 0.1},
    "merino.billing.loops": {"_SWEEP_S": 0.2, "_SUM_UP_S": 0.2},
    "merino.dashboard.overview": {"LIVE_S": 0.5},
}
"""How often a fork looks again at what a relay looks at every second or two: tests wait for it."""


class Process(Protocol):
    """What tests do with one: as of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...

    def kill(self) -> None: ...


class Forked:
    """A fork; `said` is where its parent tells its pid, and its exit code once it has ended."""

    def __init__(self, said: int) -> None:
        self._said = said
        self.returncode: int | None = None
        line = self._line(FORKED_WITHIN_S)
        if line is None:
            raise TimeoutError(f"no relay was forked within {FORKED_WITHIN_S} s")
        self.pid = int(line)

    def poll(self) -> int | None:
        if self.returncode is None:
            self._wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._wait(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("merino serve", timeout or 0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout_s: float | None) -> None:
        if (line := self._line(timeout_s)) is not None:
            self.returncode = int(line)
            os.close(self._said)

    def _line(self, timeout_s: float | None) -> str | None:
        """Each is one write, so that all of it is there with its first byte."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._said, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                return None
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self._said, 1)
            if not piece:
                raise ChildProcessError("the process that relays are forks of has died")
            line += piece
        return line.decode()


class _Forks:
    """The process that all are forks of, started with the first one."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._owner = 0

    def start(
        self, arguments: Sequence[str], env: Mapping[str, str], out: int, errors: int
    ) -> Forked | None:
        asked = json.dumps([list(arguments), dict(env), str(Path.cwd())]).encode()
        if len(asked) > _ASKED_BYTES_MAX:
            return None
        if self._control is None or self._owner != os.getpid():
            self._control, self._owner = self._begin(), os.getpid()
        said, to_say = os.pipe()
        try:
            socket.send_fds(self._control, [asked], [out, errors, to_say])
        finally:
            os.close(to_say)
        return Forked(said)

    def _begin(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            process = subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(process.wait, 20)
        atexit.register(ours.close)
        return ours


_forks = _Forks()


def serve(
    arguments: Sequence[str], env: Mapping[str, str], out: IO[str], errors: IO[str]
) -> Process:
    """`merino serve` with these arguments and this environment."""
    if _may_fork(env):
        forked = _forks.start(["serve", *arguments], env, out.fileno(), errors.fileno())
        if forked is not None:
            return forked
    return subprocess.Popen(
        [sys.executable, "-m", "merino", "serve", *arguments],
        stdout=out,
        stderr=errors,
        env=dict(env),
    )


def _may_fork(env: Mapping[str, str]) -> bool:
    if sys.platform != "linux" or "MERINO_TEST_PROCESSES" in os.environ:
        return False
    names = {name for name in {*env, *os.environ} if name.startswith(READ_AT_START)}
    return all(env.get(name) == os.environ.get(name) for name in names)


# -- in the process that is forked ------------------------------------------------------------------


def _main(control: socket.socket) -> None:
    import gc

    import merino.cli.root
    import merino.cli.serve
    import merino.serving  # noqa: F401 - all of them are here to be imported
    from merino.dashboard import parts
    from merino.portal import visits
    from merino.pricing.book import PriceBook

    PriceBook.load()
    parts.compile_pages()
    visits.compile_pages()
    for module, pauses in SOONER.items():
        for name, seconds in pauses.items():
            assert hasattr(sys.modules[module], name)
            setattr(sys.modules[module], name, seconds)
    gc.collect()
    gc.freeze()
    ended, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C is for the tests, which then stop their relays.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == ended:
                    os.read(ended, 512)
                    _tell_ends(running)
                    continue
                asked, given, _, _ = socket.recv_fds(control, 2 * _ASKED_BYTES_MAX, 3)
                if not asked:  # whoever asked has gone
                    for pid in running:
                        os.kill(pid, signal.SIGKILL)
                    return
                pid = os.fork()
                if not pid:
                    selector.close()
                    control.close()
                    signal.signal(signal.SIGINT, interrupt)
                    _become(asked, given)
                os.write(given[2], b"%d\n" % pid)
                running[pid] = given[2]
                os.close(given[0])
                os.close(given[1])


def _tell_ends(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        said = running.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know
            os.write(said, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(said)


def _become(asked: bytes, given: Sequence[int]) -> NoReturn:
    from merino.cli import main
    from merino.gateway import call

    arguments, env, folder = json.loads(asked)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(given[0], 1)
    os.dup2(given[1], 2)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ["merino", *arguments]
    # Made once a process; two relays must not give their calls the same ids.
    call._PREFIX = f"req_{os.urandom(7).hex()}"
    main()


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    time.tzset()
    _main(socket.socket(fileno=int(sys.argv[1])))
