"""Whatever a page links to is there; whatever page there is can be reached."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[3]
SITE = runpy.run_path(str(ROOT / "docs" / "site.py"))
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Of a page's headings, as repositories' hosts make them."""
    seen: dict[str, int] = {}
    found: set[str] = set()
    for heading in _HEADING.findall(SITE["_FENCE"].sub("", path.read_text(encoding="utf-8"))):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
        again = seen.get(slug, 0)
        seen[slug] = again + 1
        found.add(f"{slug}-{again}" if again else slug)
    found.update(re.findall(r'<a (?:name|id)="([^"]+)"', path.read_text(encoding="utf-8")))
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page) -> None:
    """Files are there, and the headings that are named are in them."""
    broken: list[str] = []
    for link in SITE["links"](page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        linked = (page.parent / unquote(target)).resolve() if target else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(link)
    assert [] == broken


def test_every_page_has_its_place() -> None:
    """All of the documentation is in the site's menu; decisions are in a list, advisories are
    linked."""
    listed = [page for section in SITE["nav"]().values() for page in section]
    there = {str(SITE["staged"](path)) for path in SITE["pages"]()} | SITE["MADE"]
    aside = {page for page in there if re.match(r"decisions/\d|security/", page)}
    assert len(listed) == len(set(listed))
    assert set(listed) == there - aside


def test_the_site_is_put_together(tmp_path) -> None:
    """Links between pages are those of the site; the admin API's page and the list for models are
    made."""
    SITE["stage"](tmp_path / "docs")
    upgrade = (tmp_path / "docs" / "guides" / "upgrade.md").read_text(encoding="utf-8")
    assert "[changelog](../project/changelog.md)" in upgrade
    service = (tmp_path / "docs" / "guides" / "run-as-a-service.md").read_text(encoding="utf-8")
    assert "](../files/deploy/systemd/merino.service)" in service
    assert (tmp_path / "docs" / "files" / "deploy" / "systemd" / "merino.service").is_file()
    admin = (tmp_path / "docs" / "reference" / "admin-api.md").read_text(encoding="utf-8")
    assert "## `POST /accounts/{account}/credit`" in admin
    links = set(re.findall(r"\]\(#([\w-]+)\)", admin))
    assert links <= set(re.findall(r"\{ #([\w-]+) \}", admin))
    models = (tmp_path / "docs" / "llms.txt").read_text(encoding="utf-8")
    assert models.startswith("# Merino\n\n> ")
    named = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", models, re.MULTILINE)
    assert all((tmp_path / "docs" / name).is_file() for name in named)
    assert "```" not in models
    assert "0001" in (tmp_path / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")


sys.path.append(str(ROOT / "docs"))  # the site's own modules
