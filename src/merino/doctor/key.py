"""What a key tells before anything is sent: whose it is, and how it was pasted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from merino.doctor.finding import Finding, problem, warning
from merino.doctor.secrets import shown
from merino.doctor.target import Target
from merino.domain.key import ADMIN_KEY_PREFIX, KEY_PREFIX
from merino.settings import KNOWN_PROVIDERS


@dataclass(frozen=True, slots=True)
class KeyKind:
    """Whose keys look so. `is_certain` where nobody else issues such keys."""

    owner: str
    host: str
    pattern: re.Pattern[str]
    is_certain: bool = True


_KINDS = (
    KeyKind("Anthropic", "api.anthropic.com", re.compile(r"sk-ant-")),
    KeyKind("OpenRouter", "openrouter.ai", re.compile(r"sk-or-")),
    KeyKind("OpenAI", "api.openai.com", re.compile(r"sk-(proj|svcacct|admin)-|sk-.*T3BlbkFJ")),
    KeyKind("Google", "generativelanguage.googleapis.com", re.compile(r"AIza")),
    KeyKind("Groq", "api.groq.com", re.compile(r"gsk_")),
    KeyKind("OpenAI", "api.openai.com", re.compile(r"sk-"), is_certain=False),
)
"""First match wins. DeepSeek and many relays issue plain `sk-` keys as OpenAI once did."""

_PROVIDER_HOSTS = {
    **{urlsplit(each.base_url).hostname or "": each.name for each in KNOWN_PROVIDERS},
    **{each.host: each.owner for each in _KINDS},
}
_SK_HOSTS = frozenset(("api.openai.com", "api.deepseek.com"))
_PLACEHOLDER = re.compile(
    r"(?i)(<.*>|your[-_ ].*|.*api[-_]?key.*|[sm]k-(\.{2,}|x{3,})|x{4,}|changeme|test|none)$"
)


def provider_of(host: str | None) -> str | None:
    """The well-known provider at this host; `None` for a relay or a stranger."""
    return _PROVIDER_HOSTS.get((host or "").lower())


def check_key(target: Target, base_url: str) -> list[Finding]:
    """Look at the key alone. A problem here means: do not send it."""
    key, source = target.api_key, target.api_key_from
    if not key:
        return [_missing(target)]
    if fault := _pasting_fault(key):
        seen = f"The key {shown(key)} (from {source}) {fault}."
        return [problem("key-characters", seen, "Paste the key alone: nothing before or after it.")]
    if _PLACEHOLDER.match(key):
        seen = f"The key (from {source}) is an example's placeholder, not a key."
        mend = "Put a real key there; `merino keys create` issues one."
        return [problem("key-placeholder", seen, mend)]
    if key.startswith(ADMIN_KEY_PREFIX):
        seen = f"The key {shown(key)} (from {source}) is an admin key: it opens /admin/v1 only."
        mend = f"Calls need a key that begins with {KEY_PREFIX}; `merino keys create` issues one."
        return [problem("admin-key", seen, mend)]
    host = urlsplit(base_url).hostname
    return _misdirected(key, source, host) if base_url else []


def check_key_at_relay(key: str, source: str) -> list[Finding]:
    """The host has turned out to be a Merino relay; the key was not sent yet."""
    if key.startswith(KEY_PREFIX):
        return []
    kind = _kind_of(key)
    whose = f"looks like one of {kind.owner}" if kind else "is none of a relay's"
    return [
        problem(
            "provider-key-at-relay",
            f"The server is a Merino relay, and the key {shown(key)} (from {source}) {whose}. It "
            "was not sent.",
            f"Use a key of the relay ({KEY_PREFIX}...); its operator issues one with `merino keys "
            "create`. Provider credentials belong into the relay's settings.",
        )
    ]


def check_key_at_stranger(key: str, source: str, host: str | None) -> list[Finding]:
    """The host is no Merino relay, and nobody well known: is it meant to have this key?"""
    kind = _kind_of(key)
    if kind is None or provider_of(host) is not None:
        return []
    return [
        warning(
            "provider-key-at-relay",
            f"The key {shown(key)} (from {source}) looks like one of OpenAI, but calls go to "
            f"{host}.",
            f"If {host} issued it, all is well; if OpenAI did, revoke it there, since a stranger "
            "gets it.",
        )
    ]


def _misdirected(key: str, source: str, host: str | None) -> list[Finding]:
    provider = provider_of(host)
    if key.startswith(KEY_PREFIX):
        if provider is None:
            return []
        return [
            problem(
                "relay-key-at-provider",
                f"The key {shown(key)} (from {source}) is a relay's, but calls go to {host}. It "
                "was not sent.",
                "Set the base URL to the relay's, e.g. OPENAI_BASE_URL=http://127.0.0.1:8080/v1.",
            )
        ]
    kind = _kind_of(key)
    if kind is None or kind.host == host or (not kind.is_certain and host in _SK_HOSTS):
        return []
    if provider is not None:
        return [
            problem(
                "other-providers-key",
                f"The key {shown(key)} (from {source}) looks like one of {kind.owner}, but calls "
                f"go to {host}. It was not sent.",
                f"Use a key of {provider}, or the base URL of {kind.owner}.",
            )
        ]
    if kind.is_certain:
        return [
            problem(
                "provider-key-at-relay",
                f"The key {shown(key)} (from {source}) is one of {kind.owner}, but calls go to "
                f"{host}. It was not sent.",
                f"Use a key that {host} issued; or, to call {kind.owner} directly, its base URL.",
            )
        ]
    return []  # it may be the server's own


def _missing(target: Target) -> Finding:
    if target.is_local:
        return warning(
            "key-missing",
            "No key was given, so that what a caller meets could be tried in part only.",
            "Give one with --api-key or MERINO_API_KEY.",
        )
    return problem(
        "key-missing",
        "There is no key: neither --api-key nor MERINO_API_KEY nor OPENAI_API_KEY is set.",
        "Set MERINO_API_KEY (or OPENAI_API_KEY) to a key of the server; a relay's operator issues "
        "one with `merino keys create`.",
    )


def _kind_of(key: str) -> KeyKind | None:
    return next((each for each in _KINDS if each.pattern.match(key)), None)


def _pasting_fault(key: str) -> str | None:
    if "\n" in key or "\r" in key:
        return "has a line break in it"
    if any(quote in key for quote in "'\"`\u2018\u2019\u201c\u201d"):
        return "has quotes in it"
    if key.strip().lower().startswith("bearer "):
        return "begins with 'Bearer ', which clients add"
    if any(char.isspace() for char in key):
        return "has blanks in it"
    if not key.isascii() or not key.isprintable():
        return "has characters that no HTTP header may carry"
    return None
