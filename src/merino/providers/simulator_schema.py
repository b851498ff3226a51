"""Makes up a value that satisfies a simple JSON schema, always the same one."""

from __future__ import annotations

import math
from typing import Any, cast

DEPTH_MAX = 32

_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def example_of(schema: object) -> Any:
    """Covers types, enum, const, required, bounds, `anyOf`, `allOf` and local `$ref`; patterns and
    negations are not understood. Optional properties are left out beyond `DEPTH_MAX` levels."""
    return _example(schema, as_object(schema), 0)


def as_object(value: object) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def _example(schema: object, root: dict[str, Any], depth: int) -> Any:
    rules = _resolve(as_object(schema), root, depth)
    if "const" in rules:
        return rules["const"]
    if "default" in rules:
        return rules["default"]
    if as_list(rules.get("enum")):
        return rules["enum"][0]
    for choice in ("anyOf", "oneOf"):
        options = as_list(rules.get(choice))
        if options:
            # At the bottom of a recursive schema the last option is usually the one that ends it.
            rest = {name: rule for name, rule in rules.items() if name != choice}
            chosen = as_object(options[-1 if depth > DEPTH_MAX // 2 else 0])
            return _example({**rest, **chosen}, root, depth + 1)
    kind = rules.get("type")
    if isinstance(kind, list):
        kinds = as_list(cast("object", kind))
        kind = "null" if depth > DEPTH_MAX // 2 and "null" in kinds else (kinds or [None])[0]
    if kind is None:
        kind = "object" if "properties" in rules else "array" if "items" in rules else "string"
    match kind:
        case "object":
            return _object(rules, root, depth)
        case "array":
            count = min(int(rules.get("minItems", 0 if depth > 4 else 1)), 1000)
            if depth >= DEPTH_MAX:
                count = 0
            return [_example(rules.get("items", {}), root, depth + 1) for _ in range(count)]
        case "integer":
            return int(_number(rules, 1))
        case "number":
            return _number(rules, rules.get("multipleOf", 0.5))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(rules)


def _resolve(rules: dict[str, Any], root: dict[str, Any], depth: int) -> dict[str, Any]:
    for _ in range(DEPTH_MAX):
        reference = rules.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: object = root
        for step in reference[1:].split("/")[1:]:
            target = as_object(target).get(step.replace("~1", "/").replace("~0", "~"))
        rules = {name: rule for name, rule in rules.items() if name != "$ref"} | as_object(target)
    if depth < DEPTH_MAX:
        for part in as_list(rules.get("allOf")):
            more = _resolve(as_object(part), root, depth + 1)
            merged = {**rules, **more}
            if "properties" in more:
                merged["properties"] = as_object(rules.get("properties")) | as_object(
                    more["properties"]
                )
            if "required" in more:
                merged["required"] = as_list(rules.get("required")) + as_list(more["required"])
            rules = merged
    return rules


def _object(rules: dict[str, Any], root: dict[str, Any], depth: int) -> dict[str, Any]:
    properties = as_object(rules.get("properties"))
    required = as_list(rules.get("required"))
    if depth >= DEPTH_MAX:
        return {}
    names = required if depth > 4 else [*properties, *(n for n in required if n not in properties)]
    return {
        name: _example(properties.get(name, {}), root, depth + 1)
        for name in names
        if isinstance(name, str)
    }


def _number(rules: dict[str, Any], unit: float) -> float:
    """The smallest multiple of `unit` that the bounds allow, 0 if they allow it."""
    unit = rules.get("multipleOf", unit) or 1
    low = rules.get("minimum", -math.inf)
    high = rules.get("maximum", math.inf)
    above = rules.get("exclusiveMinimum", -math.inf)
    below = rules.get("exclusiveMaximum", math.inf)
    if low <= 0 <= high and above < 0 < below:
        return 0
    if max(low, above) >= 0:
        number = math.ceil(max(low, above) / unit) * unit
        return number + unit if number <= above else number
    number = math.floor(min(high, below) / unit) * unit
    return number - unit if number >= below else number


def _string(rules: dict[str, Any]) -> str:
    text = _FORMATS.get(str(rules.get("format")), "simulated")
    if len(text) < (least := min(int(rules.get("minLength", 0)), 100_000)):
        text = (text * (least // len(text) + 1))[:least]
    most = rules.get("maxLength")
    return text[: int(most)] if isinstance(most, int) else text
