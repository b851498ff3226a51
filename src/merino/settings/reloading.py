"""Which settings a reload cannot change, and which of them it would have to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from merino.settings.tree import Settings

AT_START = (
    "server.host",
    "server.port",
    "server.drain_s",
    "server.arriving_bytes_max",
    "server.head_timeout_s",
    "server.body_timeout_s",
    "server.keep_alive_s",
    "server.write_timeout_s",
    "server.tls",
    "stream.buffer_bytes",
    "credits.start_nanos",
    "ledger",
    "simulator.seed",
)
"""Settings, and sections of them, that are looked at once, when a relay starts. Every other one a
reload applies; a test changes each and looks."""


def waiting_for_a_start(now: Settings, new: Settings) -> list[str]:
    """Names of the settings that differ and take effect at the next start only."""
    return [
        f"{name} = {value}"
        for name, value in changed_settings(now, new)
        if any(name == fixed or name.startswith(f"{fixed}.") for fixed in AT_START)
    ]


def changed_settings(now: object, new: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Dotted name and new value of every setting that differs."""
    if is_dataclass(new) and not isinstance(new, type) and isinstance(now, type(new)):
        for each in fields(new):
            if name or each.name not in ("path", "warnings"):
                yield from changed_settings(
                    getattr(now, each.name),
                    getattr(new, each.name),
                    f"{name}.{each.name}" if name else each.name,
                )
    elif now != new:
        yield name, new
