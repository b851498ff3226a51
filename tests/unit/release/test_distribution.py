"""What is published is complete, and says its version and its licences."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
LICENCES = (ROOT / "docs" / "reference" / "licences.md").read_text(encoding="utf-8")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The source distribution, and the wheel that is built from it alone."""
    folder = tmp_path_factory.mktemp("built")
    hatchling = (sys.executable, "-m", "hatchling", "build", "-d", folder)
    run(*hatchling, "-t", "sdist", cwd=ROOT)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    run(*hatchling, "-t", "wheel", cwd=unpacked)
    return folder


def test_the_wheel_has_every_file_of_the_package(built) -> None:
    """Pages, prices, migrations, words: what stands in the folder is in the wheel, and nothing
    else, though it was built from the source distribution."""
    folder = ROOT / "src" / "merino"
    there = {
        f"merino/{path.relative_to(folder)}"
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".swp"}
    }
    (wheel,) = built.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert there == packed


def test_both_are_of_one_version(built) -> None:
    """The wheel takes its version from the source distribution, where there is no git."""
    (wheel,) = built.glob("*.whl")
    (source,) = built.glob("*.tar.gz")
    assert source.name.removesuffix(".tar.gz") == "-".join(wheel.name.split("-")[:2])


def test_licences_of_what_is_bundled_go_with_it(built) -> None:
    """Every licence file of the package is among the wheel's licences."""
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    bundled = [path.relative_to(ROOT) for path in (ROOT / "src").rglob("LICENSE*")]
    assert bundled
    assert all(any(n.endswith(f"licenses/{path}") for n in names) for path in bundled)
    assert all(str(path.parent.name) in LICENCES for path in bundled)


def test_every_pinned_requirement_has_a_licence_that_is_told() -> None:
    """The page of licences names what is installed beside the wheel, with its licence."""
    locks = [ROOT / "requirements" / name for name in ("runtime.lock", "build.lock")]
    lock = "\n".join(path.read_text(encoding="utf-8") for path in locks)
    pinned = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    told = dict(re.findall(r"^\| `([\w.-]+)` \| ([^|]+?) \|", LICENCES, re.MULTILINE))
    assert pinned == set(told) - {"uplot"}
    for name in pinned:
        try:
            said = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # for another system or Python
            continue
        if "License-Expression" in said:
            assert (name, said["License-Expression"]) == (name, told[name])


def test_the_bill_of_materials_has_what_is_bundled() -> None:
    """Every folder of others' files is a component of the bill, with version and licence."""
    found = runpy.run_path(str(ROOT / "release" / "dist.py"))["bundled"]()
    vendor = ROOT / "src" / "merino" / "pages" / "static" / "vendor"
    folders = {path.name for path in vendor.iterdir() if path.is_dir()}
    assert folders == {each["name"] for each in found}
    assert all(each["version"] and each["licenses"] for each in found)


def test_without_a_tag_the_version_follows_the_newest_release() -> None:
    """A clone without tags is of the release that the changelog names first."""
    newest = re.search(r"^## \[(\d[^\]]*)\]", CHANGELOG, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["tool"]["hatch"]["version"]["fallback-version"]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A repository with this project's rules for the version, and one commit."""
    folder = tmp_path / "checkout"
    (folder / "src" / "merino").mkdir(parents=True)
    (folder / "src" / "merino" / "__init__.py").write_text("")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".git_archival.txt", ".gitattributes"):
        shutil.copy(ROOT / name, folder / name)
    run("git", "init", "-q", "-b", "main", cwd=folder)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    run("git", "add", "-A", cwd=folder)
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    run("git", *who, "commit", "-q", "--allow-empty", "-m", "A change", cwd=folder)


def version_in(folder: Path) -> str:
    code = (
        "from hatchling.metadata.core import ProjectMetadata\n"
        "from hatchling.plugin.manager import PluginManager\n"
        "print(ProjectMetadata('.', PluginManager()).version)"
    )
    return run(sys.executable, "-W", "ignore", "-c", code, cwd=folder).strip()


def test_a_tag_is_the_version(checkout) -> None:
    """On the tag it is the version alone; behind it, one on the way to the next."""
    run("git", "tag", "v3.4.5", cwd=checkout)
    assert "3.4.5" == version_in(checkout)
    commit(checkout)
    assert version_in(checkout).startswith("3.4.6.dev1+g")


def test_a_clone_of_one_commit_has_a_version(checkout, tmp_path) -> None:
    """Without history and tags it is one behind the newest release of the changelog."""
    run("git", "tag", "v3.4.5", cwd=checkout)
    commit(checkout)
    shallow = tmp_path / "shallow"
    run("git", "clone", "-q", "--depth", "1", "--no-tags", checkout.as_uri(), shallow, cwd=tmp_path)
    newest = PROJECT["tool"]["hatch"]["version"]["fallback-version"].split(".")
    next_one = ".".join([*newest[:-1], str(int(newest[-1]) + 1)])
    assert version_in(shallow).startswith(f"{next_one}.dev1+g")


def test_an_archive_of_git_has_the_versions_of_its_commit(checkout, tmp_path) -> None:
    """What a repository's page offers for download has no git in it."""
    run("git", "tag", "v3.4.5", cwd=checkout)
    run("git", "archive", "-o", tmp_path / "it.tar", "HEAD", cwd=checkout)
    with tarfile.open(tmp_path / "it.tar") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert "3.4.5" == version_in(tmp_path / "unpacked")


def test_a_copy_without_anything_has_the_newest_release(checkout) -> None:
    """Neither git nor an archive's note: the version of the changelog."""
    shutil.rmtree(checkout / ".git")
    (checkout / ".git_archival.txt").unlink()
    newest = PROJECT["tool"]["hatch"]["version"]["fallback-version"]
    assert newest == version_in(checkout)
