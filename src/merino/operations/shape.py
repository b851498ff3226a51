"""What an answer shows of a domain noun, and what a body or query says of one: by name and type.

A field shows what has its name. Else `amount` shows `amount_nanos` as exact decimal text (and
`topup_amount` shows `topup_nanos`), `created_at` shows `created_at_ms` as ISO 8601, `drained` shows
`is_drained`, and `rpm` the limit of that name. The other way round the same names are read by their
types, and a reference such as `account` is an `account_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, cast, get_args, get_origin

from msgspec import UNSET, Struct
from msgspec.structs import fields

from merino.domain.clock import iso
from merino.domain.limits import LIMIT_KINDS
from merino.domain.money import format_nanos
from merino.operations.kinds import Read, kind_of

S = TypeVar("S", bound=Struct)
T = TypeVar("T")


def _names(field: str) -> list[str]:
    return [field, f"{field}_nanos", f"{field}_ms", f"{field.removesuffix('_amount')}_nanos"]


@dataclass(frozen=True, slots=True)
class Shown:
    """The noun that an answer shows. `hidden` says why a field is not shown, `renamed` by its name
    in the answer what has another one there."""

    noun: type
    hidden: Mapping[str, str]
    renamed: Mapping[str, str]


SHOWN: dict[type[Struct], Shown] = {}


def shows(
    noun: type, *, hidden: Mapping[str, str] | None = None, **renamed: str
) -> Callable[[type[S]], type[S]]:
    """Declares that an answer shows a noun: every field of it that is not `hidden`."""

    def declared(answer: type[S]) -> type[S]:
        SHOWN[answer] = Shown(noun, hidden or {}, renamed)
        return answer

    return declared


def shown(answer: type[S], noun: object, **more: Any) -> S:
    """The noun as it is answered. `more` are fields that are not the noun's, or need more than
    their name and type."""
    values = {
        name: show(getattr(noun, source))
        for name, source, show in _sources(answer, type(noun))
        if name not in more
    }
    return answer(**values, **more)


@cache
def _sources(answer: type[Struct], noun: type) -> list[tuple[str, str, Callable[[Any], Any]]]:
    [declared] = [SHOWN[each] for each in answer.__mro__ if each in SHOWN]
    assert declared.noun is noun, f"{answer.__name__} shows a {declared.noun.__name__}"
    found: list[tuple[str, str, Callable[[Any], Any]]] = []
    for field in fields(answer):
        name = field.name
        if name in LIMIT_KINDS and hasattr(noun, "limits"):
            found.append((name, "limits", attrgetter(name)))
            continue
        wanted = declared.renamed.get(name, name)
        for source in (*_names(wanted), f"is_{wanted}"):
            if hasattr(noun, source):
                found.append((name, source, _or_none(_show(name, source, field.type))))
                break
    return found


def _or_none(show: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else show(value)


def _show(name: str, source: str, kind: Any) -> Callable[[Any], Any]:
    if source.endswith("_nanos") and not name.endswith("_nanos"):
        return format_nanos
    if source.endswith("_ms") and not name.endswith("_ms"):
        return iso
    if get_origin(kind) is list:
        [inner] = get_args(kind)
        if isinstance(inner, type) and issubclass(inner, Struct):
            return lambda value: [shown(inner, each) for each in value]
        return list
    return lambda value: value.isoformat() if isinstance(value, date) else value


def sources(answer: type[Struct], noun: type) -> dict[str, str]:
    """By the answer's field, the noun's that it shows."""
    return {name: source for name, source, _ in _sources(answer, noun)}


def taken(kind: type[T], said: Struct) -> T:
    """What a body or query says, as terms or a filter: what is left out is left out there, too.
    Raises `InvalidCall` for what cannot be read."""
    values: dict[str, Any] = {}
    for name, target, read in _targets(kind, type(said)):
        value = getattr(said, name)
        if value is UNSET:
            continue
        if target == "limits":
            values.setdefault(target, {})[name] = value
        else:
            values[target] = value if value is None or read is None else read(value, name)
    return kind(**values)


def _group(field: str) -> tuple[str, ...]:
    return ("limits",) if field in LIMIT_KINDS else ()


@cache
def _targets(kind: type, said: type[Struct]) -> list[tuple[str, str, Read | None]]:
    known = cast("Mapping[str, Any]", kind.__annotations__)
    return [
        (field.name, target, kind_of(field.type).read)
        for field in fields(said)
        for target in (*_names(field.name), f"{field.name}_id", *_group(field.name))
        if target in known
    ]
