"""What no single setting can tell: names that must match, files that must exist, safe addresses."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from merino.settings.built_in import built_in_names
from merino.settings.credentials import LookUp, is_reference
from merino.settings.oidc_checks import check_oidc
from merino.settings.portal_checks import check_portal
from merino.settings.problems import Problem
from merino.settings.sections.deployments import AliasSettings, DeploymentSettings
from merino.settings.telemetry_checks import check_telemetry
from merino.settings.tree import Settings

NAME_LENGTH_MAX = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SECRET_HEADERS = re.compile(r"authorization|api-?key|token|secret|cookie", re.IGNORECASE)
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_EXAMPLE_URL = 'write e.g. base_url = "https://api.openai.com/v1"'
_LOOPBACK = ("localhost", "127.", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class Checked:
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    """What is allowed but unwise."""


def check(settings: Settings, look_up: LookUp, offered: Collection[str] = ()) -> Checked:
    """`offered` are deployments besides those of the settings that aliases may name."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    _check_server(settings, problems)
    if settings.dashboard.oidc is not None:
        check_oidc(
            settings.dashboard.oidc,
            look_up=look_up,
            has_customers=settings.portal.enabled and "oidc" in settings.portal.methods,
            problems=problems,
            warnings=warnings,
        )
    check_portal(settings, problems)
    check_telemetry(settings, problems, warnings)
    for index, file in enumerate(settings.prices.files):
        if not file.is_file():
            problems.append(Problem(("prices", "files", index), str(file), "no such file"))
    names: dict[str, int] = {}
    for index, deployment in enumerate(settings.deployments):
        path = ("deployments", index)
        if deployment.name in names:
            other = names[deployment.name]
            message = f"deployments[{other}] has this name too; give each its own"
            problems.append(Problem((*path, "name"), deployment.name, message))
        names.setdefault(deployment.name, index)
        _check_deployment(deployment, path, look_up=look_up, problems=problems, warnings=warnings)
    for name, alias in settings.aliases.items():
        known = [*dict.fromkeys((*names, *offered, *built_in_names(settings)))]
        _check_alias(name, alias, known, problems)
        _check_fallbacks(name, alias, {*settings.aliases, *known}, problems)
    return Checked(tuple(problems), tuple(warnings))


def _check_server(settings: Settings, problems: list[Problem]) -> None:
    server = settings.server
    if not server.host.strip():
        problems.append(Problem(("server", "host"), server.host, 'empty; write e.g. "127.0.0.1"'))
    if server.unauthenticated_body_bytes_max > server.body_bytes_max:
        message = "larger than server.body_bytes_max; lower it"
        path = ("server", "unauthenticated_body_bytes_max")
        problems.append(Problem(path, server.unauthenticated_body_bytes_max, message))
    if (server.tls.cert_file is None) != (server.tls.key_file is None):
        message = "cert_file and key_file go together; give both or none"
        problems.append(Problem(("server", "tls"), None, message))
    for key, file in (("cert_file", server.tls.cert_file), ("key_file", server.tls.key_file)):
        if file is not None and not file.is_file():
            problems.append(Problem(("server", "tls", key), str(file), "no such file"))
    hold = settings.hold
    if hold.clamp_output_tokens_min > hold.clamp_floor_tokens:
        message = "larger than hold.clamp_floor_tokens; lower it or raise the other"
        path = ("hold", "clamp_output_tokens_min")
        problems.append(Problem(path, hold.clamp_output_tokens_min, message))


_PLACES = {
    "api.anthropic.com": {"anthropic": ("/v1",), "openai": ("/v1",)},
    "generativelanguage.googleapis.com": {
        "gemini": ("/v1beta", "/v1", "/v1alpha"),
        "openai": ("/v1beta/openai",),
    },
}
"""Where vendors have which dialect."""


def _dialect_fault(provider: str, base_url: str) -> str | None:
    """What is wrong with a known vendor's address for a dialect."""
    parts = urlsplit(base_url)
    places = _PLACES.get(parts.hostname or "")
    if places is None:
        return None
    path = parts.path.rstrip("/")
    if provider not in places:
        offered = " or ".join(f'"{each}"' for each in places)
        return f"is not asked in the dialect of {provider}; write provider = {offered}"
    if path not in places[provider]:
        return f'with provider = "{provider}" it is https://{parts.hostname}{places[provider][0]}'
    return None


