"""Whether a model's name is one the key may call, and which was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, cast

from merino.doctor.asking import Answer
from merino.doctor.finding import Finding, ok, problem

NEAREST_MAX = 3
SHOWN_MAX = 8


def names_of(answer: Answer) -> list[str]:
    """The models that `GET /models` lists."""
    data: object = answer.content.get("data")
    if not isinstance(data, list):
        return []
    rows = [
        cast("dict[str, Any]", row) for row in cast("list[object]", data) if isinstance(row, dict)
    ]
    return [str(row["id"]) for row in rows if "id" in row]


def check_alias(model: str, names: Sequence[str]) -> list[Finding]:
    if model in names:
        return [ok("alias-unknown", f"The model {model} may be called.")]
    near = nearest(model, names)
    if near:
        mend = f"Did you mean {' or '.join(near)}?"
    else:
        listed = ", ".join(names[:SHOWN_MAX]) + (", ..." if len(names) > SHOWN_MAX else "")
        mend = f"There are: {listed}." if names else "The key may call no model; ask the operator."
    return [
        problem(
            "alias-unknown",
            f"There is no model {model[:100]!r} here, or the key may not call it.",
            mend,
        )
    ]


def nearest(model: str, names: Sequence[str]) -> list[str]:
    """The likeliest first: the same but for case or provider, then the similar."""
    plain = model.lower().rpartition("/")[2]
    same = [name for name in names if name.lower().rpartition("/")[2] == plain]
    close = difflib.get_close_matches(model.lower(), [name.lower() for name in names], NEAREST_MAX)
    by_small = {name.lower(): name for name in names}
    return list(dict.fromkeys([*same, *(by_small[each] for each in close)]))[:NEAREST_MAX]
