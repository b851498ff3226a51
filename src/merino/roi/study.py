"""Which offers stand beside each other for what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from time import time_ns

from merino.domain.errors import InvalidCall, NotFound
from merino.pricing.book import PriceBook
from merino.roi.comparison import Comparison, Horizon, compare
from merino.roi.offers import (
    BOOK,
    GUIDE,
    GUIDE_DIRECT,
    Offer,
    OfferedPrice,
    bare_name,
    book_offer,
    provider_offer,
    quoted_offer,
    vendor_offer,
)
from merino.roi.scenario import UsageRow
from merino.roi.words import dollars

AS_CHARGED = "as charged"

_GUIDE_NOTE = (
    "guide-direct is what the guide says direct calls cost; it is not the vendor's price list"
)
_COUNTERPART_NOTE = (
    "another model's tokenizer differs: the same text may take more or fewer tokens there"
)
_STEPS_NOTE = (
    "the number of calls is not known: fees per call and the dearer rates of long contexts are "
    "left out"
)


def study(
    rows: Sequence[UsageRow],
    book: PriceBook,
    *,
    relay: str = GUIDE,
    against: Sequence[str] = (),
    quotes: Mapping[str, OfferedPrice] | None = None,
    horizon: Horizon | None = None,
    months_in_rows: Fraction = Fraction(1),
    at_ms: int | None = None,
) -> Comparison:
    """Compare direct calls with a relay for `rows`.

    `relay` is `guide` (the guide's table), `book` (what accounts pay by `book`), the name of a
    relay whose own `quotes` are given, or `as charged` for rows of real calls. `against` names
    providers of the book, or ``provider/model``; without any, the vendor of the model itself. The
    guide's relay is set against the guide's own direct prices. Raises `InvalidCall` and `NotFound`.
    """
    at_ms = time_ns() // 1_000_000 if at_ms is None else at_ms
    notes: list[str] = []
    direct = _direct(rows, book, against, at_ms)
    if quotes is not None:
        paid = quoted_offer(relay, quotes, rows)
    elif relay == GUIDE:
        paid = provider_offer(book, GUIDE, rows, at_ms, name="guide relay", kind="relay")
        if not paid.prices:
            raise InvalidCall(
                f"The guide's table has no {_models(rows)}; it has "
                f"{', '.join(sorted(m for p, m in book.models if p == GUIDE))}. Use --relay book",
                param="relay",
                code="model_not_priced",
            )
        claimed = provider_offer(book, GUIDE_DIRECT, rows, at_ms)
        if claimed.prices:
            direct.insert(0, claimed)
            notes.append(_GUIDE_NOTE)
    elif relay == BOOK:
        paid = book_offer(book, rows, at_ms)
    elif relay == AS_CHARGED:
        paid = Offer(AS_CHARGED, "relay", {}, is_as_charged=True)
    else:
        raise InvalidCall(
            f"relay: {relay[:80]!r} is not guide, book or a URL",
            param="relay",
            code="invalid_relay",
        )
    if not direct:
        raise NotFound(
            f"The price book has no direct price of {_models(rows)}; name one with "
            "--against provider/model",
            param="against",
            code="model_not_priced",
        )
    offers = [*direct, paid]
    if any(offer.note for offer in offers):
        notes += [f"{offer.name}: {offer.note}" for offer in offers if offer.note]
        if any("stands for" in offer.note for offer in offers):
            notes.append(_COUNTERPART_NOTE)
    if any(not row.calls for row in rows) and _depends_on_calls(offers):
        notes.append(_STEPS_NOTE)
    found = compare(rows, offers, horizon, months_in_rows=months_in_rows, notes=notes)
    return _with_warnings(found)


def _direct(
    rows: Sequence[UsageRow], book: PriceBook, against: Sequence[str], at_ms: int
) -> list[Offer]:
    if against:
        found = [provider_offer(book, each, rows, at_ms) for each in dict.fromkeys(against)]
        for offer in found:
            if not offer.prices:
                raise NotFound(
                    f"The price book has no price of {_models(rows)} at {offer.name}; name one of "
                    f"its models: --against {offer.name}/MODEL",
                    param="against",
                    code="model_not_priced",
                )
        return found
    offer = vendor_offer(book, rows, at_ms)
    return [offer] if offer.prices else []


def _depends_on_calls(offers: Sequence[Offer]) -> bool:
    return any(
        price.rates.steps or price.rates.per_call_nanos
        for offer in offers
        for price in offer.prices.values()
    )


def _with_warnings(found: Comparison) -> Comparison:
    relay = found.relay
    if relay is None:
        return found
    notes = list(found.notes)
    notes += [
        f"{line.offer.name} at its list price costs {dollars(line.month_nanos)} a month, less than "
        f"{relay.offer.name} with {dollars(relay.month_nanos)}"
        for line in found.lines[1:]
        if line.offer.kind == "direct" and line.month_nanos < relay.month_nanos
    ]
    if found.left_out:
        models = dict.fromkeys(row.model for row in found.left_out)
        notes.append(
            f"left out everywhere, since not every offer prices them: {len(found.left_out)} rows "
            f"of {', '.join(models)[:200]}"
        )
    return Comparison(
        found.usage,
        found.calls,
        found.horizon,
        found.lines,
        found.break_even,
        found.by_output_share,
        found.by_cached_share,
        found.left_out,
        tuple(notes),
    )


def _models(rows: Sequence[UsageRow]) -> str:
    names = dict.fromkeys(bare_name(row.model) for row in rows)
    return ", ".join(repr(name) for name in names)[:200] or "models"
