"""What is kept of responses, so that later calls can go on from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from merino.settings.declaring import MIB, Bytes, Seconds, setting

StorePlace = Literal["upstream", "relay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesSettings:
    store: StorePlace = setting(
        "upstream",
        "Who keeps responses and conversations of the Responses API: the upstream that made them, "
        "as far as it does, or this relay, encrypted, whatever the upstream can. With `relay`, "
        "prompts and answers lie in the data folder.",
    )
    keep_days: Annotated[int, Meta(ge=1, le=3650)] = setting(
        30, "Days that the relay keeps a response, and a conversation after its last change."
    )
    response_bytes_max: Bytes = setting(
        16 * MIB, "Largest response kept: its own input and its output."
    )
    account_bytes_max: Bytes = setting(
        1024 * MIB, "Bytes that the relay keeps for one account at most; more is not kept."
    )
    background_timeout_s: Seconds = setting(
        3600.0, "How long a response may take in the background."
    )
