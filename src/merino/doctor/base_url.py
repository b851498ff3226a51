"""What is wrong with a base URL as such, and what was probably meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from merino.doctor.finding import Finding, ok, problem
from merino.doctor.secrets import without_password

EXAMPLE = "http://127.0.0.1:8080/v1"
_ENDPOINTS = re.compile(
    r"/(chat/completions|completions|embeddings|responses|messages|models|estimate|files|batches)/?$"
)
_DOUBLED = re.compile(r"(/v1){2,}(?=/|$)")
_NEEDS_NO_V1 = frozenset(("api.deepseek.com",))


@dataclass(frozen=True, slots=True)
class Examined:
    """`base_url` is the mended one, to go on with; empty if there is no telling."""

    findings: list[Finding]
    base_url: str


def check_base_url(given: str, source: str) -> Examined:
    """Look at the text alone."""
    url = given.strip().strip("'\"").strip()
    if fault := _fault(url, given):
        fix = f"Write it like {EXAMPLE}: scheme, host, port if any, and /v1."
        seen = f"The base URL {without_password(given)!r} (from {source}) {fault}."
        return Examined([problem("base-url", seen, fix)], "")
    parts = urlsplit(url)
    findings: list[Finding] = []
    path = parts.path.rstrip("/")
    if match := _ENDPOINTS.search(path):
        path = path[: match.start()]
        seen = f"The base URL {url} (from {source}) ends with an endpoint, {match[0]}."
        findings.append(
            problem("endpoint-in-base-url", seen, f"Clients add it: write {_with(parts, path)}.")
        )
    if _DOUBLED.search(path):
        path = _DOUBLED.sub("/v1", path)
        seen = f"The base URL {url} (from {source}) has /v1 more than once."
        findings.append(problem("v1-doubled", seen, f"Write {_with(parts, path)}."))
    if not path and parts.hostname not in _NEEDS_NO_V1:
        path = "/v1"
        seen = f"The base URL {url} (from {source}) does not end in /v1."
        findings.append(problem("v1-missing", seen, f"Write {_with(parts, path)}."))
    if not findings:
        findings.append(ok("base-url", f"The base URL is {url} (from {source})."))
    return Examined(findings, _with(parts, path))


def _fault(url: str, given: str) -> str | None:
    if url != given:
        return "has blanks, quotes or line breaks around it"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme not in ("http", "https"):
        return "does not begin with http:// or https://"
    if not parts.hostname or not url.isprintable() or " " in url:
        return "has no proper host, or a blank in it"
    if parts.username is not None or parts.password is not None:
        return "has a user name or password in it, which belongs into the key"
    if parts.query or parts.fragment:
        return "has a ? or # part, which clients cannot add paths to"
    return None


def _with(parts: SplitResult, path: str) -> str:
    return f"{parts.scheme}://{parts.netloc}{path}"
