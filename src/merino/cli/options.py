"""Options that many commands share, and the texts they take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from merino.domain.limits import LIMIT_SHORT_WORDS

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_DATA = Path("merino-data")
DEFAULT_CONFIG = Path("merino.toml")
KEY_CHARS_MAX = 255

_AGO = re.compile(r"([0-9]{1,6})([smhd])\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_DATA: dict[str, Any] = {
    "type": click.Path(file_okay=False, path_type=Path),
    "envvar": "MERINO_DATA",
    "default": DEFAULT_DATA,
    "show_default": True,
    "show_envvar": True,
    "help": "The relay's data folder.",
}
data_option = click.option("--data", **_DATA)
unread_data_option = click.option("--data", expose_value=False, **_DATA)
"""Every command takes `--data`, also those that read nothing there."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="MERINO_CONFIG",
    show_envvar=True,
    help="The settings file; merino.toml of this folder if there is one.",
)


def admin_options(function: F) -> F:
    """What every administrative command takes."""
    return data_option(json_option(function))


def page_options(function: F) -> F:
    """What every list takes."""
    limit = click.option(
        "--limit",
        type=click.IntRange(1, 1_000_000),
        default=50,
        show_default=True,
        help="How many to show at most.",
    )
    cursor = click.option("--cursor", help="Go on where an earlier list ended.")
    return limit(cursor(function))


class _IdempotencyKey(click.ParamType[str]):
    """What a header can carry."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not 0 < len(text) <= KEY_CHARS_MAX or not text.isascii() or not text.isprintable():
            self.fail(
                f"{text!r} is not 1 to {KEY_CHARS_MAX} printable ASCII characters", param, ctx
            )
        return text


once_option = click.option(
    "--idempotency-key",
    type=_IdempotencyKey(),
    help="A repeat with the same key shows the first entry and books nothing.",
)


class Moment(click.ParamType[str]):
    """A time: ISO 8601 (UTC unless it says otherwise), a date, or how long ago: 90m, 24h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            if match := _AGO.match(text):
                moment = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
            else:
                moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is not a time; write 2026-11-24, 2026-11-24T12:00:00Z or 24h", param, ctx
            )


class Month(click.ParamType["tuple[str, str]"]):
    """A month in UTC, from its beginning to the next one's."""

    name = "month"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        now = datetime.now(UTC)
        try:
            if value == "this":
                first = now
            elif value == "last":
                first = now.replace(day=1) - timedelta(days=1)
            else:
                first = datetime.strptime(str(value), "%Y-%m")  # noqa: DTZ007 - UTC is set below
        except ValueError:
            self.fail(f"{value!r} is not a month; write 2026-11, this or last", param, ctx)
        first = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
        following = (first + timedelta(days=32)).replace(day=1)
        return _iso(first), _iso(following)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


month_option = click.option(
    "--month", type=Month(), help="Only of this month (UTC): 2026-11, this, or last."
)


def within_month(
    month: tuple[str, str] | None, since: str | None, until: str | None
) -> tuple[str | None, str | None]:
    """A period by its ends, or by its month."""
    if month is None:
        return since, until
    if since is not None or until is not None:
        raise click.UsageError(
            "--month and --since or --until exclude each other.", click.get_current_context()
        )
    return month


class OrNone(click.ParamType["str | int | None"]):
    """A value, or `none` to take a limit away."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.name = f"{kind.name}|none"
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | int | None:
        return NONE if value == "none" else self._kind.convert(value, param, ctx)


NONE: Any = "\0none"
"""Stands for JSON's null among options, where `None` means that nothing was given."""

MOMENT = Moment()


LIMITS = {kind: f"Most {words}." for kind, words in LIMIT_SHORT_WORDS.items()}
PERIOD = {
    "since": "Not before: a date, a time, or 24h, 7d.",
    "until": "Before: a date, a time, or 24h, 7d.",
}


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, as fields of a JSON body."""
    return {
        name: None if value is NONE or value == NONE else value
        for name, value in options.items()
        if value is not None and value != ()
    }


def config_here() -> Path | None:
    """The settings file of a command that takes no --config."""
    named = os.environ.get("MERINO_CONFIG")
    return config_path(Path(named) if named else None)


def config_path(config: Path | None) -> Path | None:
    """The settings file to read: the one that was named, else the one that lies here."""
    if config is not None:
        return config
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
