"""A reconciliation as rows for tables, as JSON and as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from merino.domain.money import format_nanos
from merino.domain.spreadsheet import csv_text
from merino.reconcile.compare import Line, Reconciliation
from merino.reconcile.explain import CAUSES, Cause, Difference


@dataclass(frozen=True, slots=True)
class Summed:
    """Differences of one cause and model, over all their days and keys."""

    cause: Cause
    model: str
    days: tuple[str, ...]
    nanos: Fraction
    calls: int
    why: str


def summary(differences: Iterable[Difference]) -> list[Summed]:
    """By cause and model, the largest first; what is not explained last."""
    groups: dict[tuple[Cause, str], list[Difference]] = {}
    for each in differences:
        groups.setdefault((each.cause, each.place.model), []).append(each)
    found = [
        Summed(
            cause,
            model,
            tuple(sorted({each.place.day for each in group})),
            sum((each.nanos for each in group), Fraction(0)),
            sum(each.calls for each in group),
            max(group, key=lambda each: abs(each.nanos)).why,
        )
        for (cause, model), group in groups.items()
    ]
    return sorted(found, key=lambda each: (each.cause == "unexplained", -abs(each.nanos)))


def as_object(found: Reconciliation) -> dict[str, Any]:
    """As JSON's types; amounts as text beside integer nano-dollars, rounded once each."""
    return {
        "since": found.days[0],
        "until": found.days[1],
        "provider": _side(found.their_nanos, found.their_calls),
        "relay": _side(found.own_nanos, found.own_calls),
        **_amount("difference", found.their_nanos - found.own_nanos),
        **_amount("unexplained", found.unexplained),
        "causes": [
            {
                "cause": each.cause,
                "means": CAUSES[each.cause],
                "model": each.model,
                "days": each.days,
                "calls": each.calls,
                **_amount("difference", each.nanos),
                "why": each.why,
            }
            for each in summary(found.differences)
        ],
        "lines": [_line(each) for each in found.lines],
        "keys": [
            {"key": key, **_amount("cost", nanos)} for key, nanos in sorted(found.keys.items())
        ],
        "notes": list(found.notes),
    }


def as_csv(found: Reconciliation) -> str:
    """A line for each day, model and credential."""
    rows = [
        {
            **_line(line),
            "provider_units": _units_text(line.their_units),
            "relay_units": _units_text(line.own_units),
        }
        for line in found.lines
    ]
    head: Sequence[str] = list(rows[0]) if rows else ("day", "model", "key")
    return csv_text([head, *(row.values() for row in rows)])


def _line(line: Line) -> dict[str, Any]:
    return {
        "day": line.place.day,
        "model": line.place.model,
        "key": line.place.key,
        "provider_calls": line.their_calls,
        "relay_calls": line.own_calls,
        **_amount("provider", line.their_nanos),
        **_amount("relay", line.own_nanos),
        **_amount("difference", line.their_nanos - line.own_nanos),
        "provider_units": dict(sorted(line.their_units.items())),
        "relay_units": dict(sorted(line.own_units.items())),
    }


def _units_text(units: Mapping[str, int]) -> str:
    return " ".join(f"{kind}={count}" for kind, count in sorted(units.items()))


def _side(nanos: Fraction, calls: int | None) -> dict[str, Any]:
    return {**_amount("cost", nanos), "calls": calls}


def _amount(name: str, nanos: Fraction) -> dict[str, Any]:
    whole = round(nanos)
    return {name: format_nanos(whole), f"{name}_nanos": whole}
