"""Makes the calls of batches: the same pipeline as a caller's own, without a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

import msgspec

from merino.api.errors import body_of, status_of
from merino.domain.batch import Batch, ItemOutcome, ItemRef
from merino.domain.deployment import Alias
from merino.domain.errors import (
    BudgetExhausted,
    LimitExceeded,
    MerinoError,
    NotFound,
    ShuttingDown,
    StoreUnavailable,
)
from merino.domain.key import VirtualKey
from merino.gateway.call import Call, FirstAnswer, new_call_id
from merino.gateway.keys import Gatekeeper, alias_for
from merino.gateway.pipeline import Pipeline
from merino.pricing.price import PPM
from merino.settings.sections.batches import BatchesSettings
from merino.wire.request import ModelRequest
from merino.wire.served import BATCH_PATHS

_RETRIED = frozenset((408, 409, 429, 500, 502, 503, 504))


class _Line(msgspec.Struct):
    body: msgspec.Raw


_decode_line = msgspec.json.Decoder(_Line).decode


class _Collected:
    """`gateway.ports.Reply` that keeps the answer."""

    has_begun = False
    is_writable = True
    is_disconnected = False
    task = None

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.error: MerinoError | None = None

    def watch(
        self, on_disconnect: Callable[[], None], on_writable: Callable[[bool], None] | None
    ) -> None:
        """Nobody can hang up."""

    def answer(self, call: Call, content_type: bytes, body: bytes) -> None:
        self.body = body

    def fail(self, call: Call, error: MerinoError) -> None:
        self.error = error

    def repeat(self, call: Call, first: FirstAnswer) -> None:
        raise AssertionError("an item has no idempotency key of its own")

    def begin(self, call: Call, data: bytes = b"") -> None:
        raise AssertionError("a batch has no streams")

    def send(self, data: bytes, /) -> None:
        raise AssertionError("a batch has no streams")

    def end(self, call: Call, last: bytes) -> None:
        raise AssertionError("a batch has no streams")


class BatchCalls:
    """Callable as `batch.worker.Send`. What a call costs is `account_ppm` millionths of its price.

    `aliases` are asked for each call, since a reload may change them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        gatekeeper: Gatekeeper,
        find_key: Callable[[str], VirtualKey],
        aliases: Callable[[], Mapping[str, Alias]],
    ) -> None:
        self._pipeline = pipeline
        self._gatekeeper = gatekeeper
        self._find_key = find_key
        self._aliases = aliases
        self._account_ppm = PPM

    def configure(self, settings: BatchesSettings) -> None:
        """For calls that begin from now on."""
        self._account_ppm = round((1 - settings.discount) * PPM)

    async def __call__(self, batch: Batch, item: ItemRef, line: bytes) -> ItemOutcome:
        call_id = new_call_id()
        try:
            call = self._call(batch, item, line, call_id)
        except MerinoError as error:
            return _failed(error, call_id)
        reply = _Collected()
        await self._pipeline.run(call, reply)
        if reply.body is not None:
            return ItemOutcome(200, reply.body, call.id, is_kept=True)
        assert reply.error is not None, "the pipeline answers or fails"
        return _failed(reply.error, call.id)

    def _call(self, batch: Batch, item: ItemRef, line: bytes, call_id: str) -> Call:
        try:
            key = self._find_key(batch.key_id)
        except NotFound:
            raise NotFound(
                "The key that ordered the batch is gone.", code="key_not_found"
            ) from None
        self._gatekeeper.check(key)
        body = bytes(_decode_line(line).body)
        request: ModelRequest = BATCH_PATHS[batch.endpoint].parse(body)
        alias = alias_for(key, request.model, self._aliases())
        return Call(
            id=call_id,
            key=key,
            request=request,
            alias=alias,
            received_at=perf_counter(),
            body=body,
            timeout_s=alias.timeout_s,
            batch_item=item,
            account_ppm=self._account_ppm,
        )


def _failed(error: MerinoError, call_id: str) -> ItemOutcome:
    is_put_off = isinstance(error, LimitExceeded | ShuttingDown | StoreUnavailable)
    status = status_of(error)
    return ItemOutcome(
        status,
        body_of(error),
        call_id,
        is_put_off=is_put_off,
        # Credit may be given, or come back from other calls, before the tries are used up.
        may_retry=status in _RETRIED or isinstance(error, BudgetExhausted),
        retry_after_s=error.retry_after_s,
    )
