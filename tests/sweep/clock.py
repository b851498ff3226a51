"""A clock that stands at one noon when a process begins, whatever day it is: prices, months and
times are then the same in every recording. Ids count up, so that what is made within one
millisecond is listed in one order.

    python tests/sweep/clock.py serve --data FOLDER ...

is `merino` under that clock.
"""

from __future__ import annotations

import datetime as dt
import itertools
import secrets
import time
from typing import Any

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
NOON_S = int(NOON.timestamp())
_datetime, _date = dt.datetime, dt.date


class _AlsoTheRealOne(type):
    """What C code makes is of the class that was here before."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.__mro__[1])


class _Datetime(_datetime, metaclass=_AlsoTheRealOne):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _datetime.fromtimestamp(time.time(), tz)


class _Date(_date, metaclass=_AlsoTheRealOne):
    @classmethod
    def today(cls) -> Any:
        return _datetime.fromtimestamp(time.time(), dt.UTC).date()


def set_to_noon(first_id: int = 1) -> None:
    """Before anything of the product is imported, since that takes these by name."""
    began_ns = time.monotonic_ns()
    numbers = itertools.count(first_id)

    def now_ns() -> int:
        return NOON_S * 1_000_000_000 + time.monotonic_ns() - began_ns

    time.time_ns = now_ns
    time.time = lambda: now_ns() / 1e9
    dt.datetime, dt.date = _Datetime, _Date  # type: ignore[misc]
    secrets.token_hex = lambda nbytes=None: f"{next(numbers):0{2 * (nbytes or 16)}x}"


if __name__ == "__main__":
    set_to_noon()
    from merino.cli import main

    main()
