"""How a family spells its settings: a table a family, from which requests are read and written, the
reference page is made, and a test sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from merino.domain.errors import InvalidCall
from merino.translation.asked import Asked
from merino.translation.meanings import leave_out
from merino.translation.values import encode

ReadField = Callable[[Asked, str, msgspec.Raw], None]
"""Takes a field's name and value; may raise `InvalidCall`."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a family's requests. `meaning` is that of a plain setting, whose value is the same
    in every family. `read` takes any other apart; `note` says into what, for the reference."""

    meaning: str | None = None
    read: ReadField | None = None
    note: str = ""


def read_fields(asked: Asked, table: Mapping[str, Field]) -> None:
    """Read a body by its family's table. Fields of no family go along as they are."""
    for name, raw in asked.fields.items():
        field = table.get(name)
        if field is None:
            asked.others[name] = raw
        elif field.meaning is not None:
            set_setting(asked, field.meaning, name, raw)
        elif field.read is not None:
            field.read(asked, name, raw)


def set_setting(asked: Asked, meaning: str, where: str, value: object) -> None:
    """Note a setting, unless it says nothing."""
    raw = value if isinstance(value, msgspec.Raw) else msgspec.Raw(encode(value))
    if bytes(raw) != b"null":
        asked.settings[meaning] = raw
        asked.wheres[meaning] = where


def write_settings(asked: Asked, names: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    """The plain settings under a family's own names. What it has no name for is refused, told, or
    ignored. Raises `InvalidCall`."""
    written: dict[str, msgspec.Raw] = {}
    for meaning, raw in asked.settings.items():
        name = names.get(meaning)
        if name is None:
            leave_out(asked, meaning)
        elif name:
            written[name] = raw
    return written


def tell_others(
    asked: Asked, members: Mapping[str, object], where: str, known: tuple[str, ...]
) -> None:
    """Of an object whose members are not all known, what is left out."""
    for name, value in members.items():
        if name not in known and value is not None:
            asked.tell(f"{where}.{name} removed")


def invalid(where: str, expected: str, got: str) -> InvalidCall:
    """The refusal of a value of the wrong kind."""
    return InvalidCall(
        f"Invalid type for '{where}': expected {expected}, but got {got} instead.",
        param=where,
        code="invalid_type",
    )
