"""One thing the doctor saw, and the list of all there can be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["problem", "warning", "ok"]

FindingId = Literal[
    "base-url-override",
    "key-override",
    "mixed-variables",
    "legacy-variable",
    "base-url",
    "v1-missing",
    "v1-doubled",
    "endpoint-in-base-url",
    "key",
    "key-missing",
    "key-characters",
    "key-placeholder",
    "relay-key-at-provider",
    "provider-key-at-relay",
    "other-providers-key",
    "admin-key",
    "key-disabled",
    "key-expired",
    "proxy",
    "proxy-catches-local",
    "proxy-unreachable",
    "name-resolution",
    "server-unreachable",
    "connect-timeout",
    "tls",
    "tls-expired",
    "tls-self-signed",
    "tls-wrong-name",
    "tls-untrusted",
    "scheme-mismatch",
    "answer",
    "clock-skew",
    "alias-unknown",
    "parameter-refused",
    "credit-used-up",
    "limit-reached",
    "timeout-short",
    "burst",
    "retries-multiplied",
    "limiter-ineffective",
    "relay-stopped",
    "settings",
    "folder",
    "disk-space",
    "database",
    "ledger",
    "price-missing",
    "credential-missing",
    "credential-rejected",
    "upstream-unreachable",
    "responses-api",
]
"""Each has a section of this name in docs/reference/doctor.md."""

FINDING_IDS: tuple[FindingId, ...] = get_args(FindingId)
PAGE = "docs/reference/doctor.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """`seen` is what was seen, `mend` how to mend it; neither ends up on a screen before
    `secrets.Secrets` went over it."""

    id: FindingId
    severity: Severity
    seen: str
    mend: str = ""

    @property
    def page(self) -> str:
        """Where it is explained."""
        return f"{PAGE}#{self.id}"


def problem(what: FindingId, seen: str, mend: str) -> Finding:
    """Calls fail, or will."""
    return Finding(what, "problem", seen, mend)


def warning(what: FindingId, seen: str, mend: str) -> Finding:
    """Works, but perhaps not as meant."""
    return Finding(what, "warning", seen, mend)


def ok(what: FindingId, seen: str) -> Finding:
    """Looked at, and fine."""
    return Finding(what, "ok", seen)


def is_healthy(findings: Iterable[Finding]) -> bool:
    return not any(each.severity == "problem" for each in findings)
