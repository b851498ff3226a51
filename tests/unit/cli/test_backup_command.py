"""`merino backup` and `merino restore`, as they are typed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.in_process import run_command

from merino.storage import Store


@pytest.fixture
def data(tmp_path) -> Path:
    async def made() -> None:
        store = Store.open(tmp_path / "data")
        await store.accounts.create("mill")
        await store.close()

    asyncio.run(made())
    return tmp_path / "data"


def run(*arguments: str | Path, data: Path):
    return run_command(*map(str, arguments), "--data", str(data))


def test_the_short_form_takes_a_backup(data, tmp_path) -> None:
    """`merino backup TARGET` is `merino backup create TARGET`, wherever its options stand."""
    for form in (["backup"], ["backup", "create"], ["backup", "--keep", "3"]):
        done = run(*form, tmp_path / "kept", data=data)
        assert (0, "") == (done.returncode, done.stderr)
        assert "all that was acknowledged until 20" in done.stdout
        assert "opened and verified: 0 entries of" in done.stdout
    listed = json.loads(run("backup", "list", tmp_path / "kept", "--json", data=data).stdout)
    assert 3 == len(listed["data"])


def test_it_says_what_is_secret(data, tmp_path) -> None:
    """Plain, encrypted, without pepper: each with what that means."""
    key = tmp_path / "key"
    key.write_text("k" * 32)
    plain = run("backup", tmp_path / "a", data=data).stdout
    sealed = run("backup", tmp_path / "b", "--key-file", key, data=data).stdout
    apart = run("backup", tmp_path / "c", "--without-pepper", data=data).stdout
    assert "--key-file encrypts" in plain
    assert "without the key file, it is worthless" in sealed
    assert "the pepper is not in it" in apart


def test_only_the_newest_are_kept(data, tmp_path) -> None:
    """With --keep, and by prune."""
    for _ in range(4):
        told = run("backup", tmp_path / "kept", "--keep", "2", "--json", data=data)
    assert 1 == len(json.loads(told.stdout)["removed"])
    assert (
        "removed: 1 backup"
        in run("backup", "prune", tmp_path / "kept", "--keep", "1", data=data).stdout
    )
    assert 0 == run("backup", "verify", tmp_path / "kept", "--all", data=data).returncode


def test_a_folder_in_use_is_never_restored_into(data, tmp_path) -> None:
    """What is there stays there."""
    run("backup", tmp_path / "kept", data=data)
    refused = run("restore", tmp_path / "kept", data=data)
    assert 2 == refused.returncode
    assert f"{data} is not empty" in refused.stderr
    assert "Restore into a new folder" in refused.stderr


def test_a_damaged_backup_is_told_by_exit_code(data, tmp_path) -> None:
    """`verify` exits with 1 and names the file; a restore of it leaves no data folder."""
    run("backup", tmp_path / "kept", data=data)
    [pack] = (tmp_path / "kept" / "packs").glob("*.pack")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    done = run("backup", "verify", tmp_path / "kept", data=data)
    assert 1 == done.returncode
    assert pack.name in done.stderr
    refused = run("restore", tmp_path / "kept", data=tmp_path / "new")
    assert 2 == refused.returncode
    assert not (tmp_path / "new" / "merino.db").exists()
