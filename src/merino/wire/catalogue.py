"""Bodies of `/v1/models`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def model_object(id: str, created: int, owned_by: str) -> dict[str, Any]:  # noqa: A002 - as on the wire
    """One model as `/v1/models/{id}` shows it. `created` is in epoch seconds."""
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by}


def model_body(id: str, created: int, owned_by: str) -> bytes:  # noqa: A002 - as on the wire
    """The body of `/v1/models/{id}`."""
    return _encode(model_object(id, created, owned_by))


def model_list(models: Iterable[dict[str, Any]]) -> bytes:
    """The body of `/v1/models`, of objects made by `model_object`."""
    return _encode({"object": "list", "data": list(models)})
