"""Environment variables that say different things, or nothing any more."""

from __future__ import annotations

from collections.abc import Mapping

from merino.doctor.finding import Finding, problem, warning
from merino.doctor.secrets import shown, without_password
from merino.doctor.target import Target


def check_variables(environ: Mapping[str, str], target: Target) -> list[Finding]:
    findings: list[Finding] = []
    merino_url = environ.get("MERINO_BASE_URL", "").strip()
    openai_url = environ.get("OPENAI_BASE_URL", "").strip()
    if merino_url and openai_url and merino_url.rstrip("/") != openai_url.rstrip("/"):
        findings.append(
            warning(
                "base-url-override",
                f"MERINO_BASE_URL is {without_password(merino_url)}, OPENAI_BASE_URL is "
                f"{without_password(openai_url)}. Merino's client and commands go to the first, "
                "the openai package to the second.",
                "Set both to the same, or unset the one you do not mean.",
            )
        )
    merino_key = environ.get("MERINO_API_KEY", "").strip()
    openai_key = environ.get("OPENAI_API_KEY", "").strip()
    # On the relay's own machine OPENAI_API_KEY is a credential, and differs rightly.
    if merino_key and openai_key and merino_key != openai_key and not target.is_local:
        findings.append(
            warning(
                "key-override",
                f"MERINO_API_KEY is {shown(merino_key)}, OPENAI_API_KEY is {shown(openai_key)}. "
                "Merino's client and commands send the first, the openai package the second.",
                "Set both to the relay's key where programs talk to the relay only; else give "
                "api_key in the program.",
            )
        )
    sources = {target.base_url_from.partition("_")[0], target.api_key_from.partition("_")[0]}
    if sources == {"MERINO", "OPENAI"}:
        findings.append(
            warning(
                "mixed-variables",
                f"The base URL comes from {target.base_url_from}, the key from "
                f"{target.api_key_from}: the key may belong to another server.",
                "Set MERINO_BASE_URL and MERINO_API_KEY together, or OPENAI_BASE_URL and "
                "OPENAI_API_KEY together.",
            )
        )
    findings += _legacy(environ, has_base_url=bool(merino_url or openai_url))
    return findings


def _legacy(environ: Mapping[str, str], *, has_base_url: bool) -> list[Finding]:
    legacy = environ.get("OPENAI_API_BASE", "").strip()
    if not legacy:
        return []
    seen = f"OPENAI_API_BASE is {without_password(legacy)}; openai 1.0 and later do not read it."
    mend = "Name it OPENAI_BASE_URL, and unset OPENAI_API_BASE."
    if has_base_url:
        return [warning("legacy-variable", seen, mend)]
    return [problem("legacy-variable", f"{seen} Calls go to api.openai.com instead.", mend)]
