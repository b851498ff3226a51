"""A page of Markdown from an OpenAPI description: every operation and every object, linked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")
ERRORS_OF_ALL = {"400", "401", "404", "413", "415", "503"}


def api_page(described: dict[str, Any], title: str, intro: str) -> str:
    schemas: dict[str, Any] = described["components"]["schemas"]
    parts = [f"# {title}\n", intro, *_overview(described)]
    for path, by_method in described["paths"].items():
        for method in METHODS:
            if method in by_method:
                parts += _operation(path, method, by_method[method], schemas)
    parts.append("\n## Objects\n")
    for name in sorted(schemas):
        parts += _object(name, schemas[name])
    return "\n".join(parts) + "\n"


def _overview(described: dict[str, Any]) -> Iterator[str]:
    yield "\n| | | |\n|---|---|---|"
    for path, by_method in described["paths"].items():
        for method in METHODS:
            if method in by_method:
                summary = by_method[method]["summary"]
                yield f"| {method.upper()} | [`{path}`](#{_anchor(method, path)}) | {summary} |"


def _anchor(method: str, path: str) -> str:
    words = "".join(each if each.isalnum() or each in "_-" else "-" for each in path)
    return f"{method}-{words.strip('-')}"


def _operation(
    path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]
) -> Iterator[str]:
    anchor = _anchor(method, path)
    yield f"\n## `{method.upper()} {path}` {{ #{anchor} }}\n\n{operation['summary']}.\n"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "| parameter | in | type | meaning |\n|---|---|---|---|"
        for each in parameters:
            must = " *required*" if each.get("required") else ""
            yield (
                f"| `{each['name']}` | {each['in']}{must} | {_type(each['schema'])} | "
                f"{_cell(each.get('description', ''))} |"
            )
    body = operation.get("requestBody")
    if body is not None:
        schema = next(iter(body["content"].values()))["schema"]
        yield f"\nBody: {_type(schema)}\n"
        yield from _fields(_resolved(schema, schemas))
    good = {code: each for code, each in operation["responses"].items() if code[0] == "2"}
    for code, each in good.items():
        kinds = [
            f"{_type(content.get('schema', {}))} (`{kind}`)"
            for kind, content in each.get("content", {}).items()
        ]
        yield f"\nAnswer: {code}{', ' if kinds else ''}{' or '.join(kinds)}"
    special = [
        f"{code} {each['description']}"
        for code, each in operation["responses"].items()
        if code[0] != "2" and code not in ERRORS_OF_ALL
    ]
    if special:
        yield f"\nErrors beside the usual: {' '.join(special)}"
    yield f"\n```sh\n{_curl(path, method, operation, schemas)}\n```"


def _curl(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    lines = [f"curl -X {method.upper()} $MERINO_URL/admin/v1{path} \\"]
    lines.append('  -H "Authorization: Bearer $MERINO_ADMIN_KEY"')
    body = operation.get("requestBody")
    if body is not None:
        schema = _resolved(next(iter(body["content"].values()))["schema"], schemas)
        example = {
            name: _example(name, each, schemas)
            for name, each in schema.get("properties", {}).items()
            if name in schema.get("required", [])
        }
        lines[-1] += " \\"
        lines.append("  -H 'Content-Type: application/json' \\")
        lines.append(f"  -d '{json.dumps(example)}'")
    return "\n".join(lines)


def _example(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    schema = _resolved(schema, schemas)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _example(name, schema["anyOf"][0], schemas)
    kinds = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    return kinds.get(str(schema.get("type")), "5.00" if "amount" in name else name.upper())


def _object(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {name} {{ #{name.lower()} }}\n"
    if schema.get("description"):
        yield f"{schema['description']}\n"
    yield from _fields(schema)


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    properties = schema.get("properties")
    if not properties:
        return
    required = schema.get("required", [])
    yield "| field | type | meaning |\n|---|---|---|"
    for name, each in properties.items():
        must = " *required*" if name in required else ""
        yield f"| `{name}`{must} | {_type(each)} | {_cell(each.get('description', ''))} |"
    yield ""


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return schema if reference is None else schemas[reference.rpartition("/")[2]]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(_type(each) for each in schema[key])
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "null":
        return "`null`"
    return _cell(f"{kind or 'anything'}{_bounds(schema)}")


def _bounds(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("minLength"))
    high = schema.get("maximum", schema.get("maxLength"))
    noun = " characters" if "minLength" in schema or "maxLength" in schema else ""
    if low is not None and high is not None:
        return f", {low:,} to {high:,}{noun}"
    if high is not None:
        return f", up to {high:,}{noun}"
    return f", from {low:,}{noun}" if low is not None else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
