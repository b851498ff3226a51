"""Tools of `responses`, read into what is asked."""

from __future__ import annotations

from typing import Any

from merino.translation.asked import Asked, Tool
from merino.translation.fields import invalid
from merino.translation.meanings import cannot_carry
from merino.translation.values import is_object, list_of, members_of, shown_kind, text_of
from merino.wire.fields import missing

_NAMED = frozenset(("function", "custom", "namespace"))


def read_tools(
    asked: Asked, tools: list[Any], where: str, namespace: str | None = None
) -> list[Tool]:
    """Functions and custom tools, also those of namespaces. Raises `InvalidCall` for a tool that
    the upstream would have to run."""
    found: list[Tool] = []
    for index, tool in enumerate(tools):
        place = f"{where}[{index}]"
        if not is_object(tool):
            raise invalid(place, "an object", shown_kind(tool))
        members = members_of(tool)
        kind = text_of(members.get("type"))
        if kind in _NAMED and not isinstance(members.get("name"), str):
            missing(f"{place}.name")  # a chat's tools have theirs one level deeper
        if kind == "function":
            found.append(_function(members, place, namespace))
        elif kind == "custom":
            found.append(_custom(members, place, namespace))
        elif kind == "namespace" and namespace is None:
            inner = text_of(members.get("name"))
            found += read_tools(asked, list_of(members.get("tools")), f"{place}.tools", inner)
        else:
            raise cannot_carry(
                f"{place}.type", asked.via, f"it runs no tool of type '{kind}' by itself"
            )
        for name in ("defer_loading", "allowed_callers", "async"):
            if members.get(name) not in (None, False, ["direct"]):
                asked.tell(f"{place}.{name} removed")
    return found


def _function(members: dict[str, Any], where: str, namespace: str | None) -> Tool:
    strict = members.get("strict")
    return Tool(
        text_of(members.get("name")),
        members.get("description"),
        members.get("parameters"),
        strict if isinstance(strict, bool) else None,
        namespace,
        where=where,
    )


def _custom(members: dict[str, Any], where: str, namespace: str | None) -> Tool:
    return Tool(
        text_of(members.get("name")),
        members.get("description"),
        namespace=namespace,
        is_custom=True,
        grammar=members.get("format"),
        where=where,
    )
