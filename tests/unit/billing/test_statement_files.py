"""Statements as files."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest

from merino.billing.operations.statement_files import statement_csv, statement_html
from merino.billing.ports import UsageLine
from merino.billing.statements import Statement
from merino.domain.account import Account
from merino.domain.ledger import Entry

DOLLAR = 10**9
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
NOON_MS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp() * 1000)


def statement(memo: str = "hello", name: str = "shop") -> Statement:
    account = Account("acct_1", name, "CNY")
    came = Entry(1, NOON_MS, "credit", "@funding:CNY", account.id, 7 * DOLLAR, memo=memo)
    went = Entry(2, NOON_MS, "debit", account.id, "@funding:CNY", 1_500_000_000)
    usage = [UsageLine(NOON_MS // 86_400_000, "openai/o3@2025-06-10 USD/CNY=7.12@2026-11-01", 3, 1)]
    until = datetime(2026, 12, 1, tzinfo=UTC)
    made_at = datetime(2026, 11, 25, tzinfo=UTC)
    return Statement(account, SINCE, until, made_at, 10 * DOLLAR, [came, went], usage)


@pytest.mark.parametrize("memo", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\tx", "\nx"])
def test_no_memo_becomes_a_formula(memo):
    """Whatever a memo begins with, a spreadsheet shows it as text; amounts stay numbers."""
    rows = list(csv.DictReader(io.StringIO(statement_csv(statement(memo)))))
    assert "'" + memo == rows[1]["memo"]
    assert "-1.50" == rows[2]["amount"]


def test_the_lines_of_a_csv_add_up():
    """Opening and all lines make the closing balance, which comes last."""
    *lines, closing = csv.DictReader(io.StringIO(statement_csv(statement())))
    assert int(closing["amount_nanos"]) == sum(int(line["amount_nanos"]) for line in lines)


def test_points_stand_below_each_other():
    """The amounts of a table have equally many decimals, and are exact."""
    page = statement_html(statement())
    for amount in ("10.000000000", "7.000000000", "15.499999999", "\N{MINUS SIGN}0.000000001"):
        assert f">{amount}<" in page
    assert ">\N{MINUS SIGN}1.50<" in page


def test_a_page_is_text_whatever_is_in_it():
    """Names and memos are escaped; the page asks for nothing from anywhere."""
    page = statement_html(statement("<script>alert(1)</script>", "a & b"))
    assert "<script>" not in page
    assert "Statement of a &amp; b" in page
    assert "http" not in page


def test_a_page_knows_dark_and_paper():
    """Colours follow the reader's; what is printed is black on white."""
    page = statement_html(statement())
    for rule in ("color-scheme: light dark", "light-dark(", "@media print", "@page"):
        assert rule in page
