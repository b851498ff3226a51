"""No text of somebody else's becomes a formula in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import given
from hypothesis import strategies as st

from merino.domain.money import format_nanos
from merino.domain.spreadsheet import csv_text


@given(st.sampled_from("=+-@\t\r\n"), st.text(alphabet=st.characters(exclude_characters="\0")))
def test_no_cell_begins_like_a_formula(sign, rest) -> None:
    """Unless it is a plain number."""
    ((cell,),) = csv.reader(io.StringIO(csv_text([[sign + rest]]), newline=""))
    is_number = re.fullmatch(r"-[0-9]+(\.[0-9]+)?", sign + rest, re.ASCII)
    assert cell == ("" if is_number else "'") + sign + rest


@given(st.integers(-(10**18), 10**18))
def test_amounts_stay_numbers(nanos) -> None:
    """Negative ones begin like a formula and are none; what is not text is not touched."""
    assert f"{format_nanos(nanos)},{nanos},\n" == csv_text([[format_nanos(nanos), nanos, None]])


def test_words_of_our_own_stay_as_they_are() -> None:
    """The ledger's accounts for funding begin with an at sign, and are read by programs."""
    assert "@funding:CNY,'@SUM(A1)\n" == csv_text([["@funding:CNY", "@SUM(A1)"]], own_columns=1)
