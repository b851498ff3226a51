"""Charts that one can ask: they are drawn, told as a table, and read by a script."""

from __future__ import annotations

import html
import json
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.pages.plot import Kind, Plot, Series, Unit, plotted

HOUR_MS = 3_600_000
VALUES = st.none() | st.floats(0, 1e15)


def shown(
    kind: Kind = "bars", unit: Unit = "count", series=(("o3", [1.0, 2.0]),), before=None, **more
) -> str:
    lines = [Series(name, values, f"?alias={name}", n) for n, (name, values) in enumerate(series)]
    at_ms = [HOUR_MS * n for n in range(len(lines[0].values))]
    return str(plotted(Plot("Calls", kind, unit, at_ms, HOUR_MS, lines, "USD", before, **more)))


def told(figure: str) -> dict:
    return json.loads(html.unescape(re.search(r'data-chart="([^"]+)"', figure)[1]))


@given(
    st.integers(1, 40).flatmap(
        lambda slots: st.lists(
            st.tuples(st.text(max_size=9), st.lists(VALUES, min_size=slots, max_size=slots)),
            min_size=1,
            max_size=8,
        )
    ),
    st.sampled_from(["bars", "lines"]),
    st.sampled_from(["money", "count", "ms", "share"]),
)
def test_every_chart_is_well_formed_and_whole(series, kind, unit) -> None:
    """A drawing, a legend and a table with a line for each slot, whatever the values and names."""
    series = [
        (re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff￾￿]", "", name), values)
        for name, values in series
    ]
    figure = ET.fromstring(shown(kind, unit, series).replace("\N{NO-BREAK SPACE}", " "))
    assert len(series[0][1]) == len(figure.findall(".//tbody/*"))
    assert len(series) == len(figure.findall("ul/*"))
    assert None is not figure.find(".//svg")
    for text in figure.iter("text"):
        assert 0 <= float(text.get("y", "none")) <= 240


def test_the_table_says_what_is_drawn() -> None:
    """With the sum of each slot, and what it was before."""
    figure = shown(series=(("o3", [1.0, 2.0]), ("o4", [10.0, None])), before=[5.0, 6.0])
    assert ["Time", "o3", "o4", "Total", "The time before"] == re.findall(
        r'<th scope="col"[^>]*>([^<]+)<', figure
    )
    rows = [re.findall(r'<td class="n">([^<]*)<', row) for row in figure.split("<tr>")[2:]]
    assert [["1", "10", "11", "5"], ["2", "–", "2", "6"]] == rows


def test_the_script_is_told_money_in_whole_units() -> None:
    """Nano-units are for books; the sign of the currency is for the axis."""
    spec = told(shown(unit="money", series=(("o3", [1.5e9, None]),), zoom="/dashboard?"))
    assert ([[1.5, None]], "$", "/dashboard?") == (spec["values"], spec["sign"], spec["zoom"])


@pytest.mark.parametrize("name", ['"><script>', "a & b", "'"])
def test_names_are_text(name) -> None:
    """In the legend, the table and what the script reads."""
    figure = shown(series=((name, [1.0]),))
    assert "<script>" not in figure
    assert name == told(figure)["series"][0]["name"]
