"""What is wrong with `[dashboard.oidc]`, before anybody signs in by it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from importlib.util import find_spec
from urllib.parse import urlsplit

from merino.settings.credentials import LookUp, is_reference
from merino.settings.problems import Problem
from merino.settings.sections.dashboard import OidcSettings

_AT = ("dashboard", "oidc")
_ADDRESS = re.compile(r"[^@\s]*@[^@\s]+")
_NAME_LENGTH_MAX = 60

Refuse = Callable[[tuple[str, ...], object, str], None]
"""How a problem is told: where, what stands there, what is wrong with it."""


def check_oidc(
    oidc: OidcSettings,
    *,
    look_up: LookUp,
    has_customers: bool,
    problems: list[Problem],
    warnings: list[Problem],
) -> None:
    """`has_customers`: the portal's sign in by it, so that it needs to let in nobody else."""

    def refuse(key: str | tuple[str, ...], value: object, message: str) -> None:
        keys = (key,) if isinstance(key, str) else key
        problems.append(Problem((*_AT, *keys), value, message))

    if find_spec("authlib") is None:
        problems.append(Problem(_AT, None, "needs Authlib; pip install 'merino[oidc]'"))
    if oidc.issuer and (message := _address_fault(oidc.issuer, "https://id.example.org")):
        refuse("issuer", oidc.issuer, message)
    for key, text in (("client_id", oidc.client_id), ("claim", oidc.claim), ("name", oidc.name)):
        if not text.strip() or not text.isprintable():
            refuse(key, text, "empty or not printable; write it out")
    if len(oidc.name) > _NAME_LENGTH_MAX:
        refuse("name", oidc.name, f"longer than {_NAME_LENGTH_MAX} characters; shorten it")
    if oidc.client_secret:
        try:
            look_up(oidc.client_secret)
        except ValueError as error:
            shown = oidc.client_secret if is_reference(oidc.client_secret) else "[hidden]"
            refuse("client_secret", shown, str(error))
        if not is_reference(oidc.client_secret):
            message = (
                "stands in the settings file; put it in the environment or a file, and write "
                'client_secret = "env:NAME" or "file:PATH"'
            )
            warnings.append(Problem((*_AT, "client_secret"), None, message))
    if "openid" not in oidc.scopes:
        refuse("scopes", list(oidc.scopes), 'must have "openid"; add it')
    if oidc.claim == "email" and "email" not in oidc.scopes:
        message = 'do not ask for "email", which is the claim; add it'
        warnings.append(Problem((*_AT, "scopes"), list(oidc.scopes), message))
    if oidc.public_url is not None:
        if message := _address_fault(oidc.public_url, "https://relay.example.org"):
            refuse("public_url", oidc.public_url, message)
        elif urlsplit(oidc.public_url).path.strip("/"):
            refuse("public_url", oidc.public_url, "must have no path; end it with the host")
    if oidc.ca_file is not None and not oidc.ca_file.is_file():
        refuse("ca_file", str(oidc.ca_file), "no such file")
    is_empty = _check_people(oidc, refuse)
    if is_empty and not has_customers:
        refuse(("operators",), None, 'nobody could sign in; write e.g. ["you@example.org"]')


def _check_people(oidc: OidcSettings, refuse: Refuse) -> bool:
    """Whether nobody is named."""
    people: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(("operators",), oidc.operators)]
    groups = [(("operator_groups",), oidc.operator_groups)]
    for name, each in oidc.accounts.items():
        at = ("accounts", name)
        people += [((*at, "owners"), each.owners), ((*at, "viewers"), each.viewers)]
        groups += [
            ((*at, "owner_groups"), each.owner_groups),
            ((*at, "viewer_groups"), each.viewer_groups),
        ]
    for key, names in (*people, *groups):
        if any(not name.strip() for name in names):
            refuse(key, None, "has an empty entry; remove it")
    for key, names in people:
        for name in names:
            if oidc.claim == "email" and name.strip() and not _ADDRESS.fullmatch(name):
                refuse(key, name, "not a mail address; write one, or @example.org for all of it")
            elif oidc.claim != "email" and name.startswith("@"):
                message = f'@... means mail addresses, but claim is "{oidc.claim}"; name each'
                refuse(key, name, message)
    if any(names for _, names in groups) and not oidc.groups_claim:
        refuse(("groups_claim",), None, "empty, but groups are given; name their claim")
    return not oidc.account_claim and not any(names for _, names in (*people, *groups))


def is_loopback(host: str | None) -> bool:
    """Whether nobody can listen on the way there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def is_https_or_local(url: str) -> bool:
    """Whether a URL is https, or http on this very machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or not url.isascii():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def _address_fault(url: str, example: str) -> str | None:
    if not is_https_or_local(url) or not url.isprintable() or " " in url:
        return f"must be an https:// address (http:// on this machine only); write e.g. {example}"
    if urlsplit(url).query or urlsplit(url).fragment:
        return "must not have a query or fragment; end it with the path"
    return None
