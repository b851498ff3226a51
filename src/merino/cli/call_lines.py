"""A line for a call: while a relay serves on a terminal, and of `merino logs`."""

from __future__ import annotations

import sys
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from merino.cli.columns import text
from merino.cli.figures import count, duration, money
from merino.cli.terminal import Terminal
from merino.domain.call import CallRecord

LINES_MAX = 25
"""So many lines at a time; of more calls, how many they were: nobody reads faster."""
_PAUSE_S = 0.25
_COLOURS = {2: "32", 4: "33", 5: "31"}


@dataclass(frozen=True, slots=True)
class CallLine:
    """What is told of a call."""

    at: datetime
    status: int
    model: str
    key: str
    deployment: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    charged_nanos: int = 0
    currency: str | None = None
    duration_ms: float = 0.0
    ttft_ms: float | None = None
    error_code: str | None = None
    error_message: str | None = None

    @classmethod
    def of_record(cls, record: CallRecord, key: str, currency: str | None) -> CallLine:
        return cls(
            at=datetime.fromtimestamp(record.at_ms / 1000, UTC),
            status=record.status,
            model=record.alias,
            key=key or record.key_id,
            deployment=record.deployment,
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            charged_nanos=record.charged_nanos,
            currency=currency,
            duration_ms=record.duration_ms,
            ttft_ms=record.ttft_ms,
            error_code=record.error_code,
            error_message=record.error_message,
        )

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> CallLine:
        """Of what the admin API shows of a call, with its names."""
        return cls(
            at=datetime.fromisoformat(row["at"]),
            model=row["alias"],
            key=row.get("key", row["key_id"]),
            currency=row.get("currency"),
            **{
                name: row[name]
                for name in (
                    *("status", "deployment", "input_tokens", "output_tokens", "charged_nanos"),
                    *("duration_ms", "ttft_ms", "error_code", "error_message"),
                )
            },
        )

    def told(self, width: int | None = None) -> str:
        """In this machine's own time. What finds no room within `width` is left out, the least
        asked for first."""
        clock = self.at.astimezone().strftime("%H:%M:%S")
        parts = [clock, str(self.status), _padded(self.model, 14), _padded(self.key, 12)]
        if self.status < 400:
            tokens = f"{count(self.input_tokens)} + {count(self.output_tokens)} tokens"
            parts += [tokens.ljust(18), money(self.charged_nanos, self.currency).rjust(10)]
            took = duration(self.duration_ms / 1000)
            ends = (
                [_took(self.duration_ms, self.ttft_ms), self.deployment],
                [_took(self.duration_ms, self.ttft_ms)],
                [took],
            )
            for end in ends:
                line = "  ".join([*parts, *end]).rstrip()
                if width is None or len(line) <= width:
                    return line
            parts = [*parts[:3], *parts[4:], took]  # without the key
        else:
            parts.append(self.error_code or "-")
            if self.error_message:
                parts.append(text(self.error_message, 300))
        return "  ".join(parts).rstrip()


def drawn(line: CallLine, terminal: Terminal | None) -> str:
    """In a terminal's width, its status in colour."""
    told = line.told(None if terminal is None else terminal.width)
    if terminal is None:
        return told
    from rich.text import Text

    shown = Text(told)
    shown.truncate(terminal.width, overflow="ellipsis")
    clock, status, rest = shown.plain[:8], shown.plain[8:13], shown.plain[13:]
    colour = _COLOURS.get(line.status // 100)
    if not terminal.has_colour or colour is None:
        return shown.plain
    return f"\x1b[2m{clock}\x1b[0m\x1b[{colour}m{status}\x1b[0m{rest}"


class CallLines:
    """Writes lines from a thread of its own: a terminal that is held still holds up no call."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._waiting: deque[CallLine] = deque(maxlen=LINES_MAX)
        self._came = 0
        self._last: CallRecord | None = None
        self._has_come = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, record: CallRecord, key: str, currency: str | None) -> None:
        if record is self._last:
            return  # what was refused ends, too
        self._last = record
        self._waiting.append(CallLine.of_record(record, key, currency))
        self._came += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="call lines", daemon=True)
            self._thread.start()
        self._has_come.set()

    def drain(self) -> list[str]:
        """The lines to write now."""
        came, self._came = self._came, 0
        lines: list[str] = []
        while self._waiting:
            lines.append(drawn(self._waiting.popleft(), self._terminal))
        if came > len(lines):
            lines.append(f"          and {came - len(lines):,} calls more")
        return lines

    def _write(self) -> None:
        while self._has_come.wait():
            self._has_come.clear()
            try:
                sys.stdout.write("".join(f"{line}\n" for line in self.drain()))
                sys.stdout.flush()
            except (OSError, ValueError):
                return  # the terminal is gone
            threading.Event().wait(_PAUSE_S)


def _padded(name: str, width: int) -> str:
    return text(name or "-", width).ljust(width)


def _took(duration_ms: float, ttft_ms: float | None) -> str:
    took = duration(duration_ms / 1000)
    return took if ttft_ms is None else f"{took} (first {duration(ttft_ms / 1000)})"
