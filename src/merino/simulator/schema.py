"""Makes up a value that satisfies a simple JSON schema, always the same one."""

from __future__ import annotations

import math
from typing import Any, cast

DEPTH_MAX = 32
VALUES_MAX = 10_000
OPTIONAL_DEPTH_MAX = 4
STRING_LENGTH_MAX = 100_000

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
    negations are not understood. Optional properties are left out of deep levels. Raises
    `ValueError` for a schema that makes no sense or asks for more than `VALUES_MAX` values."""
    try:
        return _Example(as_object(schema)).of(schema, 0)
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"the schema cannot be followed: {error}") from None


def as_object(value: object) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


class _Example:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._values_left = VALUES_MAX

    def of(self, schema: object, depth: int) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise ValueError(f"the schema asks for more than {VALUES_MAX} values")
        rules = self._resolve(as_object(schema), depth)
        for given in ("const", "default"):
            if given in rules:
                return rules[given]
        if as_list(rules.get("enum")):
            return rules["enum"][0]
        is_deep = depth > DEPTH_MAX // 2
        for choice in ("anyOf", "oneOf"):
            options = as_list(rules.get(choice))
            if options and depth < DEPTH_MAX:
                # Deep in a recursive schema, the last option is usually the one that ends it.
                rest = {name: rule for name, rule in rules.items() if name != choice}
                return self.of({**rest, **as_object(options[-1 if is_deep else 0])}, depth + 1)
        kinds = as_list(rules.get("type")) or [rules.get("type")]
        kind = "null" if is_deep and "null" in kinds else kinds[0]
        if kind is None:
            kind = "object" if "properties" in rules else "array" if "items" in rules else "string"
        match kind:
            case "object":
                return self._object(rules, depth)
            case "array":
                return self._array(rules, depth)
            case "integer":
                return int(_number(rules, 1))
            case "number":
                return _number(rules, 0.5)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _string(rules)

    def _resolve(self, rules: dict[str, Any], depth: int) -> dict[str, Any]:
        """Follow its `$ref` and merge its `allOf`."""
        for _ in range(DEPTH_MAX):
            reference = rules.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#"):
                break
            target: object = self._root
            for step in reference[1:].split("/")[1:]:
                target = as_object(target).get(step.replace("~1", "/").replace("~0", "~"))
            rules = {name: rule for name, rule in rules.items() if name != "$ref"}
            rules |= as_object(target)
        parts = as_list(rules.get("allOf")) if depth < DEPTH_MAX else []
        for part in parts:
            self._values_left -= 1
            if self._values_left < 0:
                break
            more = self._resolve(as_object(part), depth + 1)
            rules = (
                rules
                | more
                | {
                    "properties": as_object(rules.get("properties"))
                    | as_object(more.get("properties")),
                    "required": as_list(rules.get("required")) + as_list(more.get("required")),
                }
            )
        return rules

    def _object(self, rules: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = as_object(rules.get("properties"))
        names = [name for name in as_list(rules.get("required")) if isinstance(name, str)]
        if depth <= OPTIONAL_DEPTH_MAX:
            names = [*properties, *(name for name in names if name not in properties)]
        if depth >= DEPTH_MAX:
            return {}
        return {name: self.of(properties.get(name, {}), depth + 1) for name in names}

    def _array(self, rules: dict[str, Any], depth: int) -> list[Any]:
        count = int(rules.get("minItems", 1 if depth <= OPTIONAL_DEPTH_MAX else 0))
        if depth >= DEPTH_MAX:
            count = 0
        return [self.of(rules.get("items", {}), depth + 1) for _ in range(count)]


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
    if len(text) < (least := min(int(rules.get("minLength", 0)), STRING_LENGTH_MAX)):
        text = (text * (least // len(text) + 1))[:least]
    most = rules.get("maxLength")
    return text[: int(most)] if isinstance(most, int) else text
