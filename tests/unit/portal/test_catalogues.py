"""The portal's languages are complete, and say what English says."""

from __future__ import annotations

import string

import pytest
from tests.unit.portal.messages import WORDS, catalogue, messages

from merino.portal.catalogues import LANGUAGES, entries_of, language_of, words_of

OTHERS = [language for language in LANGUAGES if language != "en"]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_lacks_nothing_and_has_nothing_else(language):
    """Every text is translated, none is left from a page that is gone, and the file is as gettext
    tools would write it. (`python tests/unit/portal/messages.py` adds what is missing.)"""
    text = (WORDS / f"{language}.po").read_text(encoding="utf-8")
    known = dict(entries_of(text))

    assert [] == [message for message in messages() if message not in known]
    assert catalogue(language, known) == text


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_fills_in_what_english_fills_in(language):
    """A name that is filled in stands in every language."""
    text = (WORDS / f"{language}.po").read_text(encoding="utf-8")

    assert [] == [(one, other) for one, other in entries_of(text) if fields(one) != fields(other)]


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr, zh-Hans;q=0.5, en;q=0.4", "zh-CN"),
        ("zh-TW", "zh-CN"),
        ("de;q=0, en;q=0.1", "en"),
        ("de;q=x,,;q=,*", "en"),
        ("a" * 5000, "en"),
    ],
)
def test_a_browser_is_answered_in_a_language_it_likes(accepted, language):
    """The best liked of ours; English if there is none."""
    assert language == language_of(accepted)


def test_what_a_catalogue_lacks_is_english():
    """A text without a translation, or marked as fuzzy, is shown as it stands in the source."""
    assert "no such text" == words_of("de")("no such text")
    assert [] == [*entries_of('#, fuzzy\nmsgid "a"\nmsgstr "b"\n')]
    assert [("a b", "c\nd")] == [*entries_of('msgid "a "\n"b"\nmsgstr "c\\n"\n"d"\n')]
