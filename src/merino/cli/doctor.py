"""`merino doctor`."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from merino.cli.columns import text
from merino.cli.connection import is_relay_running, with_admin
from merino.cli.options import config_option, config_path, data_option, json_option
from merino.cli.output import print_json, write
from merino.cli.terminal import Terminal, terminal_of

if TYPE_CHECKING:
    from merino.doctor import Finding, Severity
    from merino.doctor.operator import DataFolder

PROBLEMS_EXIT = 1
_LINE_LENGTH_MAX = 2000
_INDENT = len("problem") + 2
_COLOURS: dict[Severity, str] = {"problem": "red", "warning": "yellow", "ok": "green"}


@click.command("doctor")
@click.option("--base-url", help="The server calls go to; MERINO_BASE_URL or OPENAI_BASE_URL.")
@click.option("--api-key", help="The key they carry; MERINO_API_KEY or OPENAI_API_KEY.")
@click.option("--model", help="Ask this model of a relay once; what it may cost is told first.")
@click.option(
    "--timeout-s",
    type=click.FloatRange(0, 86_400, min_open=True),
    help="How long your program waits for an answer; 600 as the openai package, if left out.",
)
@config_option
@data_option
@click.option("--all", "shows_all", is_flag=True, help="At a terminal, show what is fine, too.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    *,
    base_url: str | None,
    api_key: str | None,
    model: str | None,
    timeout_s: float | None,
    config: Path | None,
    data: Path,
    shows_all: bool,
    as_json: bool,
) -> int:
    """Say in plain words why calls fail, and how to mend it; exit code 1 if there is a problem.

    Looks at variables, base URL, key, proxies, network, certificate, clock and answers as a program
    in this environment would meet them. Where a data folder or a settings file lies, it looks at
    the relay, too: settings, folder, disk, books, prices, credentials. Keys are never shown, and a
    key that is in the wrong place is not sent.
    """
    from merino.doctor import is_healthy
    from merino.doctor.caller import STEP_TIMEOUT_S, Surroundings, examine_caller
    from merino.doctor.operator import examine_catalog, examine_folder
    from merino.doctor.relay_settings import base_url_of, check_settings
    from merino.doctor.secrets import Secrets
    from merino.doctor.target import target_of
    from merino.offer import tariff_of

    environ = dict(os.environ)
    path = config_path(config)
    is_named = context.get_parameter_source("data") is not ParameterSource.DEFAULT
    has_folder = is_named or data.is_dir()
    is_operator = has_folder or path is not None
    findings: list[Finding] = []
    settings = None
    if is_operator:
        settings, findings = check_settings(path, environ)
    target = target_of(
        base_url=base_url,
        api_key=api_key,
        model=model,
        timeout_s=timeout_s,
        environ=environ,
        local_base_url=base_url_of(settings) if is_operator else None,
    )
    secrets = [target.api_key]
    if settings is not None:
        of_catalog, credentials = examine_catalog(settings, environ, tariff_of, STEP_TIMEOUT_S)
        findings += of_catalog
        secrets += credentials
    if has_folder:
        folder = _folder(data, target.api_key, model)
        findings += examine_folder(folder, target.timeout_s)
    if not target.is_local or (settings is not None and is_relay_running(data)):
        has_records = any(each.id == "timeout-short" for each in findings)
        around = Surroundings(environ, _announce, STEP_TIMEOUT_S, has_records)
        findings += examine_caller(target, around)
    hidden = Secrets(secrets, environ)
    findings = [hidden.hide_in(each) for each in findings]
    base_url = hidden.hide(target.base_url)
    if as_json:
        _print_json(findings, base_url)
    else:
        _print(findings, shows_all=shows_all)
    return 0 if is_healthy(findings) else PROBLEMS_EXIT


def _folder(data: Path, api_key: str, model: str | None) -> DataFolder:
    from merino.doctor.books import Books, read_books
    from merino.doctor.operator import DataFolder

    def read() -> Books:
        now = datetime.now(UTC)
        return with_admin(data, lambda admin: read_books(admin, api_key, model, now))

    return DataFolder(data, lambda: is_relay_running(data), read)


def _announce(line: str) -> None:
    sys.stderr.write(f"merino: {text(line, _LINE_LENGTH_MAX)}\n")


def _counts(findings: Sequence[Finding]) -> dict[Severity, int]:
    return {severity: sum(each.severity == severity for each in findings) for severity in _COLOURS}


def _print_json(findings: Sequence[Finding], base_url: str) -> None:
    counts = _counts(findings)
    print_json(
        {
            "healthy": not counts["problem"],
            "base_url": base_url,
            "problems": counts["problem"],
            "warnings": counts["warning"],
            "findings": [
                {
                    "id": each.id,
                    "severity": each.severity,
                    "seen": each.seen,
                    "mend": each.mend or None,
                    "page": each.page,
                }
                for each in findings
            ],
        }
    )


def _print(findings: Sequence[Finding], *, shows_all: bool) -> None:
    """What is wrong comes last, where the eye ends. Whoever looks at a terminal is told in one line
    of what is fine, unless nothing else is to be said."""
    counts = _counts(findings)
    order: list[Severity] = ["ok", "warning", "problem"]
    terminal = terminal_of(sys.stdout)
    folds = terminal is not None and not shows_all and counts["ok"] < len(findings)
    if folds and counts["ok"]:
        _say("ok", f"{_counted(counts['ok'], 'check')} passed; --all shows them", (), terminal)
    for finding in sorted(findings, key=lambda each: order.index(each.severity)):
        if folds and finding.severity == "ok":
            continue
        more: list[str] = []
        if finding.mend:
            more = [*_wrapped(f"-> {text(finding.mend, _LINE_LENGTH_MAX)}", terminal), finding.page]
        _say(finding.severity, finding.seen, more, terminal)
    told = [_counted(counts["problem"], "problem"), _counted(counts["warning"], "warning")]
    healthy = "" if counts["problem"] else "healthy: "
    write(f"{healthy}{', '.join(told)}, {counts['ok']} fine")


def _say(severity: Severity, seen: str, more: Sequence[str], terminal: Terminal | None) -> None:
    mark = severity.ljust(len("problem"))
    if terminal is not None and terminal.has_colour:
        mark = click.style(mark, fg=_COLOURS[severity])
    first, *rest = _wrapped(text(seen, _LINE_LENGTH_MAX), terminal)
    write(f"{mark}  {first}")
    for line in (*rest, *more):
        write(f"{' ' * _INDENT}{line}")


def _wrapped(line: str, terminal: Terminal | None) -> list[str]:
    """Beside the marks, broken between words where a terminal would break within them."""
    if terminal is None:
        return [line]
    width = max(_INDENT, terminal.width - _INDENT)
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
