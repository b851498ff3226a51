"""What is kept comes back byte for byte, or is told to be damaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.backup.repository import BLOCK_BYTES, BackupsBusy, Repository, Snapshot, names_of
from merino.backup.sealing import Damaged, read_key_file
from merino.domain.errors import Misconfigured

KEY = b"k" * 32


def keep(repository: Repository, number: int, contents: dict[str, bytes]) -> Snapshot:
    """A backup of files with these contents."""
    name = f"2026-{number:04d}"
    with repository.changing() as place, repository.writing(name) as pack:
        files = []
        for file, content in contents.items():
            (place / "file").write_bytes(content)
            files.append(pack.add(file, place / "file"))
        pack.finish()
        snapshot = Snapshot(
            id=name,
            moment_ms=number * 1000,
            merino="1",
            schema=1,
            applied_seq=0,
            files=files,
            new_bytes=pack.new_bytes,
            has_pepper=True,
        )
        repository.commit(snapshot)
    return snapshot


def contents_of(repository: Repository, snapshot: Snapshot) -> dict[str, bytes]:
    return {file.name: b"".join(repository.content(file)) for file in snapshot.files}


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


block = st.sampled_from([b"a", b"b", b"c"]).map(lambda letter: letter * BLOCK_BYTES)
content = st.builds(
    lambda blocks, end: b"".join(blocks) + end, st.lists(block, max_size=3), st.binary(max_size=5)
)
backups = st.lists(
    st.dictionaries(st.sampled_from(["x", "d/y", "z"]), content), min_size=1, max_size=5
)


@settings(max_examples=examples(30))
@given(backups, st.booleans(), st.integers(1, 5))
def test_every_backup_comes_back(tmp_path_factory, kept, is_sealed, keep_newest) -> None:
    """Also by another process, and after older ones have been removed."""
    folder = tmp_path_factory.mktemp("kept")
    secret = KEY if is_sealed else None
    repository = Repository.make_or_open(folder, secret)
    for number, contents in enumerate(kept):
        keep(repository, number, contents)
    again = Repository.open(folder, secret)
    assert kept == [contents_of(again, snapshot) for snapshot in again.snapshots()]
    gone = again.prune(keep_newest)
    assert max(0, len(kept) - keep_newest) == len(gone)
    left = Repository.open(folder, secret)
    assert kept[-keep_newest:] == [contents_of(left, snapshot) for snapshot in left.snapshots()]
    needed = {name for each in left.snapshots() for file in each.files for name in names_of(file)}
    assert needed <= set(left._known())


def test_only_what_is_new_is_written(tmp_path) -> None:
    """A second backup of the same files writes no block; one of a changed block writes that."""
    repository = Repository.make_or_open(tmp_path / "kept", None)
    blocks = [os.urandom(BLOCK_BYTES) for _ in range(4)]
    first = keep(repository, 1, {"x": b"".join(blocks)})
    again = keep(repository, 2, {"x": b"".join(blocks), "copy": b"".join(blocks)})
    blocks[2] = os.urandom(BLOCK_BYTES)
    changed = keep(repository, 3, {"x": b"".join(blocks)})
    assert 0 == again.new_bytes
    assert first.new_bytes // 4 == pytest.approx(changed.new_bytes, rel=0.01)


@pytest.mark.parametrize("secret", [None, KEY], ids=["plain", "sealed"])
def test_a_changed_byte_never_passes(tmp_path, secret) -> None:
    """Whichever byte of whichever file it is: the content is right, or damage is told."""
    folder = tmp_path / "kept"
    contents = {"x": b"wool" * 40, "d/y": b"sheep"}
    keep(Repository.make_or_open(folder, secret), 1, contents)
    told = 0
    for path in files_of(folder):
        whole = path.read_bytes()
        for at in range(0, len(whole), 3 if len(whole) < 400 else 29):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            try:
                found = Repository.open(folder, secret)
                assert [contents] == [contents_of(found, each) for each in found.snapshots()]
            except Misconfigured:
                told += 1
            path.write_bytes(whole)
    assert told > 40


@pytest.mark.parametrize("secret", [None, KEY], ids=["plain", "sealed"])
def test_a_missing_file_is_told(tmp_path, secret) -> None:
    """A pack or an index that is gone is damage, never a shorter file."""
    folder = tmp_path / "kept"
    keep(Repository.make_or_open(folder, secret), 1, {"x": b"wool"})
    for path in files_of(folder / "packs"):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / path.relative_to(folder)).unlink()
        repository = Repository.open(copy, secret)
        with pytest.raises(Damaged, match="missing"):
            contents_of(repository, repository.snapshots()[0])
        shutil.rmtree(copy)


def test_another_key_opens_nothing(tmp_path) -> None:
    """Neither the list nor a block; and what was sealed does not show in any file."""
    folder = tmp_path / "kept"
    keep(Repository.make_or_open(folder, KEY), 1, {"secret-name": b"a secret wool" * 9})
    with pytest.raises(Damaged, match="another key file"):
        Repository.open(folder, b"o" * 32).snapshots()
    with pytest.raises(Misconfigured, match="encrypted; name --key-file"):
        Repository.open(folder, None)
    assert not [path for path in files_of(folder) if b"secret" in path.read_bytes()]


def test_a_plain_repository_takes_no_key(tmp_path) -> None:
    """Somebody who names a key believes that it is used."""
    Repository.make_or_open(tmp_path / "kept", None)
    with pytest.raises(Misconfigured, match="not encrypted"):
        Repository.make_or_open(tmp_path / "kept", KEY)


def test_the_same_content_has_other_names_with_another_key(tmp_path) -> None:
    """Who has no key cannot ask a backup whether it has a content."""
    names = {
        keep(Repository.make_or_open(tmp_path / each.hex(), each), 1, {"x": b"wool"})
        .files[0]
        .blocks
        for each in (KEY, b"o" * 32)
    }
    assert 2 == len(names)


def test_a_short_key_is_refused(tmp_path) -> None:
    """It says how to make a good one."""
    (tmp_path / "key").write_text("sheep")
    with pytest.raises(Misconfigured, match="openssl rand -hex 32"):
        read_key_file(tmp_path / "key")


def test_what_broke_off_is_swept_and_the_rest_stays(tmp_path) -> None:
    """A pack without an index, a part, a folder on the way: gone with the next backup, which does
    not rely on them."""
    folder = tmp_path / "kept"
    repository = Repository.make_or_open(folder, None)
    keep(repository, 1, {"x": b"wool"})
    (folder / "packs" / "2026-0009.pack").write_bytes(b"half")
    (folder / "packs" / "2026-0008.part").write_bytes(b"half")
    (folder / ".on-the-way-7").mkdir()
    (folder / ".on-the-way-7" / "merino.db").write_bytes(b"half")
    keep(repository, 2, {"x": b"sheep"})
    there = [path.relative_to(folder).as_posix() for path in files_of(folder)]
    assert not [path for path in there if "0008" in path or "0009" in path or "way" in path]
    again = Repository.open(folder, None)
    assert [{"x": b"wool"}, {"x": b"sheep"}] == [
        contents_of(again, each) for each in again.snapshots()
    ]


def test_two_at_once_are_not_let_in(tmp_path) -> None:
    """The second is told why."""
    repository = Repository.make_or_open(tmp_path / "kept", None)
    with repository.changing(), pytest.raises(BackupsBusy, match="is on its way"):
        with repository.changing():
            pass


def test_a_folder_with_other_things_is_left_alone(tmp_path) -> None:
    """A wrong path must not mix backups into somebody's files."""
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(Misconfigured, match=r"has other things in it \(photo\.png\)"):
        Repository.make_or_open(tmp_path, None)
    with pytest.raises(Misconfigured, match="There are no backups in"):
        Repository.open(tmp_path, None)


def test_the_newest_before_a_moment_is_found(tmp_path) -> None:
    """By time, by id; else it is told what there is."""
    repository = Repository.make_or_open(tmp_path / "kept", None)
    for number in (1, 2, 3):
        keep(repository, number, {})
    assert "2026-0003" == repository.find(None, None).id
    assert "2026-0002" == repository.find(None, 2999).id
    assert "2026-0001" == repository.find("2026-0001", None).id
    with pytest.raises(Misconfigured, match="is later than that"):
        repository.find(None, 999)
    with pytest.raises(Misconfigured, match="There is no backup sheep"):
        repository.find("sheep", None)
