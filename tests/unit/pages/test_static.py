"""What pages bring along: third parties' files as they were published, and colours one can read."""

from __future__ import annotations

import gzip
import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

STATIC = files("merino.pages") / "static"
OWN = files("merino.dashboard") / "static"
DESIGN = Path(__file__).parents[3] / "docs" / "design" / "README.md"
ASSETS_MAX = 200 * 1024
CHARTED_MAX = 400 * 1024


def palette() -> dict[str, tuple[str, str]]:
    """Each colour on light and on dark pages."""
    text = (STATIC / "palette.css").read_text()
    found = re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", text)
    return {name: (light, dark) for name, light, dark in found}


def contrast(one: str, other: str) -> float:
    """By the formula of WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TEXT = [
    *((ink, on) for ink in ("ink", "soft") for on in ("ground", "paper", "band", "lift")),
    *((ink, on) for ink in ("accent", "good", "warn", "bad") for on in ("ground", "paper", "lift")),
    ("on-accent", "accent"), ("accent", "tint"), ("good", "good-tint"), ("warn", "warn-tint"),
    ("bad", "bad-tint"),
]  # fmt: skip
SHAPES = [(ink, "paper") for ink in ("edge", *(f"c{n}" for n in range(8)))]


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_text_can_be_read(scheme) -> None:
    """At least 4.5 to 1, as AA asks; borders of fields and colours of charts at least 3 to 1."""
    colours = palette()
    for pairs, least in ((TEXT, 4.5), (SHAPES, 3.0)):
        for ink, on in pairs:
            assert contrast(colours[ink][scheme], colours[on][scheme]) >= least, (ink, on)


def test_the_contrasts_in_the_documentation_are_these() -> None:
    """The table of tokens says what the stylesheet does."""
    colours = palette()
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` on `([a-z-]+)` \| ([0-9.]+) \| ([0-9.]+) \|$",
        DESIGN.read_text(),
        re.MULTILINE,
    )
    assert set(TEXT) | set(SHAPES) >= {(ink, on) for ink, on, *_ in rows}
    assert len(rows) > 12
    for ink, on, *said in rows:
        assert said == [f"{contrast(colours[ink][n], colours[on][n]):.1f}" for n in (0, 1)], (
            ink,
            on,
        )


def test_files_of_others_are_as_they_were_published() -> None:
    """Each has its checksum and its licence beside it."""
    note = (STATIC / "vendor" / "README.md").read_text()
    for folder in (STATIC / "vendor").iterdir():
        if not folder.is_dir():
            continue
        names = {each.name for each in folder.iterdir()}
        assert "LICENSE" in names, folder.name
        for each in folder.iterdir():
            digest = hashlib.sha256(each.read_bytes()).hexdigest()
            assert f"`{digest}`" in note, each.name


def test_a_first_visit_is_light() -> None:
    """Compressed: all but the chart library, and with it."""
    sizes = {
        each.name: len(gzip.compress(each.read_bytes()))
        for place in (STATIC, OWN, STATIC / "vendor" / "uplot")
        for each in place.iterdir()
        if each.is_file() and each.name != "LICENSE"
    }
    library = sizes["uPlot.iife.min.js"]
    assert sum(sizes.values()) - library <= ASSETS_MAX
    assert sum(sizes.values()) <= CHARTED_MAX


def test_nothing_is_fetched_from_elsewhere() -> None:
    """No stylesheet and no script of ours names an address."""
    for place in (STATIC, OWN):
        for each in place.iterdir():
            if each.name.endswith((".css", ".js")):
                assert not re.search(r"https?://(?!www\.w3\.org)", each.read_text()), each.name
