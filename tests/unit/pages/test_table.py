"""The one table of the pages."""

from __future__ import annotations

from markupsafe import Markup

from merino.pages.table import Cell, Row, table


def test_a_table_escapes_what_is_not_its_own() -> None:
    """Texts are text, also on hover; markup made by a page stays markup."""
    shown = table(
        ("Name", "<b>"),
        [Row(("<i>", Cell("1", "good", 'a "b"')), "strong"), ("x", Markup("<em>2</em>"))],
        "tn",
        "a & b",
    )
    assert "<caption>a &amp; b</caption>" in shown
    assert '<th>Name</th><th class="n">&lt;b&gt;</th>' in shown
    assert '<tr class="strong"><td>&lt;i&gt;</td>' in shown
    assert '<td class="n good" title="a &#34;b&#34;">1</td>' in shown
    assert '<td class="n"><em>2</em></td>' in shown


def test_a_table_without_rows_is_none() -> None:
    """No head stands alone."""
    assert "" == table(("Name",), [], "t")
