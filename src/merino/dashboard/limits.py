"""Who is near which limit: caps by how full they are, and whom limits refused lately."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response

from merino.control.call_search import CallQuery
from merino.dashboard.keys import used_of_caps
from merino.dashboard.overview import currency_of, names_of
from merino.dashboard.parts import Visit
from merino.dashboard.selection import WINDOWS, selection_of
from merino.domain.limits import LIMIT_SHORT_WORDS

_REFUSED = 50
_USES = 100


class Use(NamedTuple):
    """A limit and how full it is now; `path` leads to whose it is."""

    owner: str
    name: str
    path: str
    words: str
    limit: int
    used: int
    share: float


def _uses(visit: Visit) -> list[Use]:
    """The fullest first, of those who may be seen."""
    keys = {key.id: key.name for key in visit.own_keys()}
    accounts = {account.id: account.name for account in visit.own_accounts()}
    found: list[Use] = []
    for each in visit.desk.limits_now():
        subject = each.subject_id
        if each.owner == "alias":
            if not visit.session.is_operator:
                continue
            name, path = subject, "/models"
        elif each.owner == "key":
            name, path = keys.get(subject, ""), f"/keys/{subject}"
        else:
            name, path = accounts.get(subject, ""), f"/accounts/{subject}"
        if name:
            words = LIMIT_SHORT_WORDS[each.kind]
            found.append(
                Use(each.owner, name, path, words, each.limit, round(each.used), each.share)
            )
    return found[:_USES]


class Cap(NamedTuple):
    """A cap and how full it is. `path` leads to whose it is."""

    kind: str
    name: str
    path: str
    spent_nanos: int
    cap_nanos: int
    period: str
    share: float
    currency: str


async def show_limits(visit: Visit) -> Response:
    chosen = selection_of(visit)
    query = CallQuery(chosen.cut, chosen.span.since_ms, chosen.span.until_ms, statuses=(429,))
    currencies = currency_of(visit)
    keys = [key for key in visit.own_keys() if not key.disabled]
    used = await used_of_caps(visit, keys)
    caps = [
        Cap(
            "key",
            key.name,
            f"/keys/{key.id}",
            used[key.id][0],
            key.spend_cap_nanos or 0,
            key.spend_period,
            used[key.id][1],
            currencies.get(key.account_id, "USD"),
        )
        for key in keys
        if key.id in used
    ]
    for account in visit.own_accounts():
        if account.spend_cap_nanos is not None:
            spending = await visit.desk.billing.credits.spending(account.id)
            cap = account.spend_cap_nanos
            share = spending.spent_nanos / cap if cap else 1.0
            caps.append(
                Cap(
                    "account",
                    account.name,
                    f"/accounts/{account.id}",
                    spending.spent_nanos,
                    cap,
                    account.spend_period,
                    share,
                    account.currency,
                )
            )
    refused = await visit.desk.search.failures(query, limit=_REFUSED)
    return await visit.page(
        "limits.html",
        chosen=chosen,
        windows=WINDOWS,
        caps=sorted(caps, key=lambda each: (-each.share, each.name)),
        refused=refused,
        uses=_uses(visit),
        refused_calls=sum(each.calls for each in refused),
        names=names_of(visit),
        limits_of={key.id: key.limits for key in keys},
    )
