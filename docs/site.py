"""Builds the documentation as a site: `make docs`. No network is needed.

Pages are those of this folder and some from the repository's root. Whatever else they link to is
put beside them. The admin API's page is made from its description, `llms.txt` from the pages.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FROM_ROOT = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
ADMIN_API = "reference/admin-api.md"
DECISIONS = "decisions/README.md"
MADE = {ADMIN_API, DECISIONS}
"""Pages that are made here."""

OF_FOLDERS = {
    "tutorial": "Begin",
    "guides": "Run it",
    "concepts": "Understand it",
    "reference": "Look it up",
    "project": "The project",
}
"""Where a page stands that the menu does not name."""
MENU: dict[str, list[str]] = {
    "Begin": [
        "index.md",
        "tutorial/quickstart.md",
        "tutorial/a-team-and-its-money.md",
        "guides/install.md",
    ],
    "Use it": [
        "guides/clients.md",
        "guides/python-client.md",
        "guides/batch.md",
        "guides/read-the-bill.md",
        "guides/benchmark.md",
        "guides/roi.md",
    ],
    "Run it": [
        "guides/connect-a-provider.md",
        "guides/providers.md",
        "guides/run-in-production.md",
        "guides/run-as-a-service.md",
        "guides/run-in-a-container.md",
        "guides/run-on-kubernetes.md",
        "guides/behind-a-proxy.md",
        "guides/limits-and-failover.md",
        "guides/backup-and-restore.md",
        "guides/upgrade.md",
        "guides/dashboard.md",
        "guides/observe.md",
        "guides/come-from-another-relay.md",
    ],
    "Bill with it": [
        "guides/keys-and-accounts.md",
        "guides/credits-and-payments.md",
        "guides/portal.md",
        "guides/reconcile.md",
    ],
    "Understand it": [
        "concepts/one-call.md",
        "concepts/money.md",
        "concepts/glossary.md",
        "benchmarks.md",
    ],
    "Look it up": [
        "reference/cli.md",
        "reference/settings.md",
        "reference/http.md",
        ADMIN_API,
        "reference/errors.md",
        "reference/doctor.md",
        "reference/metrics.md",
        "reference/translation.md",
        "reference/treatment.md",
        "reference/simulator.md",
        "reference/versions.md",
        "reference/licences.md",
    ],
    "The project": [
        "project/changelog.md",
        "project/security.md",
        "project/architecture.md",
        "project/contributing.md",
        "design/README.md",
        DECISIONS,
    ],
}
_LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\]\()([^)\s]+)(\))")
_FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", type=Path, default=ROOT / ".venv" / "site")
    parser.add_argument("--zensical", type=Path, required=True)
    given = parser.parse_args()
    source, built = given.place / "docs", given.place / "site"
    shutil.rmtree(given.place, ignore_errors=True)
    stage(source)
    (given.place / "zensical.toml").write_text(config(), encoding="utf-8")
    command = [str(given.zensical.absolute()), "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=given.place, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    shutil.copy(source / "llms.txt", built / "llms.txt")
    shutil.copy(source / "llms-full.txt", built / "llms-full.txt")
    if broken := broken_links(built):
        sys.exit("\n".join(["Links of the site that lead nowhere:", *broken]))
    print(f"the site is in {built}")


def stage(place: Path) -> None:
    """All that the site is made of, its links as they are there."""
    place.mkdir(parents=True)
    wanted: set[Path] = set()
    for path in pages():
        target = place / staged(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(relinked(path, wanted), encoding="utf-8")
    for path in wanted - set(pages()):
        target = place / staged(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (place / ADMIN_API).write_text(admin_api(), encoding="utf-8")
    (place / DECISIONS).write_text(decisions(), encoding="utf-8")
    (place / "llms.txt").write_text(llms(place), encoding="utf-8")
    every = [
        (place / page).read_text(encoding="utf-8") for section in nav().values() for page in section
    ]
    (place / "llms-full.txt").write_text("\n\n".join(every), encoding="utf-8")


def pages() -> list[Path]:
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in FROM_ROOT)]


def nav() -> dict[str, list[str]]:
    """The menu, with pages that it does not name at the end of a section."""
    found = {section: list(names) for section, names in MENU.items()}
    listed = {page for names in MENU.values() for page in names}
    for path in pages():
        page = staged(path)
        if str(page) not in listed and page.parts[0] in OF_FOLDERS:
            found[OF_FOLDERS[page.parts[0]]].append(str(page))
    return found


def staged(path: Path) -> Path:
    """Where a file of the repository is in the site's source."""
    inside = path.relative_to(ROOT)
    if inside.parts[0] == "docs":
        return Path(*inside.parts[1:])
    if inside.name in FROM_ROOT and len(inside.parts) == 1:
        return Path("project") / inside.name.lower()
    return Path("files") / inside


def links(text: str) -> Iterator[str]:
    """Where a page leads to, but for what stands in its snippets."""
    for found in _LINK.finditer(_FENCE.sub("", text)):
        yield found[2]


