"""A statement as HTML to read and print, and as CSV or JSON to reckon with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import Any, Literal

from merino.control.statements import Statement, day_of
from merino.domain.clock import DAY_MS
from merino.domain.ledger import Entry
from merino.domain.money import format_nanos

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --rule: #d9dee6;
  --band: #f4f6f9; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b5; --rule: #343c48;
  --band: #1c222b; --paper: #14181e; } }
@page { size: A4; margin: 16mm 18mm; }
body { margin: 0 auto; max-width: 52rem; padding: 2rem 1rem 3rem; color: var(--ink);
  background: var(--paper); font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .4rem; }
.sub { color: var(--soft); margin: .2rem 0 1.4rem; } .scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .5rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; } th { color: var(--soft); font-size: .8rem; }
.n { text-align: right; } .n, .d { white-space: nowrap; }
.sum td { font-weight: 600; background: var(--band); }
.beside { color: var(--soft); font-size: .85em; display: block; overflow-wrap: anywhere; }
.foot { color: var(--soft); font-size: .85rem; margin-top: 1.6rem; }
tr { break-inside: avoid; } thead { display: table-header-group; } h2 { break-after: avoid; }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --rule: #bbb;
  --band: #f0f0f0; --paper: #fff; } body { padding: 0; max-width: none; font-size: 10pt; }
  .sum td { print-color-adjust: exact; } .scroll { overflow: visible; } }
"""
_COLUMNS: tuple[str, ...] = (
    *("date", "kind", "calls", "amount", "amount_nanos", "currency"),
    *("price_id", "exchange", "reference", "memo"),
)
_TEXTS = ("price_id", "exchange", "reference", "memo")
_MINUS = "\N{MINUS SIGN}"
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
    money = _aligned(nanos for _, nanos in summary)
    rows = "".join(
        f"<tr{' class=sum' if index in (0, 4) else ''}><td>{name}</td>"
        f'<td class="n">{money(nanos)}</td></tr>'
        for index, (name, nanos) in enumerate(summary)
    )
    money = _aligned(statement.signed(entry) for entry in statement.movements)
    movements = "".join(
        f'<tr><td class="d">{_day(entry.at_ms)}</td><td class="d">{_KINDS[entry.kind]}</td>'
        f"<td>{escape(entry.memo or '')}{_beside(entry)}</td>"
        f'<td class="n">{money(statement.signed(entry))}</td></tr>'
        for entry in statement.movements
    )
    by_price, by_day = statement.by_price(), statement.by_day()
    money = _aligned(nanos for _, _, nanos in by_price)
    prices = "".join(
        f'<tr><td>{_price(price)}</td><td class="n">{calls:,}</td>'
        f'<td class="n">{money(nanos)}</td></tr>'
        for price, calls, nanos in by_price
    )
    money = _aligned(nanos for _, _, nanos in by_day)
    days = "".join(
        f'<tr><td class="d">{day.isoformat()}</td><td class="n">{calls:,}</td>'
        f'<td class="n">{money(nanos)}</td></tr>'
        for day, calls, nanos in by_day
    )
    sub = (
        f'<p class="sub">{statement.since:%Y-%m-%d} to {last:%Y-%m-%d %H:%M} UTC, in {currency}; '
        f"account {escape(account.id)}</p>"
    )
    foot = (
        f'<p class="foot">Balance after = balance before + came in {_MINUS} went out {_MINUS} '
        f"calls. Days are in UTC. Made on {statement.made_at:%Y-%m-%d %H:%M} UTC from the ledger's "
        "entries.</p>"
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
        _table("Movements", ("Day", "Kind", "What for", f"Amount, {currency}"), movements, 1),
        _table("Calls by price", ("Price", "Calls", f"Cost, {currency}"), prices, 2),
        _table("Calls by day", ("Day", "Calls", f"Cost, {currency}"), days, 2),
        foot,
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def statement_csv(statement: Statement) -> str:
    """Every line with a signed amount: the opening balance and all others add up to the closing
    balance, which comes last."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in _lines(statement):
        texts = {name: _safe(line[name]) for name in _TEXTS if name in line}
        writer.writerow(line | texts)
    return text.getvalue()


def statement_json(statement: Statement) -> str:
    """The lines of the CSV as one object; what a line does not have is null."""
    account = statement.account
    lines = [dict.fromkeys(_COLUMNS) | line for line in _lines(statement)]
    return (
        json.dumps({"account": account.id, "name": account.name, "lines": lines}, indent=2) + "\n"
    )


def statement_file(statement: Statement, form: Literal["html", "csv", "json"]) -> str:
    makers = {"html": statement_html, "csv": statement_csv, "json": statement_json}
    return makers[form](statement)


def _lines(statement: Statement) -> Iterator[dict[str, Any]]:
    def line(day: str, kind: str, nanos: int, **more: Any) -> dict[str, Any]:
        return {
            "date": day,
            "kind": kind,
            "amount": format_nanos(nanos),
            "amount_nanos": nanos,
            "currency": statement.account.currency,
            **more,
        }

    yield line(statement.since.date().isoformat(), "opening", statement.opening_nanos)
    for entry in statement.movements:
        yield line(
            _day(entry.at_ms),
            entry.kind,
            statement.signed(entry),
            price_id=entry.price_id,
            exchange=entry.exchange,
            reference=entry.reference,
            memo=entry.memo,
        )
    for used in statement.usage:
        day = day_of(used.day).isoformat()
        yield line(day, "calls", -used.nanos, calls=used.calls, price_id=used.price_id)
    closing_day = min(statement.until, statement.made_at).date().isoformat()
    yield line(closing_day, "closing", statement.closing_nanos)


def _table(title: str, head: tuple[str, ...], rows: str, figures: int) -> str:
    """The last columns, as many as `figures`, are numbers."""
    if not rows:
        return ""
    cells = "".join(
        f"<th{' class=n' if index >= len(head) - figures else ''}>{name}</th>"
        for index, name in enumerate(head)
    )
    return (
        f'<h2>{title}</h2><div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _aligned(column: Iterable[int]) -> Callable[[int], str]:
    """How the amounts of a column are written: exactly, and all with as many decimals, so that
    their points stand below each other."""
    decimals = max((len(format_nanos(nanos).partition(".")[2]) for nanos in column), default=2)

    def written(nanos: int) -> str:
        units, _, rest = format_nanos(abs(nanos)).partition(".")
        return f"{_MINUS if nanos < 0 else ''}{int(units):,}.{rest:0<{decimals}}"

    return written


def _price(price_id: str) -> str:
    """A price's id, with its exchange rate beside it."""
    price, _, rate = price_id.partition(" ")
    return escape(price) + (f'<span class="beside">{escape(rate)}</span>' if rate else "")


def _beside(entry: Entry) -> str:
    parts = [part for part in (entry.exchange, entry.reference) if part]
    return f'<span class="beside">{escape(" · ".join(parts))}</span>' if parts else ""


def _day(at_ms: int) -> str:
    return day_of(at_ms // DAY_MS).isoformat()


def _safe(value: object) -> object:
    """Text that begins like a formula must not become one in a spreadsheet."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return "'" + value
    return value
