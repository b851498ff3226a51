"""Markdown that strangers wrote, as part of a page: no HTML of theirs, no address that runs, no
picture that is fetched."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markupsafe import Markup

LENGTH_MAX = 50_000
"""Longer texts are shown as they are."""
_reader = MarkdownIt("js-default", {"html": False, "linkify": False, "typographer": False})
_reader.disable("image")
_reader.enable(["table", "strikethrough"])


def markdown(text: str) -> Markup:
    if len(text) > LENGTH_MAX:
        return Markup("<pre>{}</pre>").format(text)
    shown = _reader.render(text)
    # Where a link leads is not ours to vouch for.
    shown = shown.replace("<a href=", '<a rel="noreferrer nofollow" href=')
    # Alignment comes as a style, which the pages' policy refuses.
    for side in ("left", "right", "center"):
        shown = shown.replace(f' style="text-align:{side}"', "")
    return Markup(shown)  # noqa: S704 - the reader escapes what it is given
