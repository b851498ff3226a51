"""The endpoints that callers and batches may use."""

from __future__ import annotations

from collections.abc import Mapping

from merino.wire.chat import CHAT
from merino.wire.compaction import COMPACT
from merino.wire.embeddings import EMBEDDINGS
from merino.wire.endpoints import Endpoint
from merino.wire.responses import RESPONSES

SERVED: Mapping[str, Endpoint] = {
    each.name: each for each in (CHAT, RESPONSES, COMPACT, EMBEDDINGS)
}
PATHS: Mapping[str, Endpoint] = {f"/v1/{name}": each for name, each in SERVED.items()}
BATCH_PATHS: Mapping[str, Endpoint] = {
    path: each for path, each in PATHS.items() if each.is_batched
}
