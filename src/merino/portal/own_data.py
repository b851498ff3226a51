"""A person's own data: seen, taken along, deleted."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.ports import EntryFilter
from merino.domain.clock import iso
from merino.domain.errors import InvalidCall
from merino.domain.money import format_nanos
from merino.portal.keys import shown_name
from merino.portal.visits import BASE, COOKIE, HEADERS, Visit, forget_cookie, go, text_of

_ENTRIES_AT_ONCE = 500
_ENTRIES_MAX = 50_000
_DETAILS = ("name", "address", "tax_id")


async def show_me(visit: Visit) -> Response:
    people = visit.control.people
    closes = [visit.control.accounts.show(each) for each in await people.owned_alone(visit.person)]
    return await visit.page("me.html", who=_who(visit), closes=closes)


async def export_me(visit: Visit) -> Response:
    """Everything that is kept under this person, as one JSON file; of money what an owner sees."""
    person = visit.person
    told: dict[str, Any] = {
        "id": person.id,
        "email": person.email,
        "subject": person.subject,
        "state": person.state,
        "language": person.language,
        "terms_accepted": person.terms or None,
        "created_at": iso(person.created_at_ms),
        "accounts": [await _account(visit, each.account_id, each.role) for each in visit.members],
    }
    await visit.note("export_data", person.id)
    return Response(
        json.dumps(told, ensure_ascii=False, indent=2),
        media_type="application/json",
        headers={**HEADERS, "content-disposition": 'attachment; filename="my-data.json"'},
    )


async def delete_me(visit: Visit, form: FormData) -> Response:
    """For good: so the address is typed again first."""
    if text_of(form, "confirmation").lower() != _who(visit).lower():
        raise InvalidCall("It was not confirmed.", param="confirmation", code="not_confirmed")
    person = visit.person
    closed = await visit.control.forget_person(person)
    await visit.note("delete_person", person.id, ("closed", ", ".join(closed) or "none"))
    response = go(f"{BASE}/sign-in")
    forget_cookie(response, COOKIE)
    return response


def _who(visit: Visit) -> str:
    return visit.person.email or visit.person.subject or visit.person.id


async def _account(visit: Visit, account_id: str, role: str) -> dict[str, Any]:
    account = visit.control.accounts.find(account_id)
    told: dict[str, Any] = {"id": account.id, "name": account.name, "role": role}
    if role != "owner":
        return told
    keys = visit.control.keys.list(account=account.id, limit=100_000).items
    told["keys"] = [
        {
            "id": key.id,
            "name": shown_name(key, account),
            "hint": key.hint,
            "created_at": iso(key.created_at_ms),
            "disabled": key.disabled,
        }
        for key in keys
    ]
    entries: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(entries) < _ENTRIES_MAX:
        page = await visit.control.list_entries(
            EntryFilter(account_id=account.id), limit=_ENTRIES_AT_ONCE, cursor=cursor
        )
        entries += [
            {
                "id": entry.id,
                "at": iso(entry.at_ms),
                "kind": entry.kind,
                "amount": format_nanos(entry.amount_nanos),
                "comes_in": entry.credit_account == account.id,
                "call": entry.call_id,
                "memo": entry.memo,
            }
            for entry in page.items
        ]
        cursor = page.next_cursor
        if cursor is None:
            break
    details = await visit.desk.billing.invoices.details(account.id)
    told["invoices_to"] = (
        None if details is None else dict(zip(_DETAILS, details.told, strict=True))
    )
    told["currency"] = account.currency
    told["entries"] = entries
    return told
