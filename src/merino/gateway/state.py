"""Responses and conversations that the relay keeps: what a call goes on from is put into its input
before anything else is done with it, and what came of it is kept with its settlement."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import time_ns
from types import MappingProxyType

import msgspec

from merino.domain.clock import DAY_MS
from merino.domain.errors import InvalidCall, NotFound
from merino.domain.kept import KeptResponse, SealedItem
from merino.domain.key import VirtualKey
from merino.gateway.call import Call
from merino.gateway.origins import Origin
from merino.gateway.outcome import Outcome
from merino.gateway.ports import Replay, Shelf
from merino.gateway.sealing import Sealer
from merino.settings.sections.responses import ResponsesSettings
from merino.wire.kept_items import id_of, joined, listed, members_of, raw_items, type_of
from merino.wire.response_state import ResponseState

_FALSE, _TRUE = msgspec.Raw(b"false"), msgspec.Raw(b"true")
_REFERENCE = "item_reference"
_THINKING = ("encrypted_content", "content")
_EMPTY = frozenset((b"", b"null", b"[]", b'""'))
_UNSAID = frozenset(("failed", "cancelled"))
"""How a response ends that adds nothing to its conversation."""
_encode = msgspec.json.encode


class Content(msgspec.Struct, gc=False):
    """What is sealed of a response. `items` are its own input, `response` is the object."""

    items: list[msgspec.Raw]
    response: msgspec.Raw
    alias: str = ""
    deployment: str = ""


_decode_content = msgspec.json.Decoder(Content).decode


class _Outcome(msgspec.Struct, gc=False):
    id: str = ""
    status: str = ""
    output: list[msgspec.Raw] = []


_decode_output = msgspec.json.Decoder(_Outcome).decode


class Keeping(msgspec.Struct, gc=False):
    """What is to be kept of a call, and what the caller is told of it. `changes` are members of the
    response object that the upstream cannot know."""

    items: list[msgspec.Raw]
    previous_id: str | None
    conversation_id: str | None
    is_stored: bool
    changes: Mapping[str, msgspec.Raw] = MappingProxyType({})


class RelayState:
    """`keeps`: whether calls from now on are kept here."""

    def __init__(
        self, shelf: Shelf, sealer: Sealer, settings: ResponsesSettings | None = None
    ) -> None:
        self._shelf = shelf
        self._sealer = sealer
        self.configure(settings or ResponsesSettings())

    def configure(self, settings: ResponsesSettings) -> None:
        """What is kept, and for how long, from now on."""
        self.settings = settings
        self.keeps = settings.store == "relay"

    # -- before a call ---------------------------------------------------------------------------

    async def prepare(self, call: Call, state: ResponseState) -> None:
        """Put what the relay keeps into the call's input, and note what is to be kept of it. What
        it goes on from and is not here is an upstream's business. Raises `InvalidCall`,
        `NotFound`."""
        if state.previous_response_id is not None and state.conversation is not None:
            raise InvalidCall(
                "'previous_response_id' and 'conversation' cannot be used together: a call goes on "
                "from one of them.",
                param="previous_response_id",
                code="mutually_exclusive_parameters",
            )
        request, account_id = call.request, call.key.account_id
        own: list[msgspec.Raw] | None = None
        before: list[msgspec.Raw] | None = None
        if state.conversation is not None:
            before = await self._said(state.conversation, call)
        if self._shelf.has_any:
            if state.previous_response_id is not None:
                before = await self._before(state.previous_response_id, call.key)
            if state.has_references:
                own = await self._referred(raw_items(request.fields.get("input")), account_id)
                if own is not None and before is None:
                    before = []
        if not self.keeps and before is None:
            return
        if before is None and (state.previous_response_id or state.conversation):
            return  # an upstream's, which keeps what comes of it as well
        if own is None:
            own = raw_items(request.fields.get("input"))
        keeping = self._keeping(call, state, own)
        if before is not None:
            request.change("input", joined([*before, *own]))
            for name in ("previous_response_id", "conversation"):
                if name in request.fields:
                    request.change(name, None)
            request.previous_id = None
        call.keeping = keeping

    def _keeping(self, call: Call, state: ResponseState, own: list[msgspec.Raw]) -> Keeping:
        request = call.request
        is_stored = self.keeps and state.stored and request.endpoint.answers_are_named
        if is_stored and (why := self._why_not(call.key.account_id, own)):
            is_stored = False
            request.tell(f"store=false ({why})")
        is_named = request.endpoint.answers_are_named
        if is_named and self.keeps and bytes(request.fields.get("store", b"")) != b"false":
            request.change("store", _FALSE)  # the upstream need not keep it too
        changes: dict[str, msgspec.Raw] = {}
        if call.background is not None:
            changes.update(call.background.changes)
        if self.keeps:
            changes["store"] = _TRUE if is_stored else _FALSE
        if state.previous_response_id is not None:
            changes["previous_response_id"] = msgspec.Raw(_encode(state.previous_response_id))
        if state.conversation is not None:
            changes["conversation"] = msgspec.Raw(_encode({"id": state.conversation}))
        conversation = state.conversation if self.keeps else None
        return Keeping(own, state.previous_response_id, conversation, is_stored, changes)

    def _why_not(self, account_id: str, own: Sequence[msgspec.Raw]) -> str:
        """Why nothing more is kept for an account; empty if it is."""
        settings = self.settings
        size = sum([len(bytes(each)) for each in own])
        if size > settings.response_bytes_max:
            return "the input is too large to be kept"
        if self._shelf.bytes_of(account_id) + size > settings.account_bytes_max:
            return "this account keeps as much as it may"
        return ""

    async def _before(self, response_id: str, key: VirtualKey) -> list[msgspec.Raw] | None:
        """All items up to the end of a response; `None` if the relay does not keep it."""
        chain = await self._shelf.chain(response_id, key.account_id)
        if not chain:
            return None
        if chain[-1].previous_id is not None:
            raise NotFound(
                f"Previous response with id '{chain[-1].previous_id[:100]}' not found: it was "
                f"deleted, and '{response_id[:100]}' goes on from it. Send the whole conversation "
                "as `input`.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return await asyncio.to_thread(self._items_of, chain)

    def _items_of(self, chain: Sequence[KeptResponse]) -> list[msgspec.Raw]:
        found: list[msgspec.Raw] = []
        for kept in reversed(chain):
            content = self.opened(kept)
            found += content.items
            output = _decode_output(content.response).output
            found += [each for each in output if is_telling(each, kept.id)]
        return found

    async def _said(self, conversation_id: str, call: Call) -> list[msgspec.Raw] | None:
        account_id = call.key.account_id
        kept = await self._shelf.conversation(conversation_id, account_id)
        if kept is None:
            raise NotFound(
                f"Conversation with id '{conversation_id[:100]}' not found.", param="conversation"
            )
        if kept.deployment is not None:
            call.origin = Origin(kept.deployment, None)
            return None
        items = await self.items_of_conversation(conversation_id, account_id)
        return [each for each in items if is_telling(each)]

    async def items_of_conversation(
        self, conversation_id: str, account_id: str
    ) -> list[msgspec.Raw]:
        """Oldest first."""
        items = await self._shelf.items(conversation_id, account_id)

        def opened() -> list[msgspec.Raw]:
            plain = [self._sealer.open(account_id, each.id, each.sealed) for each in items]
            return [msgspec.Raw(each) for each in plain if each is not None]

        return await asyncio.to_thread(opened)

    async def _referred(
        self, items: list[msgspec.Raw], account_id: str
    ) -> list[msgspec.Raw] | None:
        """The same with what its references name, as far as the relay keeps it; `None` if it keeps
        none of it."""
        known: dict[str, msgspec.Raw] = {}
        looked: set[str] = set()
        found: list[msgspec.Raw] = []
        for item in items:
            item_id = id_of(item) if type_of(item) == _REFERENCE else None
            if item_id is not None and item_id not in known:
                owner = await self._shelf.owner_of_item(item_id, account_id)
                if owner is not None and owner not in looked:
                    looked.add(owner)
                    known.update(await self._named(owner, account_id))
            found.append(known.get(item_id or "", item))
        return found if known else None

    async def _named(self, response_id: str, account_id: str) -> dict[str, msgspec.Raw]:
        kept = await self._shelf.response(response_id, account_id)
        if kept is None:
            return {}
        content = self.opened(kept)
        output = _decode_output(content.response).output
        return {found: each for each in output if (found := id_of(each)) is not None}

    async def find(self, response_id: str, key: VirtualKey) -> Content | None:
        """A response that the relay keeps, if this key may see it."""
        if not self._shelf.has_any:
            return None
        kept = await self._shelf.response(response_id, key.account_id)
        if kept is None:
            return None
        content = self.opened(kept)
        return content if key.may_call(content.alias) else None

    async def delete(self, response_id: str, key: VirtualKey) -> bool:
        return await self._shelf.delete_response(response_id, key.account_id)

    def opened(self, kept: KeptResponse) -> Content:
        """Raises `NotFound` if it was sealed with another secret."""
        plain = self._sealer.open(kept.account_id, kept.id, kept.sealed)
        if plain is None:
            raise NotFound(
                f"Response with id '{kept.id[:100]}' cannot be read: it was sealed with another "
                "secret. The relay's operator must restore the file `pepper` of the data folder."
            )
        return _decode_content(plain)

    # -- after a call ----------------------------------------------------------------------------

    def kept(self, call: Call, outcome: Outcome) -> KeptResponse | None:
        """What its settlement is to keep; `None` if there is nothing to keep."""
        keeping: Keeping | None = call.keeping
        if keeping is None or not keeping.is_stored:
            return None
        if not outcome.response and call.background is not None:
            outcome.response = call.background.ended(call, outcome)
        return self.sealed(call, keeping, outcome.response) if outcome.response else None

    def sealed(self, call: Call, keeping: Keeping, response: bytes) -> KeptResponse | None:
        try:
            found = _decode_output(response)
        except msgspec.DecodeError:
            return None
        if not found.id:
            return None
        deployment = "" if call.deployment is None else call.deployment.name
        account_id = call.key.account_id
        content = Content(keeping.items, msgspec.Raw(response), call.alias.name, deployment)
        now_ms = time_ns() // 1_000_000
        kept = KeptResponse(
            account_id,
            found.id,
            keeping.previous_id,
            now_ms,
            now_ms + self.settings.keep_days * DAY_MS,
            self._sealer.seal(account_id, found.id, _encode(content)),
            tuple([its for each in found.output if (its := id_of(each)) is not None]),
            keeping.conversation_id,
            self._sealed_items(account_id, keeping, found),
        )
        self._shelf.note(account_id, kept.size_bytes + sum(len(each.sealed) for each in kept.said))
        return kept

    def _sealed_items(
        self, account_id: str, keeping: Keeping, found: _Outcome
    ) -> tuple[SealedItem, ...]:
        if keeping.conversation_id is None or found.status in _UNSAID:
            return ()
        return self.seal_items(account_id, found.id, [*keeping.items, *found.output])

    def seal_items(
        self, account_id: str, owner_id: str, items: Sequence[msgspec.Raw]
    ) -> tuple[SealedItem, ...]:
        """Items of a conversation, each with its id."""
        sealed: list[SealedItem] = []
        for item in listed([each for each in items if members_of(each)], owner_id):
            item_id = msgspec.json.decode(item["id"], type=str)
            sealed.append(
                SealedItem(item_id, self._sealer.seal(account_id, item_id, _encode(item)))
            )
        return tuple(sealed)


def is_telling(item: msgspec.Raw, response_id: str = "") -> bool:
    """Whether an item can be sent again. Thinking of which there is only a summary cannot: its
    upstream asks for it by an id that nobody kept. With `reasoning.encrypted_content` in `include`
    it comes sealed, and goes back. Thinking that came through a chat has an id made of its
    response's; it is all there is of it."""
    if type_of(item) != "reasoning":
        return True
    members = members_of(item)
    seed = response_id.removeprefix("resp_")
    if seed and (id_of(item) or "").startswith(f"rs_{seed}"):
        return True
    return any(bytes(members.get(each, b"")) not in _EMPTY for each in _THINKING)


def with_kept(call: Call, replay: Replay | None, kept: KeptResponse) -> Replay:
    """What a settlement keeps, with this."""
    if replay is None:
        return Replay(b"", b"", call.id, 200, "", b"", kept.created_at_ms, kept=kept)
    return replace(replay, kept=kept)
