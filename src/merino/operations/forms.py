"""Forms of people, as an operation's body: what was left empty is nothing, and what is wrong is
told in the words that stand beside the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import fields

from merino.control.terms import nanos_of
from merino.domain.errors import InvalidCall
from merino.operations.decoding import convert
from merino.operations.fields import ms_of
from merino.operations.kinds import Kind, kind_of

T = TypeVar("T", bound=Struct)
LIMIT_WORDS = {
    "rps": "calls a second",
    "rpm": "calls a minute",
    "tpm": "LLM tokens a minute",
    "concurrency": "calls at once",
}
Form = Mapping[str, Sequence[str]]


def from_form(form: Form, kind: type[T], *wanted: str, **given: object) -> T:
    """The body of an operation from those fields of a form that are `wanted`; what is `given` comes
    from elsewhere. Raises `InvalidCall` that names the field."""
    assert set(wanted) <= set(kind.__struct_fields__), f"{kind.__name__} has not all of {wanted}"
    values: dict[str, Any] = dict(given)
    for field in fields(kind):
        name = field.name
        if name not in wanted:
            continue
        declared = kind_of(field.type)
        texts = [text.strip() for text in form.get(name, ())]
        if declared.is_a is list:
            values[name] = [text for text in texts if text]
        elif text := (texts or [""])[0]:
            values[name] = _value(name, text, declared)
        elif declared.is_nullable:
            values[name] = None
        elif field.required and declared.read is nanos_of:
            raise InvalidCall("Say how much.", param=name)
        elif field.required:
            values[name] = ""
    return convert(values, kind)


def _value(name: str, text: str, declared: Kind) -> object:
    label = LIMIT_WORDS.get(name, name.replace("_", " "))
    if declared.is_a is int:
        least, most = declared.least, declared.most
        digits = text if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else ""
        if not digits or not least <= int(digits) <= most:
            raise InvalidCall(
                f"{label} must be a whole number from {least} to {most:,}, not '{text[:40]}'; "
                "leave it empty for none",
                param=name,
            )
        return int(digits)
    if declared.is_a is float:
        number = _float(text)
        least = declared.least
        is_least = number == least and not declared.is_above
        if number is None or not (least < number <= declared.most or is_least):
            bound = f"above {least}" if declared.is_above else f"from {least}"
            raise InvalidCall(
                f"{name} {text[:20]!r} must be a number {bound} and at most {declared.most:,}",
                param=name,
            )
        return number
    if declared.choices and text not in declared.choices:
        *some, last = declared.choices
        raise InvalidCall(f"The {label} must be {', '.join(some)} or {last}.", param=name)
    return _time(name, text) if declared.read is ms_of else text


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _time(name: str, text: str) -> str:
    """A day is its beginning in UTC, unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise InvalidCall(
            f"{name.replace('_', ' ')} must be a date such as 2027-01-31", param=name
        ) from None
