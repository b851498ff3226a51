"""The data folder and its disk."""

from __future__ import annotations

import os

import pytest

from merino.doctor.folder import check_disk, check_folder, check_free_bytes


def test_a_private_folder_is_fine(tmp_path) -> None:
    """As a relay leaves it: for its owner only."""
    tmp_path.chmod(0o700)

    assert ["ok"] == [each.severity for each in check_folder(tmp_path)]


def test_others_must_not_look_into_it(tmp_path) -> None:
    """Whoever reads the folder is its administrator."""
    tmp_path.chmod(0o755)

    assert [("folder", "warning")] == [(each.id, each.severity) for each in check_folder(tmp_path)]


def test_a_folder_that_is_not_there_is_not_made(tmp_path) -> None:
    """A misspelt name is told."""
    assert ["problem"] == [each.severity for each in check_folder(tmp_path / "typo")]
    assert not (tmp_path / "typo").exists()


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch) -> None:
    """Started once as root, a file may belong to root; root itself may write everything."""
    (tmp_path / "merino.db").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith(".db"))
    (found,) = check_folder(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (whole,) = check_folder(tmp_path)

    assert ("problem", True) == (found.severity, "merino.db" in found.seen)
    assert ("problem", False) == (whole.severity, "merino.db" in whole.seen)


@pytest.mark.parametrize(
    ("free", "severity"),
    [(2 * 1024**3, "ok"), (1024**3, "ok"), (1024**3 - 1, "warning"), (1024**2, "problem")],
)
def test_a_full_disk_is_seen_coming(free, severity, tmp_path) -> None:
    """Below 1 GiB a warning, below 100 MiB a problem."""
    (found,) = check_free_bytes(free, tmp_path)

    assert ("disk-space", severity) == (found.id, found.severity)


def test_the_folders_own_disk_is_looked_at(tmp_path) -> None:
    """The real number, whatever it is."""
    assert ["disk-space"] == [each.id for each in check_disk(tmp_path)]
