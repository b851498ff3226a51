"""A statement as HTML to read and print, and as CSV to reckon with."""

from __future__ import annotations

import csv
import io
from html import escape
from typing import Any

from merino.control.statements import Statement, day_of
from merino.domain.money import format_nanos

_STYLE = """
:root { --ink: #1c2430; --soft: #5c6675; --rule: #d9dee6; --band: #f4f6f9; }
@page { size: A4; margin: 18mm; }
body { margin: 0 auto; max-width: 52rem; padding: 2rem 1rem; color: var(--ink); background: #fff;
  font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
.sub { color: var(--soft); margin: .2rem 0 1.4rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .5rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; } th { color: var(--soft); font-size: .8rem; }
.n { text-align: right; white-space: nowrap; }
.sum td { font-weight: 600; background: var(--band); }
tr { break-inside: avoid; } thead { display: table-header-group; } .memo { color: var(--soft); }
@media print { body { padding: 0; max-width: none; } }
"""
_KINDS = {
    "credit": "Credit",
    "debit": "Debit",
    "voucher": "Voucher",
    "topup": "Top-up",
    "refund": "Refund",
    "dispute": "Dispute",
    "transfer": "Transfer",
    "settle": "Call",
    "overrun": "Call",
}


def statement_html(statement: Statement) -> str:
    """One page that needs nothing else; it prints on A4."""
    account, currency = statement.account, statement.account.currency
    last = min(statement.until, statement.made_at)
    summary = [
        ("Balance before", statement.opening_nanos),
        ("Came in", statement.came_nanos),
        ("Went out", -statement.went_nanos),
        (f"Calls ({statement.calls:,})", -statement.used_nanos),
        ("Balance after", statement.closing_nanos),
    ]
    rows = "".join(
        f"<tr{' class=sum' if index in (0, 4) else ''}><td>{name}</td>"
        f'<td class="n">{_money(nanos)}</td></tr>'
        for index, (name, nanos) in enumerate(summary)
    )
    movements = "".join(
        f"<tr><td>{_day(entry.at_ms)}</td><td>{_KINDS[entry.kind]}</td>"
        f'<td>{escape(entry.memo or "")}<span class="memo">{_beside(entry)}</span></td>'
        f'<td class="n">{_money(statement.signed(entry))}</td></tr>'
        for entry in statement.movements
    )
    by_price = "".join(
        f'<tr><td>{escape(price)}</td><td class="n">{calls:,}</td>'
        f'<td class="n">{_money(nanos)}</td></tr>'
        for price, calls, nanos in statement.by_price()
    )
    by_day = "".join(
        f'<tr><td>{day.isoformat()}</td><td class="n">{calls:,}</td>'
        f'<td class="n">{_money(nanos)}</td></tr>'
        for day, calls, nanos in statement.by_day()
    )
    sub = (
        f'<p class="sub">{statement.since:%Y-%m-%d} to {last:%Y-%m-%d %H:%M} UTC, in {currency}; '
        f"account {escape(account.id)}</p>"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Statement {statement.since:%Y-%m} of {escape(account.name)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Statement of {escape(account.name)}</h1>",
        sub,
        f"<table><tbody>{rows}</tbody></table>",
        _table("Movements", ("Day", "Kind", "", f"Amount, {currency}"), movements, figures=1),
        _table("Calls by price", ("Price", "Calls", f"Cost, {currency}"), by_price, figures=2),
        _table("Calls by day", ("Day", "Calls", f"Cost, {currency}"), by_day, figures=2),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def statement_csv(statement: Statement) -> str:
    """Every line with a signed amount: the opening balance and all others add up to the closing
    balance, which comes last."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["date", "kind", "calls", "amount", "amount_nanos", "currency", "price_id", "exchange",
         "reference", "memo"]
    )  # fmt: skip
    currency = statement.account.currency

    def write(
        day: str, kind: str, nanos: int, calls: object = "", price: object = "", *rest: object
    ) -> None:
        figures: list[Any] = [day, kind, calls, format_nanos(nanos), nanos, currency]
        texts = ["" if text is None else _safe(text) for text in (price, *rest)]
        writer.writerow([*figures, *texts])

    write(statement.since.date().isoformat(), "opening", statement.opening_nanos)
    for entry in statement.movements:
        nanos = statement.signed(entry)
        write(
            _day(entry.at_ms),
            entry.kind,
            nanos,
            "",
            entry.price_id,
            entry.exchange,
            entry.reference,
            entry.memo,
        )
    for line in statement.usage:
        write(day_of(line.day).isoformat(), "calls", -line.nanos, line.calls, line.price_id)
    closing_day = min(statement.until, statement.made_at).date().isoformat()
    write(closing_day, "closing", statement.closing_nanos)
    return text.getvalue()


def _table(title: str, head: tuple[str, ...], rows: str, *, figures: int) -> str:
    if not rows:
        return ""
    cells = "".join(
        f"<th{' class=n' if index >= len(head) - figures else ''}>{name}</th>"
        for index, name in enumerate(head)
    )
    return f"<h2>{title}</h2><table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"


def _money(nanos: int) -> str:
    units, _, decimals = format_nanos(abs(nanos)).partition(".")
    return f"{'-' if nanos < 0 else ''}{int(units):,}.{decimals}"


def _beside(entry: Any) -> str:
    parts = [part for part in (entry.exchange, entry.reference) if part]
    return escape((" · " if entry.memo else "") + " · ".join(parts)) if parts else ""


def _day(at_ms: int) -> str:
    return day_of(at_ms // 86_400_000).isoformat()


def _safe(value: object) -> object:
    """Text that begins like a formula must not become one in a spreadsheet."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return "'" + value
    return value
