"""Bodies of `/v1/models`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def model_object(
    model: str,
    created: int,
    owned_by: str,
    **more: Any,
) -> dict[str, Any]:
    """One model as `/v1/models/{id}` shows it. `created` is in epoch seconds; `more` is what OpenAI
    does not publish about its models."""
    return {"id": model, "object": "model", "created": created, "owned_by": owned_by, **more}


def model_body(model: dict[str, Any]) -> bytes:
    """The body of `/v1/models/{id}`."""
    return _encode(model)


def model_list(models: Iterable[dict[str, Any]]) -> bytes:
    """The body of `/v1/models`, of objects made by `model_object`."""
    return _encode({"object": "list", "data": list(models)})
