"""Every way in which a JSON body, a query or an option can be wrong, from what it should be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_LENGTH_MAX = 2_000
"""Longer texts and lists than this would fill the recording."""


def wrong_bodies(schema: Schema, good: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each is wrong in one thing, which is named."""
    properties: Mapping[str, Schema] = schema["properties"]
    for name in schema.get("required", []):
        yield f"without {name}", {each: good[each] for each in good if each != name}
    yield "an unknown field", {**good, "sheep": 1}
    for name, shape in properties.items():
        for what, value in wrong_values(shape):
            yield f"{name}: {what}", {**good, name: value}


def wrong_values(shape: Schema) -> Iterator[tuple[str, Any]]:
    """`shape` has its references resolved."""
    shapes = list(_alternatives(shape))
    kinds = {kind for each in shapes for kind in _kinds(each)}
    scalar = ("integer", 5) if "string" in kinds else ("string", "text")
    for kind, value in (("null", None), ("number", 1.5), scalar, ("object", {})):
        # A whole number is a number, too.
        if kind not in kinds and not (kind == "integer" and "number" in kinds):
            yield f"a {kind}", value
    for each in shapes:
        yield from _out_of_bounds(each)
        if each.get("type") == "array":
            yield from _wrong_items(each)


def _wrong_items(shape: Schema) -> Iterator[tuple[str, Any]]:
    items: Schema = shape["items"]
    if shape.get("minItems"):
        yield "an empty list", []
    if items.get("type") == "object":
        good = {"base": "EUR", "quote": "USD", "rate": "1.1"}
        for what, value in wrong_bodies(items, good):
            yield f"an item {what}", [value]
    else:
        for what, value in wrong_values(items):
            yield f"an item that is {what}", [value]


def _out_of_bounds(shape: Schema) -> Iterator[tuple[str, Any]]:
    if "minimum" in shape:
        yield "below its minimum", shape["minimum"] - 1
    if "exclusiveMinimum" in shape:
        yield "at its minimum", shape["exclusiveMinimum"]
    if "maximum" in shape:
        yield "above its maximum", shape["maximum"] + 1
    if "enum" in shape:
        yield "no choice", "sheep"
    if shape.get("type") != "string" or "enum" in shape:
        return
    if shape.get("minLength", 0) > 0:
        yield "empty", ""
    if shape.get("maxLength", _LENGTH_MAX) < _LENGTH_MAX:
        yield "too long", "a" * (shape["maxLength"] + 1)
    pattern = shape.get("pattern")
    for text in ("?!", "-1", "1e3", "0.1234567891", "9" * 10, "2026-13-01", "a\0b", "ü"):
        if pattern is not None and re.search(pattern, text) is None:
            yield f"the text {text!r}", text


def _alternatives(shape: Schema) -> Iterator[Schema]:
    if "anyOf" in shape:
        for each in shape["anyOf"]:
            yield from _alternatives(each)
    else:
        yield shape


def _kinds(shape: Schema) -> set[str]:
    if "enum" in shape and "type" not in shape:
        return {"string"}
    kind = shape.get("type", "string")
    return {kind} if isinstance(kind, str) else set(kind)


def resolved(schema: Any, schemas: Mapping[str, Any]) -> Any:
    """With what it refers to in its place."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return resolved(schemas[schema["$ref"].rpartition("/")[2]], schemas)
        return {name: resolved(value, schemas) for name, value in schema.items()}
    if isinstance(schema, list):
        return [resolved(each, schemas) for each in schema]
    return schema


def wrong_queries(parameters: list[Schema]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    yield "an unknown parameter", [("sheep", "1")]
    for each in parameters:
        name, shape = each["name"], each["schema"]
        for what, value in _out_of_bounds(shape):
            yield f"{name}: {what}", [(name, str(value))]
        if shape.get("type") == "integer":
            yield f"{name}: no number", [(name, "five")]
            yield f"{name}: a fraction", [(name, "1.5")]
        yield f"{name}: empty", [(name, "")]
        yield f"{name}: twice", [(name, "1"), (name, "1")]
