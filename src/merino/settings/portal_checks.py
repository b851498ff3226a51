"""What must fit together before customers can come in."""

from __future__ import annotations

import re
from collections.abc import Callable

from merino.settings.oidc_checks import is_https_or_local
from merino.settings.problems import Problem
from merino.settings.tree import Settings

LOGO_BYTES_MAX = 200 * 1024
LOGO_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}
_DOMAIN = re.compile(r"@?\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


def check_portal(settings: Settings, problems: list[Problem]) -> None:
    portal = settings.portal

    def refuse(key: str, value: object, message: str) -> None:
        problems.append(Problem(("portal", key), value, message))

    for key, domains in (("domains", portal.domains), ("blocked_domains", portal.blocked_domains)):
        for domain in domains:
            if not _DOMAIN.fullmatch(domain):
                refuse(key, domain, "not a domain such as example.org")
    for key, url in (("public_url", portal.public_url), ("terms_url", portal.terms_url)):
        if url is not None and not is_https_or_local(url):
            refuse(key, url, "must be an https:// address (http:// on this machine only)")
    if not portal.enabled:
        return
    if portal.logo is not None:
        _check_logo(settings, refuse)
    if not portal.methods:
        refuse("methods", None, 'empty: nobody could sign up; write e.g. ["email"]')
    if {"email", "invitation"} & set(portal.methods) and settings.notices.smtp is None:
        refuse("methods", None, "codes are mailed, so add [notices.smtp]; or use only oidc")
    if "oidc" in portal.methods and settings.dashboard.oidc is None:
        refuse("methods", None, "oidc is the provider of [dashboard.oidc]; add that section")


def _check_logo(settings: Settings, refuse: Callable[[str, object, str], None]) -> None:
    logo = settings.portal.logo
    assert logo is not None
    if not logo.is_file():
        refuse("logo", str(logo), "no such file")
    elif logo.suffix.lower() not in LOGO_TYPES:
        refuse("logo", str(logo), "must be an .svg, .png or .webp file")
    elif logo.stat().st_size > LOGO_BYTES_MAX:
        refuse("logo", str(logo), f"is larger than {LOGO_BYTES_MAX // 1024} KB; make it smaller")