def is_local(target: str) -> bool:
    return not re.match(r"[a-z]+:|#|/", target)


def relinked(path: Path, wanted: set[Path]) -> str:
    def moved(found: re.Match[str]) -> str:
        target, mark, anchor = found[2].partition("#")
        if not is_local(found[2]):
            return found[0]
        linked = (path.parent / unquote(target)).resolve()
        if not linked.is_file():
            return found[0]  # the build says so
        wanted.add(linked)
        here = os.path.relpath(staged(linked), staged(path).parent)
        return f"{found[1]}{here}{mark}{anchor}{found[3]}"

    return _LINK.sub(moved, path.read_text(encoding="utf-8"))


class _Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.names.add(value)
            elif name in {"href", "src"} and value:
                self.links.append(value)


def broken_links(built: Path) -> list[str]:
    """Of the pages as they are served: files and places in them that are not there, and whatever
    would be fetched from elsewhere."""
    pages = {
        path.resolve(): _Page(path) for path in built.rglob("*.html") if path.name != "404.html"
    }
    broken: list[str] = []
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            linked = (path.parent / target).resolve() if target else path
            linked = linked / "index.html" if linked.is_dir() else linked
            known = pages.get(linked)
            if not linked.exists() or (anchor and known and anchor not in known.names):
                broken.append(f"{path.relative_to(built.resolve())}: {link}")
    return sorted(set(broken))


def title_of(text: str) -> str:
    return next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), "")


SUMMARY = (
    "A self-hosted relay that speaks OpenAI's chat completions and Responses API, with exact "
    "prepaid money: every call is held, relayed, metered and settled. One Python process, one data "
    "folder."
)


def llms(place: Path) -> str:
    """For models that read documentation: what there is, and where (llmstxt.org)."""
    lines = ["# Merino", "", f"> {SUMMARY} Whole text of all pages: llms-full.txt"]
    for section, names in nav().items():
        lines += ["", f"## {section}", ""]
        for name in names:
            text = (place / name).read_text(encoding="utf-8")
            lines.append(f"- [{title_of(text)}]({name}): {beginning(text)}".rstrip(": "))
    return "\n".join(lines) + "\n"


def beginning(text: str) -> str:
    """The first sentence of a page, without links."""
    plain = re.sub(r"<!--.*?-->", "", _FENCE.sub("", text), flags=re.DOTALL)
    for part in re.split(r"\n\s*\n", plain):
        words = " ".join(part.split())
        if words and not re.match(r"[#|<*!\-\d]", words):
            sentence = re.split(r"(?<=[.:])\s", words)[0]
            return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", sentence)
    return ""


def decisions() -> str:
    """A list, by number."""
    rows = []
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        title = title_of(path.read_text(encoding="utf-8"))
        rows.append(f"- [{title}]({path.name})")
    return (
        "# Decisions\n\nWhat somebody will ask about, and why it is so.\n\n"
        + "\n".join(rows)
        + "\n"
    )


def config() -> str:
    menu = ",\n".join(
        f'  {{ "{section}" = [{", ".join(f"{page!r}" for page in names)}] }}'
        for section, names in nav().items()
    )
    return f"""
[project]
site_name = "Merino"
site_description = "A self-hosted, OpenAI-compatible relay with exact money"
docs_dir = "docs"
site_dir = "site"
use_directory_urls = false
nav = [
{menu}
]
[project.theme]
language = "en"
font = false
features = [
  "content.code.copy", "navigation.sections", "navigation.top", "navigation.footer",
  "search.highlight",
]
[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Dark"
[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Light"
[project.markdown_extensions]
attr_list = {{}}
tables = {{}}
toc.permalink = true
toc.slugify = {{ object = "pymdownx.slugs.slugify", kwds = {{ case = "lower" }} }}
pymdownx.highlight.pygments_lang_class = true
pymdownx.superfences = {{}}
"""


INTRO = """\
What operators do, as HTTP: the dashboard and the command line use the same. Send an admin key
(`mka-...`) as `Authorization: Bearer`. Over `admin.sock` in the data folder no key is asked for. A
running relay gives this description as `/admin/v1/openapi.json`.

Lists come in pages: `limit` and `cursor` in, `next_cursor` out. Amounts of money are texts with up
to nine decimals, beside whole numbers of nano-units (`..._nanos`). Times are ISO 8601 in UTC.

Errors have a `code`, a `message` and, where a field is wrong, its name as `param`; any operation
may answer 400, 401, 404, 413, 415 or 503. What changes money takes an `Idempotency-Key`: a repeat
gets the first answer.
"""


def admin_api() -> str:
    """Every operation, from the description that the relay gives."""
    from api_page import api_page

    from merino import __version__
    from merino.api.openapi import describe
    from merino.api.problems import ErrorBody
    from merino.control_plane import OPERATIONS

    described = describe(OPERATIONS, ErrorBody, version=__version__, server="/admin/v1")
    return api_page(described, "The admin API", INTRO)


if __name__ == "__main__":
    main()
