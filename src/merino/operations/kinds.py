"""What a field takes, read from its type: the bounds and choices that API, command line and forms
share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta, UnsetType

Read = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class Reads:
    """Marks a type whose values mean something else within: how they are read, given the field's
    name for what is said of a wrong one."""

    read: Read


@dataclass(frozen=True, slots=True)
class Kind:
    """`is_a` is `str`, `int`, `float`, `bool` or `list`, and `str` where several do. A number is at
    least `least`, or above it if it `is_above`, and at most `most`."""

    is_a: type
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 0
    is_above: bool = False
    is_nullable: bool = False
    read: Read | None = None


@cache
def kind_of(annotation: Any) -> Kind:
    """Of a type, alone or in a union with nothing."""
    arms = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    [arm] = [each for each in arms if each not in (NoneType, UnsetType)]
    is_nullable = NoneType in arms
    read: Read | None = None
    bounds = Meta()
    if get_origin(arm) is Annotated:
        arm, *marks = get_args(arm)
        for mark in marks:
            read = mark.read if isinstance(mark, Reads) else read
            bounds = mark if isinstance(mark, Meta) else bounds
    origin = get_origin(arm)
    if origin is Literal:
        return Kind(str, choices=get_args(arm), is_nullable=is_nullable)
    if origin is list:
        return Kind(list, read=lambda value, _: tuple(value), is_nullable=is_nullable)
    least = bounds.gt if bounds.ge is None else bounds.ge
    return Kind(
        arm if isinstance(arm, type) else str,
        least=int(least or 0),
        most=int(bounds.le or 0),
        is_above=bounds.gt is not None,
        is_nullable=is_nullable,
        read=read,
    )
