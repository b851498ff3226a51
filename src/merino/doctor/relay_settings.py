"""Whether a relay could start with its settings, and where it would listen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from merino.doctor.finding import Finding, ok, problem, warning
from merino.domain.errors import Misconfigured
from merino.settings import Settings, load

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def check_settings(
    config: Path | None, environ: Mapping[str, str]
) -> tuple[Settings | None, list[Finding]]:
    """The settings, if they can be read, and one finding for each line that is wrong."""
    try:
        settings = load(config, environ)
    except Misconfigured as error:
        return None, [_wrong(line) for line in error.message.splitlines()]
    where = config or "no file, so the defaults"
    findings = [ok("settings", f"The relay's settings are fine ({where}).")]
    mend = "The relay starts with it all the same; see docs/reference/settings.md."
    findings += [warning("settings", f"{text}.", mend) for text in settings.warnings]
    return settings, findings


def base_url_of(settings: Settings | None) -> str:
    """Where programs on this machine find the relay; empty if its settings cannot be read."""
    if settings is None:
        return ""
    server = settings.server
    host = _EVERYWHERE.get(server.host, server.host)
    scheme = "https" if server.tls.cert_file else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}/v1"


def _wrong(line: str) -> Finding:
    if ".credential" in line and ("not set" in line or "is empty" in line or "be read" in line):
        mend = "Set the variable, or write the file, that the credential refers to."
        return problem("credential-missing", f"{line}.", mend)
    return problem("settings", f"{line}.", "Mend it; `merino config check` looks again.")
