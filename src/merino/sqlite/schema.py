"""The schema's versions: numbered files, each run once."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

from pathlib import Path

import apsw

from merino.domain.errors import Misconfigured

MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaTooNew(Misconfigured):
    """The folder was written by a later version of Merino."""


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the database at `path` to the newest version. Raises `SchemaTooNew`."""
    version = connection.pragma("user_version")
    scripts = sorted(MIGRATIONS.glob("*.sql"))
    newest = int(scripts[-1].name[:4])
    if version > newest:
        raise SchemaTooNew(
            f"{path} has schema version {version}; this Merino knows up to {newest}. Use the "
            "version of Merino that wrote it, or a later one."
        )
    for script in scripts:
        number = int(script.name[:4])
        if number > version:
            with connection:
                connection.execute(script.read_text(encoding="utf-8"))
                connection.pragma("user_version", number)
