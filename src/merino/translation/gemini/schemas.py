"""JSON schemas as Gemini takes them: without references, and without words about the schema itself.

`parametersJsonSchema` and `responseJsonSchema` take JSON Schema as it is otherwise. References are
put where they point (NousResearch/hermes-agent#98928); `$schema` and the like are refused
(databricks/unity-gateway#491).
"""

from __future__ import annotations

from typing import Any

from merino.translation.values import Members, is_list, is_object, members_of

_ABOUT = frozenset(("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "$ref"))
_DEPTH_MAX = 64
_NAMES_OF_MEMBERS = frozenset(("properties", "patternProperties"))
"""Members whose own members have names of the caller's."""


def plain_schema(schema: object) -> object:
    """The schema to send. What refers to itself ends where it would begin anew: anything may be
    there."""
    return _Plain(members_of(schema)).of(schema, (), 0)


class _Plain:
    def __init__(self, root: Members) -> None:
        self._root = root

    def of(self, schema: object, within: tuple[str, ...], depth: int) -> object:
        if depth > _DEPTH_MAX:
            return {}
        if is_list(schema):
            return [self.of(each, within, depth + 1) for each in schema]
        if not is_object(schema):
            return schema
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in within:
                return {}
            rest = {name: each for name, each in schema.items() if name != "$ref"}
            target = {**members_of(self._at(reference)), **rest}
            return self.of(target, (*within, reference), depth + 1)
        found: dict[str, Any] = {}
        for name, each in schema.items():
            if name in _ABOUT:
                continue
            if name in _NAMES_OF_MEMBERS:
                inner = members_of(each)
                found[name] = {key: self.of(inner[key], within, depth + 1) for key in inner}
            elif name in {"enum", "const", "default", "examples", "required"}:
                found[name] = each
            else:
                found[name] = self.of(each, within, depth + 1)
        return found

    def _at(self, reference: str) -> object:
        value: object = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            value = members_of(value).get(step.replace("~1", "/").replace("~0", "~"))
        return value
