"""What is to be made here, and what cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

NAME_CHARS_MAX = 100
_UNUSABLE = re.compile(r"[^A-Za-z0-9 ._@:+-]+")


@dataclass(slots=True)
class MovedDeployment:
    """Fields as in the settings, `price` in dollars per million tokens."""

    name: str
    fields: dict[str, Any]
    price: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    limits: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class MovedAlias:
    name: str
    deployments: list[str]
    fields: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class MovedAccount:
    """`origin` is what it was there, for as long as it lives: it makes a repeat the same."""

    name: str
    origin: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    opening: str | None = None
    """What is left of its budget."""
    memo: str = ""


@dataclass(slots=True)
class MovedKey:
    name: str
    account: str
    origin: str
    hint: str
    """The end of its secret, as far as the other relay knows it."""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    is_blocked: bool = False


@dataclass(slots=True)
class Move:
    """`left` says, a line each, what could not be carried over or means something else here."""

    deployments: list[MovedDeployment] = field(default_factory=list[MovedDeployment])
    aliases: list[MovedAlias] = field(default_factory=list[MovedAlias])
    accounts: list[MovedAccount] = field(default_factory=list[MovedAccount])
    keys: list[MovedKey] = field(default_factory=list[MovedKey])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Variables that must be set, and for what."""
    left: list[str] = field(default_factory=list[str])


def usable_name(wanted: str, fallback: str) -> str:
    """As names of accounts, keys and deployments may be."""
    plain = _UNUSABLE.sub("-", wanted.strip()).lstrip(" ._@:+-").rstrip(" -")
    return plain[:NAME_CHARS_MAX] or fallback


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """With a number behind it, if others have it."""
    known = set(taken)
    if wanted not in known:
        return wanted
    number = 2
    while f"{wanted[: NAME_CHARS_MAX - 8]}-{number}" in known:
        number += 1
    return f"{wanted[: NAME_CHARS_MAX - 8]}-{number}"
