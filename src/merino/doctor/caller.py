"""What a program that calls a server meets, from its variables to the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx2

from merino.doctor.alias import check_alias, names_of
from merino.doctor.answer import (
    check_clock,
    check_greeting,
    check_models_answer,
    is_api,
    is_merino,
    plain_to_tls,
)
from merino.doctor.asking import Answer, Asker, NoAnswer
from merino.doctor.base_url import check_base_url
from merino.doctor.certificate import unusable_authorities
from merino.doctor.finding import Finding, is_healthy, problem, warning
from merino.doctor.key import check_key, check_key_at_relay, check_key_at_stranger
from merino.doctor.latency import check_timeout, p99_of_metrics
from merino.doctor.network import Place, check_way, speaks_tls
from merino.doctor.parameters import probe
from merino.doctor.proxy import check_proxy, is_local, proxy_of
from merino.doctor.target import Target
from merino.doctor.variables import check_variables
from merino.settings.proxies import Proxy

_MISDIRECTED = ("relay-key-at-provider", "provider-key-at-relay", "other-providers-key")
STEP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment, and how to tell what a step will cost before it is taken. A name, a
    connection and a small answer may each take `step_timeout_s`. `has_records`: the relay's own
    records have said how long the model takes."""

    environ: Mapping[str, str]
    announce: Callable[[str], None]
    step_timeout_s: float
    has_records: bool = False


def examine_caller(target: Target, around: Surroundings) -> list[Finding]:
    """From the text of the settings to real answers; stops where going on tells nothing."""
    findings = check_variables(around.environ, target)
    url = check_base_url(target.base_url, target.base_url_from)
    findings += url.findings
    key_findings = check_key(target, url.base_url)
    findings += key_findings
    if not url.base_url:
        return findings
    # What is at the wrong server tells nothing; and without a key, nobody asked for the network.
    if any(each.id in _MISDIRECTED and each.severity == "problem" for each in key_findings):
        return findings
    has_key = bool(target.api_key) and is_healthy(key_findings)
    if not has_key and target.is_default:
        return findings
    key = target.api_key if has_key else ""
    target = replace(target, base_url=url.base_url, api_key=key)
    proxy = proxy_of(target.base_url, around.environ)
    proxy_findings = check_proxy(target.base_url, proxy)
    findings += proxy_findings
    if proxy is not None and not is_healthy(proxy_findings):
        if not is_local(urlsplit(target.base_url).hostname or ""):
            return findings
        proxy = None  # look whether the server is well without it
    return findings + _examine_server(target, around, proxy)


def _examine_server(target: Target, around: Surroundings, proxy: Proxy | None) -> list[Finding]:
    try:
        context = httpx2.create_ssl_context()
    except OSError as error:
        return [unusable_authorities(error)]
    findings = check_way(_place(target, proxy), context, around.step_timeout_s)
    if not is_healthy(findings):
        return [_elsewhere(target, each) for each in findings]
    url = proxy.url if proxy else None
    with Asker(context, url, around.step_timeout_s) as asker:
        return findings + _examine_api(target, around, asker)


def _elsewhere(target: Target, finding: Finding) -> Finding:
    """A relay that runs, but not where its settings say, is not to be called broken."""
    if not target.is_local or finding.id != "server-unreachable":
        return finding
    return warning(
        finding.id,
        f"A relay runs on the data folder, but not at {target.base_url}, where its settings say.",
        "It was started with --port, --host or other settings: name its address with --base-url.",
    )


def _examine_api(target: Target, around: Surroundings, asker: Asker) -> list[Finding]:
    base_url = target.base_url
    greeting = asker.ask(f"{base_url}/models")
    findings: list[Finding] = []
    if isinstance(greeting, NoAnswer) and not greeting.is_timeout:
        place = _place(target, None)
        if not place.is_tls and speaks_tls(place, around.step_timeout_s):
            return [plain_to_tls(base_url)]
    if isinstance(greeting, Answer):
        findings += check_clock(greeting)
        if not is_api(greeting) and not base_url.endswith("/v1"):
            below = asker.ask(f"{base_url}/v1/models")
            if isinstance(below, Answer) and is_api(below):
                seen = f"There is no API at {base_url}, but there is one at {base_url}/v1."
                findings.append(problem("v1-missing", seen, f"Write {base_url}/v1."))
                base_url, greeting = f"{base_url}/v1", below
    findings += check_greeting(greeting, f"{base_url}/models")
    if isinstance(greeting, NoAnswer) or not is_api(greeting) or not target.api_key:
        return findings
    is_relay = is_merino(greeting)
    if is_relay:
        wrong = check_key_at_relay(target.api_key, target.api_key_from)
        if wrong:
            return findings + wrong
    else:
        host = urlsplit(base_url).hostname
        findings += check_key_at_stranger(target.api_key, target.api_key_from, host)
    answer = asker.ask(f"{base_url}/models", key=target.api_key)
    findings += check_models_answer(answer, f"{base_url}/models")
    if target.model is None or isinstance(answer, NoAnswer) or answer.status != 200:
        return findings
    named = check_alias(target.model, names_of(answer))
    findings += named
    if is_relay and is_healthy(named):
        findings += probe(asker, base_url, target.api_key, target.model, around.announce)
        findings += _timeout_by_metrics(target, around, asker)
    return findings


def _timeout_by_metrics(target: Target, around: Surroundings, asker: Asker) -> list[Finding]:
    """The relay's own histogram, where its port shows it."""
    if target.is_local or around.has_records or target.model is None:
        return []  # the call records say it exactly
    parts = urlsplit(target.base_url)
    answer = asker.ask(f"{parts.scheme}://{parts.netloc}/metrics")
    if isinstance(answer, NoAnswer) or answer.status != 200:
        return []
    text = answer.body.decode("utf-8", "replace")
    p99_s = p99_of_metrics(text, target.model)
    return check_timeout(target.model, p99_s, target.timeout_s, "the server's metrics")


def _place(target: Target, proxy: Proxy | None) -> Place:
    if proxy is not None:
        return Place(proxy.host, proxy.port, proxy.url.startswith("https:"), is_proxy=True)
    parts = urlsplit(target.base_url)
    is_tls = parts.scheme == "https"
    return Place(parts.hostname or "", parts.port or (443 if is_tls else 80), is_tls)
