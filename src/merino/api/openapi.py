"""The admin API's description in OpenAPI 3.1, made from the same table that routes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from merino.operations.fields import NoQuery
from merino.operations.table import Operation

_REFS = "#/components/schemas/{name}"
_PATH_FIELD = re.compile(r"\{(\w+)(?::\w+)?\}")
_PROBLEMS = {
    "400": "The request is wrong; `param` names the field.",
    "401": "No admin key, or not a valid one.",
    "404": "There is no such object.",
    "409": "It conflicts with what is there.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The idempotency key was used for something else.",
    "502": "The payment provider did not take it.",
    "503": "The store cannot be used now; try again.",
}

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat with the same key gets the first entry and books nothing.",
    "schema": {"type": "string", "pattern": r"^[!-~]([ -~]{0,253}[!-~])?$", "maxLength": 255},
}


def describe(
    operations: Iterable[Operation], error: type[Struct], *, version: str, server: str
) -> dict[str, Any]:
    """The whole document. `answer` of `None` is a file that is streamed."""
    operations = list(operations)
    shapes = {error}
    for each in operations:
        shapes |= {shape for shape in (each.body, each.answer) if shape is not None}
    _, components = msgspec.json.schema_components(
        sorted(shapes, key=lambda shape: shape.__name__), ref_template=_REFS
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = _PATH_FIELD.sub(r"{\1}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, error)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Merino admin API",
            "version": version,
            "description": "Accounts, keys, calls and the ledger of a relay.",
        },
        "servers": [{"url": server}],
        "security": [{"admin_key": []}],
        "paths": paths,
        "components": {
            "schemas": {name: _plain(schema) for name, schema in components.items()},
            "securitySchemes": {
                "admin_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An admin key; it starts with `mka-`.",
                }
            },
        },
    }


def _operation(each: Operation, error: type[Struct]) -> dict[str, Any]:
    reference: dict[str, Any] = {"$ref": _REFS.format(name=error.__name__)}
    codes = ["400", "401", "503"]
    names_something = _PATH_FIELD.search(each.path) or each.body or each.query is not NoQuery
    codes += ["404"] if names_something else []
    codes += ["409", "413", "415"] if each.method in ("POST", "PATCH") else []
    codes += ["422"] if each.again else []
    asks_provider = each.path.startswith("/topups") and each.body
    codes += ["502"] if asks_provider or each.name == "forget_saved_card" else []
    described: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "parameters": [
            *_path_parameters(each.path),
            *_query_parameters(each.query),
            *([_IDEMPOTENCY_KEY] if each.again else []),
        ],
        "responses": {
            str(each.status): _answer(each.answer),
            **{
                code: {
                    "description": _PROBLEMS[code],
                    "content": {"application/json": {"schema": reference}},
                }
                for code in sorted(set(codes))
            },
        },
    }
    if each.body is not None:
        described["requestBody"] = {
            "required": any(field.required for field in fields(each.body)),
            "content": {
                "application/json": {"schema": {"$ref": _REFS.format(name=each.body.__name__)}}
            },
        }
    return described


def _answer(shape: type[Struct] | None) -> dict[str, Any]:
    if shape is None:
        text: dict[str, Any] = {"schema": {"type": "string"}}
        types = ("text/csv", "application/x-ndjson", "text/html", "application/toml")
        content = dict.fromkeys(types, text) | {"application/json": {"schema": {"type": "object"}}}
        return {"description": "The file.", "content": content}
    schema = {"$ref": _REFS.format(name=shape.__name__)}
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "An id or a name.",
            "schema": {"type": "string", "minLength": 1, "pattern": r"^[^/\u0000]+$"},
        }
        for name in _PATH_FIELD.findall(path)
    ]


def _query_parameters(query: type[Struct]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template=_REFS)
    schema = components[query.__name__]
    parameters: list[dict[str, Any]] = []
    for name, shape in cast("Mapping[str, Any]", schema.get("properties", {})).items():
        plain = _plain(shape)
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": plain.pop("description", ""),
                "schema": plain,
            }
        )
    return parameters


def _plain(schema: Any) -> Any:
    """msgspec derives an `anyOf` from a union; an `x-any-of` says it more exactly."""
    if isinstance(schema, list):
        return [_plain(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    shape = {name: _plain(value) for name, value in cast("dict[str, Any]", schema).items()}
    if "x-any-of" in shape:
        shape["anyOf"] = shape.pop("x-any-of")
    return shape
