"""For operators: stored benchmarks, the settings in force, and who changed what."""

from __future__ import annotations

import json
import typing
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from starlette.responses import HTMLResponse, Response, StreamingResponse

from merino.dashboard.parts import Visit
from merino.domain.addition import Place
from merino.domain.clock import iso
from merino.domain.errors import NotFound
from merino.domain.money import format_nanos
from merino.domain.spreadsheet import csv_text

BENCHMARKS = "benchmarks"
_REPORT = "report.html"
_REPORT_BYTES_MAX = 64 * 1024 * 1024
_AUDIT_PAGE = 100
_AUDIT_EXPORT, _AUDIT_EXPORT_PAGES = 500, 200
HIDDEN = "[hidden]"


class Report(NamedTuple):
    """A run of `merino bench` in the data folder."""

    name: str
    kind: str
    at: str
    targets: str
    is_valid: bool


async def benchmarks(visit: Visit) -> Response:
    folder = visit.desk.data / BENCHMARKS
    return await visit.page("benchmarks.html", reports=_reports(folder), folder=str(folder))


async def benchmark(visit: Visit) -> Response:
    """A stored page, in a sandbox: it is shown, and can do nothing."""
    name = visit.request.path_params["name"]
    known = {report.name for report in _reports(visit.desk.data / BENCHMARKS)}
    path = visit.desk.data / BENCHMARKS / name / _REPORT
    if name not in known or not path.is_file() or path.stat().st_size > _REPORT_BYTES_MAX:
        raise NotFound("There is no such report.")
    policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    headers = {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(path.read_bytes(), 200, headers)


async def settings_page(visit: Visit) -> Response:
    settings = visit.desk.settings()
    rows = [
        row._replace(source="added") if _is_added(row, settings.added) else row
        for row in setting_rows(settings, visit.desk.environ, visit.desk.given)
    ]
    text, is_set = visit.query("q").strip(), visit.query("set") == "1"
    found = [
        row
        for row in rows
        if (not is_set or row.source != "default")
        and text.lower() in f"{row.name} {row.value} {row.doc}".lower()
    ]
    groups: dict[str, list[SettingRow]] = {}
    for row in found:
        groups.setdefault(_section_of(row.name), []).append(row)
    return await visit.page(
        "settings.html",
        groups=groups,
        count=len(found),
        all_count=len(rows),
        set_count=sum(row.source != "default" for row in rows),
        text=text,
        is_set=is_set,
        file=settings.path,
    )


def _is_added(row: SettingRow, added: Collection[Place]) -> bool:
    """Whether it was said of a deployment or alias that stands in no file."""
    return row.source == "file" and any(
        row.name.startswith(f"deployments[{name}]." if kind == "deployment" else f"aliases.{name}.")
        for kind, name in added
    )


def _section_of(name: str) -> str:
    section, dot, _ = name.rpartition(".")
    return section if dot else "relay"


async def audit(visit: Visit) -> Response:
    log = visit.control.audit
    text = visit.query("q").strip()[:100]
    page = await log.lines(limit=_AUDIT_PAGE, cursor=visit.query("cursor") or None, text=text)
    return await visit.page("audit.html", lines=page.items, next_cursor=page.next_cursor, text=text)


async def export_audit(visit: Visit) -> Response:
    """As CSV: all that match, up to a limit, the newest first."""
    log = visit.control.audit
    text = visit.query("q").strip()[:100]

    async def lines() -> AsyncIterator[str]:
        yield csv_text([("at", "who", "what", "of", "details")])
        cursor: str | None = None
        for _ in range(_AUDIT_EXPORT_PAGES):
            page = await log.lines(limit=_AUDIT_EXPORT, cursor=cursor, text=text)
            yield csv_text(
                [(iso(each.at_ms), each.actor, each.action, each.target, each.details)
                 for each in page.items]
            )  # fmt: skip
            cursor = page.next_cursor
            if cursor is None:
                return

    headers = {
        "content-disposition": 'attachment; filename="audit.csv"',
        "cache-control": "no-store",
    }
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


class SettingRow(NamedTuple):
    """`source` is `default`, `file`, `environment` or `command line`."""

    name: str
    value: str
    source: str
    doc: str


def setting_rows(
    settings: Any, environ: Mapping[str, str], given: frozenset[str], prefix: str = ""
) -> Iterator[SettingRow]:
    """Every setting in force; secrets hidden, references to them shown."""
    for each in fields(settings):
        if "doc" not in each.metadata:
            continue
        value = getattr(settings, each.name)
        name = f"{prefix}{each.metadata.get('key', each.name)}"
        if is_dataclass(value):
            yield from setting_rows(value, environ, given, f"{name}.")
        elif isinstance(value, tuple) and value and is_dataclass(cast("Any", value[0])):
            for index, item in enumerate(cast("tuple[Any, ...]", value)):
                yield from setting_rows(item, {}, given, f"{name}[{getattr(item, 'name', index)}].")
        elif isinstance(value, Mapping) and each.metadata.get("named_sections"):
            for key, item in cast("Mapping[str, Any]", value).items():
                yield from setting_rows(item, {}, given, f"{name}.{key}.")
        else:
            yield SettingRow(
                name,
                _shown(each, value),
                _source(each, value, name, environ, given),
                each.metadata["doc"],
            )


def _shown(each: Field[Any], value: Any) -> str:
    if value is None or value in ("", (), {}):
        return "-"
    if each.metadata.get("secret"):
        if isinstance(value, Mapping):
            names = cast("Mapping[str, str]", value)
            return ", ".join(f"{name}: {_reference(text)}" for name, text in names.items())
        return _reference(str(value))
    if each.metadata.get("amount"):
        return format_nanos(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in typing.cast("tuple[Any, ...]", value))
    return str(value)


def _reference(text: str) -> str:
    """Where a secret is, if that is what is written; never the secret."""
    return text if text.startswith(("env:", "file:")) else HIDDEN


def _source(
    each: Field[Any], value: Any, name: str, environ: Mapping[str, str], given: frozenset[str]
) -> str:
    variable = "MERINO_" + name.upper().replace(".", "__")
    if variable in given:
        return "command line"
    if variable in environ:
        return "environment"
    default = each.default
    if default is MISSING and each.default_factory is not MISSING:
        default = each.default_factory()
    return "default" if value == default else "file"


def _reports(folder: Path) -> list[Report]:
    found: list[Report] = []
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir(), reverse=True):
        try:
            result = json.loads((path / "result.json").read_bytes())
            targets = ", ".join(str(each["name"]) for each in result["targets"])
            found.append(
                Report(
                    path.name,
                    str(result["kind"]),
                    str(result["at"]),
                    targets,
                    not result.get("why_invalid"),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
