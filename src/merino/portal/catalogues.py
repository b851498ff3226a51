"""The portal's languages: gettext catalogues, one `.po` file each in `words/`, read as they are.

English is what stands in the source. `{name}` in a text is filled in. What a catalogue lacks is
shown in English; a test demands that none lacks anything.
"""

from __future__ import annotations

import ast as python
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

LANGUAGES: Mapping[str, str] = {"en": "English", "de": "Deutsch", "zh-CN": "简体中文"}
"""By their tags, in their own words."""


class Words:
    """Texts in one language."""

    def __init__(self, language: str, catalogue: Mapping[str, str]) -> None:
        self.language = language
        self._catalogue = catalogue

    def __call__(self, text: str, **values: object) -> str:
        found = self._catalogue.get(text) or text
        return found.format_map(values) if values else found


@cache
def words_of(language: str) -> Words:
    """Of a tag in `LANGUAGES`; anything else is English."""
    if language == "en" or language not in LANGUAGES:
        return Words("en", {})
    text = (files("merino.portal") / "words" / f"{language}.po").read_text(encoding="utf-8")
    return Words(language, dict(entries_of(text)))


def language_of(accepted: str) -> str:
    """The language of ours that an `Accept-Language` header likes best; English if none."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted[:1000].split(",")):
        tag, _, quality = part.strip().partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        wanted.append((-weight, place, tag.strip().lower()))
    for weight, _, tag in sorted(wanted):
        main = tag.partition("-")[0]
        if weight < 0 and main in ("en", "de", "zh"):
            return {"zh": "zh-CN"}.get(main, main)
    return "en"


def entries_of(text: str) -> Iterator[tuple[str, str]]:
    """Message and translation of each entry of a `.po` file that is not marked as fuzzy."""
    for block in text.split("\n\n"):
        parts: dict[str, str] = {}
        name, is_fuzzy = "", False
        for line in block.splitlines():
            if line.startswith("#"):
                is_fuzzy = is_fuzzy or (line.startswith("#,") and "fuzzy" in line)
                continue
            key, _, rest = line.partition(" ")
            if key in ("msgid", "msgstr"):
                name = key
                parts[name] = _quoted(rest)
            elif line.startswith('"') and name:
                parts[name] += _quoted(line)
        if parts.get("msgid") and parts.get("msgstr") and not is_fuzzy:
            yield parts["msgid"], parts["msgstr"]


def _quoted(text: str) -> str:
    # The escapes of gettext are those of Python's own texts.
    found = python.literal_eval(text.strip())
    return found if isinstance(found, str) else ""
