"""Which deployment made a response. Calls that go on from it, or ask for it, are only understood
there: by the same provider with the same credential.

The newest are in memory, all of them in the call records. Another account's are not there.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from merino.domain.call import CallRecord
from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import InvalidCall, NotFound, UpstreamFailed, UpstreamRefused
from merino.wire.response_state import ResponseState

REMEMBERED_MAX = 20_000
_IS_UNKNOWN = re.compile(r"not found|does not exist|no such|unknown", re.IGNORECASE)
_ITEM_ID = re.compile(rb'"id": ?"([a-z]{2,8}_[A-Za-z0-9_-]{4,120})"')


class Origin(NamedTuple):
    """`tokens` are those of the whole conversation up to this response, its own included: the most
    that going on from it adds to the input; `None` if that is not known."""

    deployment: str
    tokens: int | None
    alias: str = ""


class ResponseFinder(Protocol):
    """Looks a response up in the call records."""

    async def find_response(self, response_id: str, account_id: str) -> CallRecord | None: ...


class Origins:
    def __init__(self, finder: ResponseFinder | None = None) -> None:
        self._finder = finder
        self._known: OrderedDict[tuple[str, str], Origin] = OrderedDict()
        self._items: OrderedDict[tuple[str, str], str] = OrderedDict()

    def note(self, record: CallRecord) -> None:
        """Remember a call whose answer can be asked for again."""
        if record.response_id is None or not record.deployment:
            return
        self._known[record.account_id, record.response_id] = _origin_of(record)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)

    def note_items(self, account_id: str, deployment: str, response: bytes) -> None:
        """Remember who made the items of an answer, so that calls that name them go there."""
        for item_id in _ITEM_ID.findall(response):
            self._items[account_id, item_id.decode()] = deployment
        while len(self._items) > REMEMBERED_MAX:
            self._items.popitem(last=False)

    def of_items(self, account_id: str, given: bytes) -> Origin | None:
        """Who made the newest item that an input names, if that is known."""
        for item_id in reversed(_ITEM_ID.findall(given)):
            deployment = self._items.get((account_id, item_id.decode()))
            if deployment is not None:
                return Origin(deployment, None)
        return None

    def note_running(self, account_id: str, response_id: str, origin: Origin) -> None:
        """Remember one that is made now, in an upstream's background."""
        self._known[account_id, response_id] = origin

    async def find(self, response_id: str, account_id: str) -> Origin:
        """Raises `NotFound` if this account has no such response."""
        known = await self.known(response_id, account_id)
        if known is None:
            raise NotFound(
                f"Previous response with id '{response_id[:100]}' not found. Send the whole "
                "conversation as `input`.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return known

    async def known(self, response_id: str, account_id: str) -> Origin | None:
        """`None` if this account has no such response."""
        known = self._known.get((account_id, response_id))
        if known is None and self._finder is not None:
            record = await self._finder.find_response(response_id, account_id)
            if record is not None and record.deployment:
                known = _origin_of(record)
        return known


def may_be_elsewhere(
    state: ResponseState | None, origin: Origin | None, error: UpstreamFailed
) -> bool:
    """Whether a refusal says that an item is unknown there, and nobody here remembers who made it:
    the memory of items is bounded, and ends with the process."""
    return (
        state is not None
        and state.has_references
        and origin is None
        and isinstance(error, UpstreamRefused)
        and error.verdict == "call"
        and _IS_UNKNOWN.search(error.message) is not None
    )


def _origin_of(record: CallRecord) -> Origin:
    tokens = record.input_tokens + record.output_tokens
    return Origin(record.deployment, tokens or None, record.alias)


def bound(
    alias: Alias, origin: Origin, home: Deployment | None, param: str = "previous_response_id"
) -> Sequence[Deployment]:
    """The deployments of an alias that know what the origin made. Raises `InvalidCall` if there is
    none."""
    deployments = (*alias.deployments, *alias.standins)
    found = [each for each in deployments if each.name == origin.deployment]
    if not found and home is not None:
        # Another model of the same provider, asked with the same credential.
        found = [
            each
            for each in deployments
            if (each.provider, each.base_url, each.credential)
            == (home.provider, home.base_url, home.credential)
        ]
    if not found:
        raise InvalidCall(
            f"What this call goes on from was made by another provider than those of "
            f"'{alias.name}'. Use the model it was made with, or send the whole conversation as "
            "`input`.",
            param=param,
            code="previous_response_elsewhere",
        )
    return found