def _check_deployment(
    deployment: DeploymentSettings,
    path: tuple[str, int],
    *,
    look_up: LookUp,
    problems: list[Problem],
    warnings: list[Problem],
) -> None:
    if deployment.name and (message := _name_fault(deployment.name)):
        problems.append(Problem((*path, "name"), deployment.name, message))
    if deployment.provider != "simulator":
        if not deployment.base_url:
            problems.append(Problem((*path, "base_url"), None, f"missing; {_EXAMPLE_URL}"))
        elif message := url_fault(deployment.base_url):
            shown = _without_password(deployment.base_url)
            problems.append(Problem((*path, "base_url"), shown, message))
        elif message := _dialect_fault(deployment.provider, deployment.base_url):
            warnings.append(Problem((*path, "base_url"), deployment.base_url, message))
        elif deployment.credential and _sends_in_clear(deployment.base_url):
            message = "not https, so the credential and all it carries cross the network in clear"
            warnings.append(Problem((*path, "base_url"), deployment.base_url, message))
    else:
        message = "does nothing, since the simulator is part of the relay; remove it"
        for key, value in (
            ("health_check_s", deployment.health_check_s),
            ("base_url", deployment.base_url),
            ("ca_file", deployment.ca_file and str(deployment.ca_file)),
        ):
            if value:
                warnings.append(Problem((*path, key), value, message))
    if deployment.ca_file is not None and not deployment.ca_file.is_file():
        problems.append(Problem((*path, "ca_file"), str(deployment.ca_file), "no such file"))
    if deployment.credential:
        _check_secret(
            deployment.credential,
            (*path, "credential"),
            look_up=look_up,
            problems=problems,
        )
        if not is_reference(deployment.credential):
            message = (
                "stands in the settings file; put it in the environment or a file, and write "
                'credential = "env:NAME" or "file:PATH"'
            )
            warnings.append(Problem((*path, "credential"), None, message))
    for name, text in deployment.headers.items():
        where = (*path, "headers", name)
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            problems.append(Problem(where, None, "not a header that can be set; remove it"))
            continue
        _check_secret(text, where, look_up=look_up, problems=problems)
        if _SECRET_HEADERS.search(name) and not is_reference(text):
            message = 'stands in the settings file; write it as "env:NAME" or "file:PATH"'
            warnings.append(Problem(where, None, message))


def _check_secret(
    text: str,
    path: tuple[str | int, ...],
    *,
    look_up: LookUp,
    problems: list[Problem],
) -> None:
    try:
        look_up(text)
    except ValueError as error:
        # A reference is no secret and tells which one is meant; anything else stays unsaid.
        shown = text if is_reference(text) else "[hidden]"
        problems.append(Problem(path, shown, str(error)))


def _check_alias(
    name: str, alias: AliasSettings, deployments: list[str], problems: list[Problem]
) -> None:
    path = ("aliases", name)
    if message := _name_fault(name):
        problems.append(Problem(path, None, message))
    if not alias.deployments:
        message = 'empty; name at least one, e.g. deployments = ["openai-o3"]'
        problems.append(Problem((*path, "deployments"), None, message))
    for index, wanted in enumerate(alias.deployments):
        where = (*path, "deployments", index)
        if wanted not in deployments:
            near = difflib.get_close_matches(wanted, deployments, n=1)
            known = ", ".join(deployments[:20]) or "none"
            way_out = (
                f"did you mean {json.dumps(near[0])}?"
                if near
                else f"there are: {known}; add a [[deployments]] table for others"
            )
            problems.append(Problem(where, wanted, f"no deployment has this name; {way_out}"))
        elif wanted in alias.deployments[:index]:
            problems.append(Problem(where, wanted, "named twice; remove one"))
    if alias.output_tokens_max > alias.context_tokens_max:
        message = "larger than context_tokens_max; lower it or raise the other"
        problems.append(Problem((*path, "output_tokens_max"), alias.output_tokens_max, message))


def _check_fallbacks(
    name: str, alias: AliasSettings, known: set[str], problems: list[Problem]
) -> None:
    for index, wanted in enumerate(alias.fallbacks):
        where = ("aliases", name, "fallbacks", index)
        if wanted == name:
            problems.append(
                Problem(where, wanted, "an alias cannot stand in for itself; remove it")
            )
        elif wanted not in known:
            near = difflib.get_close_matches(wanted, known, n=1)
            way_out = f"did you mean {json.dumps(near[0])}?" if near else "add [aliases.NAME]"
            problems.append(Problem(where, wanted, f"no alias has this name; {way_out}"))


def _name_fault(name: str) -> str | None:
    if len(name) > NAME_LENGTH_MAX:
        return f"longer than {NAME_LENGTH_MAX} characters; shorten it"
    if not _NAME.fullmatch(name):
        return "not a usable name; use letters, digits and . _ / : @ + -, a letter or digit first"
    return None


def url_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"not a valid URL; {_EXAMPLE_URL}"
    if parts.scheme not in ("http", "https"):
        return f"must start with http:// or https://; {_EXAMPLE_URL}"
    if not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        return f"not a valid URL; {_EXAMPLE_URL}"
    if parts.username is not None or parts.password is not None:
        return "a URL must not carry a password; use credential or headers"
    if parts.query or parts.fragment:
        return "must not have a query or fragment; end it with the path"
    return None


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//[hidden]@", url)


def _sends_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not (parts.hostname or "").startswith(_LOOPBACK)
