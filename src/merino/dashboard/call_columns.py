"""What a table of calls shows of each: the usual columns, or those that were chosen."""

from __future__ import annotations

from collections.abc import Mapping

from merino.dashboard.parts import Visit

COLUMNS: Mapping[str, str] = {
    "status": "Status",
    "model": "Model",
    "key": "Key",
    "account": "Account",
    "deployment": "Deployment",
    "user": "End user",
    "tags": "Tags",
    "metadata": "Metadata",
    "address": "Address",
    "endpoint": "API",
    "in": "In",
    "cached": "Cached",
    "out": "Out",
    "reasoning": "Reasoning",
    "first": "First token",
    "took": "Took",
    "cost": "Cost",
}
"""By their names in the address, in their order."""
NUMBERS = frozenset(("in", "cached", "out", "reasoning", "first", "took", "cost"))
_USUAL = frozenset(("status", "model", "key", "deployment", "in", "out", "first", "took", "cost"))
_OPERATORS_ONLY = frozenset(("account", "deployment"))


def offered_columns(visit: Visit) -> dict[str, str]:
    """Those that may be chosen."""
    is_all = visit.session.is_operator
    return {name: title for name, title in COLUMNS.items() if is_all or name not in _OPERATORS_ONLY}


def columns_of(visit: Visit) -> dict[str, str]:
    """Those that are shown, with their titles."""
    wanted = set(visit.request.query_params.getlist("col")) & COLUMNS.keys() or _USUAL
    return {name: title for name, title in offered_columns(visit).items() if name in wanted}
