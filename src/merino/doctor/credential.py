"""Whether providers take the credentials the relay has for them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import httpx2

from merino.doctor.answer import is_api
from merino.doctor.asking import Answer, Asker, NoAnswer
from merino.doctor.certificate import unusable_authorities
from merino.doctor.finding import Finding, is_healthy, ok, problem
from merino.doctor.key import provider_of
from merino.doctor.network import Place, check_way
from merino.doctor.proxy import check_relays_proxy, proxy_of
from merino.settings import Catalog

UPSTREAMS_MAX = 50
_KEY_HEADERS = {"openai": "", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
"""By dialect, where its key goes; empty: as a bearer token."""
_ALWAYS = {"anthropic": {"anthropic-version": "2023-06-01"}}
_ABOUT_KEY = re.compile(r"\bAPI key not valid\b").search
"""What Google says with a status of 400."""
_NO_SUCH_PATH = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One base URL with one credential; the deployments that share them are asked once. `claims`
    are those of which the settings say that they have the Responses API."""

    base_url: str
    credential: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    ca_file: str | None
    name: str
    claims: tuple[str, ...] = ()
    provider: str = "openai"


def upstreams_of(catalog: Catalog) -> list[Upstream]:
    found: dict[tuple[object, ...], Upstream] = {}
    for each in catalog.deployments:
        if each.provider in _KEY_HEADERS:
            path = catalog.ca_files.get(each.name)
            ca_file = None if path is None else str(path)
            upstream = Upstream(
                each.base_url,
                each.credential,
                each.headers,
                ca_file,
                each.name,
                provider=each.provider,
            )
            place = (each.base_url, each.credential, each.headers, ca_file, each.provider)
            known = found.setdefault(place, upstream)
            if "responses" in each.endpoints and each.provider == "openai":
                found[place] = replace(known, claims=(*known.claims, each.name))
    return list(found.values())[:UPSTREAMS_MAX]


def check_upstream(
    upstream: Upstream, environ: Mapping[str, str], timeout_s: float
) -> list[Finding]:
    """Ask for its list of models, which costs nothing."""
    parts = urlsplit(upstream.base_url)
    named = f"{upstream.base_url} (deployment {upstream.name})"
    if not upstream.credential and not upstream.headers and provider_of(parts.hostname):
        seen = f"{named} is asked without a credential."
        mend = 'Give the deployment one: credential = "env:NAME" or "file:PATH".'
        return [problem("credential-missing", seen, mend)]
    proxy = proxy_of(upstream.base_url, environ)
    if proxy is not None:
        in_the_way = check_relays_proxy(upstream.base_url, proxy)
        if not is_healthy(in_the_way):
            return in_the_way
    try:
        context = _context(upstream)
    except OSError as error:
        return [_unreachable(named, unusable_authorities(error).seen)]
    if proxy is None:
        is_tls = parts.scheme == "https"
        place = Place(parts.hostname or "", parts.port or (443 if is_tls else 80), is_tls)
        way = check_way(place, context, timeout_s)
        if not is_healthy(way):
            return [_unreachable(named, way[-1].seen)]
    with Asker(context, proxy.url if proxy else None, timeout_s) as asker:
        own_header = _KEY_HEADERS[upstream.provider]
        own = {own_header: upstream.credential} if own_header and upstream.credential else {}
        answer = asker.ask(
            f"{upstream.base_url}/models",
            key="" if own_header else upstream.credential,
            headers={**own, **_ALWAYS.get(upstream.provider, {}), **dict(upstream.headers)},
        )
        found = judged(answer, named)
        if found.severity == "problem" or upstream.provider != "openai":
            return [found]
        # Without a model no call is made of it, and nothing is paid.
        told = asker.ask(
            f"{upstream.base_url}/responses",
            key=upstream.credential,
            headers=dict(upstream.headers),
            body={},
        )
    return [found, *judged_responses(told, named, upstream.claims)]


def judged_responses(
    answer: Answer | NoAnswer, named: str, claims: tuple[str, ...]
) -> list[Finding]:
    """Whether it has the Responses API, by its refusal of an empty call."""
    if isinstance(answer, NoAnswer):
        return []
    if answer.status not in _NO_SUCH_PATH:
        if answer.status >= 500:
            return []
        return [ok("responses-api", f"{named} has the Responses API.")]
    if claims:
        return [
            problem(
                "responses-api",
                f"{named} has no Responses API (status {answer.status}), though the settings say "
                f"so of {', '.join(claims)}.",
                'Take "responses" out of their endpoints: calls are then carried over into chat.',
            )
        ]
    seen = f"{named} has no Responses API; calls to it are carried over into chat completions."
    return [ok("responses-api", seen)]


def judged(answer: Answer | NoAnswer, named: str) -> Finding:
    """What the answer says about the credential."""
    if isinstance(answer, NoAnswer):
        return _unreachable(named, answer.reason)
    if answer.status in (401, 403) or _ABOUT_KEY(answer.message):
        return problem(
            "credential-rejected",
            f"{named} refuses the relay's credential (status {answer.status}): {answer.message}",
            "Renew it at the provider, write it where the settings point to, and restart or reload "
            "the relay (SIGHUP).",
        )
    if answer.status >= 500:
        return _unreachable(named, f"status {answer.status}: {answer.message}")
    if is_api(answer):
        return ok("credential-rejected", f"{named} takes the relay's credential.")
    return ok("upstream-unreachable", f"{named} answers, though without a list of models.")


def _unreachable(named: str, why: str) -> Finding:
    return problem(
        "upstream-unreachable",
        f"{named} cannot be asked: {why.rstrip('.')}.",
        "Check its base_url and the way there from this machine: DNS, firewall, proxy, ca_file.",
    )


def _context(upstream: Upstream) -> ssl.SSLContext:
    if upstream.ca_file is not None:
        return ssl.create_default_context(cafile=upstream.ca_file)
    return httpx2.create_ssl_context()
