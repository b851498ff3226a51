"""Files and batches that the relay runs by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from merino.settings.declaring import MIB, Bytes, Share, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesSettings:
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = setting(
        16, "Most calls of batches at once; fewer while other calls run."
    )
    tries_max: Annotated[int, Meta(ge=1, le=100)] = setting(
        5, "How often an item is tried before it ends with an error."
    )
    discount: Share = setting(
        0.0, "Share of the price that accounts save on calls of batches; 0.5 halves it."
    )
    keep_days: Annotated[int, Meta(ge=1, le=3650)] = setting(
        30, "Days that uploaded files and results are kept."
    )
    account_bytes_max: Bytes = setting(4096 * MIB, "Bytes of files that one account may keep.")
