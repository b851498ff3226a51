"""Names of tools in a family that has plain functions only, and what was meant by them.

A function's name has at most 64 letters, digits, `_` and `-`; a namespace's function is named after
both, joined by `__`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from merino.translation.asked import Asked, Call

NAME_MAX = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Meant:
    """A tool as the caller knows it."""

    namespace: str | None
    name: str
    is_custom: bool = False


class ToolNames:
    """The functions' names of one call. Only what differs from the caller's own name is kept."""

    def __init__(self) -> None:
        self._meant: dict[str, Meant] = {}
        self._flat: dict[tuple[str | None, str], str] = {}

    def flat(self, namespace: str | None, name: str, *, is_custom: bool = False) -> str:
        """The function's name for a tool; the same tool has the same name in every call."""
        known = self._flat.get((namespace, name))
        if known is None:
            known = self._new(namespace, name)
            self._flat[namespace, name] = known
        if namespace is not None or known != name or is_custom:
            self._meant[known] = Meant(namespace, name, is_custom)
        return known

    def meant(self, flat: str) -> Meant:
        """The tool that a model called."""
        return self._meant.get(flat) or Meant(None, flat)

    def _new(self, namespace: str | None, name: str) -> str:
        if namespace is None:
            return name  # the upstream says whether it likes the name
        joint = "" if namespace.endswith("__") else "__"
        flat = _NOT_IN_NAMES.sub("_", f"{namespace}{joint}{name}")
        if len(flat) > NAME_MAX or flat in self._flat.values():
            digest = hashlib.sha256(f"{namespace}\n{name}".encode()).hexdigest()[:10]
            flat = f"{flat[: NAME_MAX - 11]}_{digest}"
        return flat


def names_of(asked: Asked) -> ToolNames:
    """The names of all tools of a call. Those without a namespace come first: they keep theirs."""
    names = ToolNames()
    for tool in sorted(asked.tools, key=lambda tool: tool.namespace is not None):
        names.flat(tool.namespace, tool.name, is_custom=tool.is_custom)
    for item in asked.items:
        if isinstance(item, Call):
            names.flat(item.namespace, item.name, is_custom=item.is_custom)
    return names
