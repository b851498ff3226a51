"""JSON schemas as Gemini takes them."""

from __future__ import annotations

from merino.translation.gemini.schemas import plain_schema


def test_references_are_put_where_they_point() -> None:
    """What the schema says about itself is left out; members of those names are not."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "$ref": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
            "kind": {"enum": ["$ref", {"$defs": 1}]},
        },
        "required": ["$ref"],
        "$defs": {"item": {"$ref": "#/$defs/name", "description": "one"},
                  "name": {"type": "string", "maxLength": 9}},
    }  # fmt: skip
    assert {
        "type": "object",
        "properties": {
            "$ref": {"type": "string"},
            "items": {
                "type": "array",
                "items": {"type": "string", "maxLength": 9, "description": "one"},
            },
            "kind": {"enum": ["$ref", {"$defs": 1}]},
        },
        "required": ["$ref"],
    } == plain_schema(schema)


def test_what_refers_to_itself_ends() -> None:
    """Where it would begin anew, anything may be."""
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert {
        "type": "object",
        "properties": {"next": {"type": "object", "properties": {"next": {}}}},
    } == (plain_schema(node))


def test_a_reference_to_nothing_is_anything() -> None:
    """Also one to another document."""
    assert {} == plain_schema({"$ref": "https://example.com/x.json"})
    assert {"type": "array", "items": {}} == plain_schema(
        {"type": "array", "items": {"$ref": "#/$defs/none"}}
    )
