"""Whom calls go to, as a program in this environment would decide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OPENAI_BASE_URL = "https://api.openai.com/v1"
TIMEOUT_S = 600.0
"""What the `openai` package waits if nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`..._from` name where each was found. `is_local` says that the base URL was not given but is
    that of the relay whose data folder or settings file lies here; `is_default` that nothing at
    all says where."""

    base_url: str
    base_url_from: str
    api_key: str = field(default="", repr=False)
    api_key_from: str = ""
    model: str | None = None
    timeout_s: float = TIMEOUT_S
    is_local: bool = False
    is_default: bool = False


def target_of(
    *,
    base_url: str | None,
    api_key: str | None,
    model: str | None,
    timeout_s: float | None,
    environ: Mapping[str, str],
    local_base_url: str | None,
) -> Target:
    """Options win over Merino's variables, those over the `openai` package's."""
    url, url_from = _first(
        ("--base-url", base_url),
        ("MERINO_BASE_URL", environ.get("MERINO_BASE_URL")),
        ("OPENAI_BASE_URL", environ.get("OPENAI_BASE_URL")),
    )
    is_local = not url and local_base_url is not None
    is_default = not url and not is_local
    sources = [("--api-key", api_key), ("MERINO_API_KEY", environ.get("MERINO_API_KEY"))]
    if not is_local:
        # On the relay's own machine, OPENAI_API_KEY is its credential for OpenAI, not a caller's.
        sources.append(("OPENAI_API_KEY", environ.get("OPENAI_API_KEY")))
    key, key_from = _first(*sources)
    if is_local:
        url, url_from = local_base_url or "", "the settings of the relay here"
    elif is_default:
        url, url_from = OPENAI_BASE_URL, "the openai package's default, as no base URL is set"
    return Target(
        base_url=url,
        base_url_from=url_from,
        api_key=key,
        api_key_from=key_from,
        model=model,
        timeout_s=TIMEOUT_S if timeout_s is None else timeout_s,
        is_local=is_local,
        is_default=is_default,
    )


def _first(*sources: tuple[str, str | None]) -> tuple[str, str]:
    return next(((value, name) for name, value in sources if value), ("", ""))
