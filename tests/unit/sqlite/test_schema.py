"""Every version reads what any earlier one wrote."""

from __future__ import annotations

import apsw
import pytest

from merino.sqlite.database import Database
from merino.sqlite.schema import MIGRATIONS, SchemaTooNew

SCRIPTS = sorted(MIGRATIONS.glob("*.sql"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_database_of_any_version_becomes_the_newest(script, tmp_path) -> None:
    """It has the same tables, columns and indexes as a new one."""
    newest, old = tmp_path / "new.db", tmp_path / "old.db"
    connection = apsw.Connection(str(old))
    for each in SCRIPTS[: SCRIPTS.index(script) + 1]:
        connection.execute(each.read_text(encoding="utf-8"))
        connection.pragma("user_version", int(each.name[:4]))
    connection.close()
    assert schema_of(newest) == schema_of(old)


def test_a_database_of_a_later_version_is_left_alone(tmp_path) -> None:
    """It is refused, and says what it would take."""
    path = tmp_path / "merino.db"
    Database.to_write(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", int(SCRIPTS[-1].name[:4]) + 1)
    connection.close()
    with pytest.raises(
        SchemaTooNew, match="Use the version of Merino that wrote it, or a later one"
    ):
        Database.to_write(path)


def schema_of(path) -> list[tuple[str, str | None]]:
    database = Database.to_write(path)
    try:
        return list(database.execute("SELECT name, sql FROM sqlite_schema ORDER BY name"))
    finally:
        database.close()
