"""The translations there are: from each family to each other.

A new family is a folder that fills a `Family`, and a name in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from merino.translation.answered import Made
from merino.translation.bridge import Bridge, Carried
from merino.translation.chat.family import CHAT_FAMILY
from merino.translation.gemini.family import GEMINI_FAMILY
from merino.translation.messages.family import MESSAGES_FAMILY
from merino.translation.responses.family import RESPONSES_FAMILY

FAMILIES = (CHAT_FAMILY, RESPONSES_FAMILY, MESSAGES_FAMILY)
UPSTREAMS = (*FAMILIES, GEMINI_FAMILY)
"""The last ones only answer: no caller speaks them."""
TRANSLATIONS: Mapping[tuple[str, str], Bridge] = {
    (caller.endpoint.name, upstream.endpoint.name): Bridge(caller, upstream)
    for caller, upstream in product(FAMILIES, UPSTREAMS)
    if caller is not upstream
}
"""By the caller's endpoint and the upstream's."""

__all__ = ["FAMILIES", "TRANSLATIONS", "Bridge", "Carried", "Made"]
