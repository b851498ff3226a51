"""The rules of what operators and owners type: amounts, limits, names of models. Whoever takes them
in, the admin API's bodies or the dashboard's forms, asks here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from merino.control.ports import AccountTerms, KeyTerms
from merino.domain.errors import InvalidCall
from merino.domain.money import NANOS_PER_UNIT, parse_nanos

AMOUNT_UNITS_MAX = 1_000_000_000
AMOUNT_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,199}$"
ALIASES_MAX = 1000
LIMIT_MAX = 1_000_000_000
WEIGHT_MAX = 1000

_AMOUNT = re.compile(AMOUNT_PATTERN.removesuffix("$") + r"\Z")
_ALIAS = re.compile(ALIAS_PATTERN.removesuffix("$") + r"\Z")


def nanos_of(amount: str | float, field: str) -> int:
    """An amount as it came in; floats are refused, since they cannot say every amount exactly."""
    if isinstance(amount, str):
        if _AMOUNT.match(amount):
            return parse_nanos(amount)
    elif 0 <= amount <= AMOUNT_UNITS_MAX and amount == int(amount):
        return int(amount) * NANOS_PER_UNIT
    raise InvalidCall(
        f'{field} must be decimal text with at most nine decimals, such as "5.00", or a whole '
        f"number up to {AMOUNT_UNITS_MAX}, and not negative",
        param=field,
        code="invalid_amount",
    )


def aliases_of(aliases: Sequence[str]) -> tuple[str, ...]:
    """The models that a key may call, each once."""
    if len(aliases) > ALIASES_MAX or not all(_ALIAS.match(alias) for alias in aliases):
        raise InvalidCall(
            f"aliases must be at most {ALIASES_MAX} model names of letters, digits and . _ / : @ "
            "+ -",
            param="aliases",
            code="invalid_alias",
        )
    return tuple(dict.fromkeys(aliases))


def check_limits(terms: KeyTerms | AccountTerms) -> None:
    """Raises `InvalidCall` for a limit that is none."""
    for name, limit in terms.get("limits", {}).items():
        if limit is not None and not 1 <= limit <= LIMIT_MAX:
            raise InvalidCall(
                f"{name} must be a whole number from 1 to {LIMIT_MAX:,}, not {limit!r}",
                param=name,
                code="invalid_limit",
            )
    weight = terms.get("weight")
    if weight is not None and not (isinstance(weight, int | float) and 0 < weight <= WEIGHT_MAX):
        raise InvalidCall(
            f"weight {weight!r} must be a number above 0 and at most {WEIGHT_MAX:,}",
            param="weight",
            code="invalid_limit",
        )
