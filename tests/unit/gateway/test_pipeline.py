"""One call, top to bottom: which stages run, in which order, and what each ending leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest

from merino.api.errors import status_of
from merino.domain.account import Balance
from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import LimitExceeded
from merino.domain.key import VirtualKey
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, new_call_id
from merino.gateway.expectations import Expectations
from merino.gateway.fleet import Fleet
from merino.gateway.holds import Grant, Holds, decide
from merino.gateway.idempotency import Idempotency
from merino.gateway.metering import StreamLimits
from merino.gateway.pipeline import Pipeline
from merino.gateway.planning import Planner
from merino.gateway.ports import Headroom
from merino.pricing.price import Rates
from merino.pricing.tariff import own_price
from merino.running.watchdog import Watchdog
from merino.settings import HoldSettings
from merino.simulator.provider import SimulatorProvider
from merino.wire.chat import parse_chat

KEY = VirtualKey(id="key", account_id="acct", name="k", hint="mk-...", secret_hash=b"")
RATES = Rates(1_000_000, 1_000_000, 1_000_000, 2_000_000, 1_000_000, 2_000_000, 1_000_000)
PRICE = own_price("d", RATES, RATES)


class Journal(list):
    """What happened, in order."""


class FakeLedger:
    def __init__(self, journal: Journal, posted: int = 10**12) -> None:
        self.journal = journal
        self.posted, self.held = posted, 0
        self.records = []
        self.replays = {}

    def subscribe(self, on_headroom, waiting) -> None:
        self.wake = on_headroom

    def balance(self, account_id: str) -> Balance:
        return Balance(self.posted, self.held, 0)

    def ask(self, key, nanos, call_id, waited_s) -> bool:
        return False

    def unask(self, account_id, call_id) -> None:
        pass

    def headroom(self, key) -> Headroom:
        return Headroom(self.posted - self.held, self.posted, "balance")

    def hold(self, hold, key):
        if hold.amount_nanos > self.posted - self.held:
            return None
        self.journal.append("hold")
        self.held += hold.amount_nanos
        return _done()

    def grow(self, hold, by_nanos, key) -> bool:
        if by_nanos > self.posted - self.held:
            return False
        self.journal.append("grow")
        self.held += by_nanos
        hold.amount_nanos += by_nanos
        return True

    def settle(self, hold, key, record, replay=None):
        assert hold.resolution is None
        hold.resolution = "settled"
        self.journal.append("settle")
        self.held -= hold.amount_nanos
        self.posted -= record.charged_nanos
        self.records.append(record)
        if replay is not None:
            self.replays[replay.id] = replay
        return _done()

    def void(self, hold, key, record):
        assert hold.resolution is None
        hold.resolution = "voided"
        self.journal.append("void")
        self.held -= hold.amount_nanos
        self.records.append(record)
        return _done()

    def record(self, record) -> None:
        self.journal.append("note")
        self.records.append(record)

    async def replay(self, replay_id):
        return self.replays.get(replay_id)


class FakeLimits:
    tokens_max = None

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def take(self, key, alias, tokens, asked_tokens=None):
        self.journal.append("permit")
        return self

    async def wait(self, key, alias, tokens, refusal, within_s, asked_tokens=None):
        raise refusal

    def release(self, used_tokens) -> None:
        self.journal.append("~permit")

    def undo(self) -> None:
        self.journal.append("~permit")

    def headers(self, key, alias):
        return []


class FakeRecorder:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def call_started(self) -> None:
        self.journal.append("record")

    def call_finished(self, record) -> None:
        self.journal.append("~record")

    def call_repeated(self) -> None:
        self.journal.append("~record")


class FakeReply:
    """Keeps what a caller would have got."""

    task = None

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.has_begun = self.is_disconnected = False
        self.is_writable = True
        self.body = self.content_type = b""
        self.error: Any = None
        self.leave_after: int | None = None

    def watch(self, on_disconnect, on_writable) -> None:
        self.on_disconnect = on_disconnect

    def answer(self, call, content_type, body) -> None:
        self.journal.append("answer")
        self.content_type = content_type
        self.body = body

    def repeat(self, call, first) -> None:
        self.journal.append("repeat")
        self.body = first.body

    def begin(self, call, data=b"") -> None:
        self.has_begun = True
        self.told = [attempt.outcome for attempt in call.attempts]
        self.journal.append("begin")
        if data:
            self.send(data)

    def send(self, data) -> None:
        self.body += data
        if self.leave_after is not None and len(self.body) > self.leave_after:
            self.is_disconnected = True
            self.on_disconnect()

    def end(self, call, last) -> None:
        self.journal.append("end")
        self.body += last

    def fail(self, call, error) -> None:
        self.journal.append("fail")
        self.error = error


class Recording:
    """A provider that notes when it is asked."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.inner = SimulatorProvider(seed=1)

    async def send(self, request):
        self.journal.append("upstream")
        return await self.inner.send(request)


def _done() -> asyncio.Future[None]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


class World:
    """A pipeline with fakes around the real simulator."""

    def __init__(self, *models: str, posted: int = 10**12, price=PRICE, **policy) -> None:
        self.journal = Journal()
        self.ledger: Any = FakeLedger(self.journal, posted)
        limits: Any = FakeLimits(self.journal)
        self.alias = Alias(
            "a",
            tuple(
                Deployment(name=f"d{number}", provider="simulator", upstream_model=model)
                for number, model in enumerate(models)
            ),
            output_tokens_max=1000,
        )

        def tariff(deployment, at_ms, tier, account_id):
            return price

        self.fleet = Fleet()
        expectations = Expectations()
        self.pipeline = Pipeline(
            tariff=tariff,
            planner=Planner(
                tariff=tariff, fleet=self.fleet, ledger=self.ledger, expectations=expectations
            ),
            limits=limits,
            holds=Holds(self.ledger, HoldSettings(**policy)),
            ledger=self.ledger,
            attempts=Attempts(
                {"simulator": Recording(self.journal)},
                self.fleet,
                RetryPolicy(backoff_base_s=0.001),
            ),
            idempotency=Idempotency(self.ledger, 2**20),
            recorder=FakeRecorder(self.journal),
            watchdog=Watchdog(),
            expectations=expectations,
            stream_limits=StreamLimits(),
            status_of=status_of,
        )

    def run(
        self,
        *,
        stream: bool = False,
        leave_after: int | None = None,
        leave_after_s: float | None = None,
        around=None,
        **fields,
    ) -> FakeReply:
        body = b'{"model":"a","messages":[{"role":"user","content":"hello there"}],"stream":%s}' % (
            b"true" if stream else b"false"
        )
        reply = FakeReply(self.journal)
        reply.leave_after = leave_after

        async def scenario() -> None:
            call = Call(
                id=new_call_id(),
                key=KEY,
                request=parse_chat(body),
                alias=self.alias,
                received_at=perf_counter(),
                body=body,
                secret=b"mk-secret",
                **fields,
            )
            # As a task of its own: the pipeline cancels it when the caller leaves.
            task = asyncio.create_task(self.pipeline.run(call, reply))
            if leave_after_s is not None:
                await asyncio.sleep(leave_after_s)
                reply.on_disconnect()
            await asyncio.wait([task], timeout=10)
            assert task.done()

        asyncio.run(scenario() if around is None else around(scenario))
        assert 0 == self.ledger.held
        return reply

    @property
    def stages(self) -> str:
        return " ".join(self.journal)


@pytest.mark.parametrize("stream", [False, True])
def test_success(stream) -> None:
    """A call that succeeds is settled before its end leaves, and gives everything back."""
    world = World("plain")
    world.run(stream=stream)
    answered = "begin settle end" if stream else "settle answer"
    assert f"record permit hold upstream {answered} ~permit ~record" == world.stages
    record = world.ledger.records[0]
    assert ("settled", 200, "reported") == (record.resolution, record.status, record.usage_source)
    assert record.charged_nanos == record.input_tokens * 1 + record.output_tokens * 2


@pytest.mark.parametrize("stream", [False, True])
def test_every_attempt_fails(stream) -> None:
    """When no deployment answers, the hold is voided and the caller gets the last error."""
    world = World("plain!status=503", "plain!status=500")
    reply = world.run(stream=stream)
    expected = "record permit hold upstream upstream upstream void ~permit fail ~record"
    assert expected == world.stages
    assert 500 == status_of(reply.error)
    record = world.ledger.records[0]
    assert ("voided", 500, 0) == (record.resolution, record.status, record.charged_nanos)
    assert [503, 500, 500] == [attempt.status for attempt in record.attempts]


@pytest.mark.parametrize("stream", [False, True])
def test_failing_over(stream) -> None:
    """The second deployment answers when the first fails before any content."""
    world = World("plain!error_in_stream" if stream else "plain!status=503", "plain")
    reply = world.run(stream=stream)
    assert reply.error is None
    assert reply.body
    assert "d1" == world.ledger.records[0].deployment
    assert 1 == world.journal.count("settle")


def test_callers_own_mistake_is_not_tried_elsewhere() -> None:
    """An upstream's 400 goes back to the caller at once."""
    world = World("plain!status=400", "plain")
    reply = world.run()
    assert 400 == status_of(reply.error)
    assert 1 == world.journal.count("upstream")


def test_stream_that_breaks_midway_is_settled() -> None:
    """What a broken stream delivered is billed by count, and the caller sees an error."""
    world = World("plain!cut_after=3", "plain")
    reply = world.run(stream=True)
    assert "record permit hold upstream begin settle ~permit fail ~record" == world.stages
    record = world.ledger.records[0]
    assert ("settled", "counted") == (record.resolution, record.usage_source)
    assert 0 < record.output_tokens
    assert "StreamBroken" == type(reply.error).__name__


@pytest.mark.parametrize("fault", ["garbage", "wrong_content_type"])
def test_upstream_garbage_is_voided(fault) -> None:
    """An answer nobody can read is not billed."""
    world = World(f"plain!{fault}")
    reply = world.run(stream=fault == "wrong_content_type")
    assert 502 == status_of(reply.error)
    assert "voided" == world.ledger.records[0].resolution


def test_an_answer_that_can_be_read_is_said_to_be_json() -> None:
    """An upstream that calls its JSON something else is paid for, so its answer must be of use: the
    SDKs decode only what is said to be JSON."""
    world = World("plain!wrong_content_type")
    reply = world.run()
    assert b"application/json" == reply.content_type
    assert "settled" == world.ledger.records[0].resolution


def test_caller_who_leaves_a_stream_pays_for_what_came() -> None:
    """Hanging up cancels the upstream; what was received so far is settled as counted."""
    world = World("plain!chunks=500,output=500,tps=2000")
    world.run(stream=True, leave_after=400)
    record = world.ledger.records[0]
    assert ("settled", 499, "counted") == (record.resolution, record.status, record.usage_source)
    assert 0 < record.output_tokens < 400
    assert 0 < record.charged_nanos


@pytest.mark.parametrize("stream", [False, True])
def test_caller_who_leaves_between_attempts_pays_nothing(stream) -> None:
    """The first attempt failed, the next one has not begun: nobody works for the caller."""
    world = World("plain!status=503,retry_after=30s")
    world.run(stream=stream, leave_after_s=0.05)
    record = world.ledger.records[0]
    assert ("voided", 499, 0) == (record.resolution, record.status, record.charged_nanos)


def test_a_wait_between_attempts_is_no_silence_of_the_upstream() -> None:
    """`first_token_timeout_s` may be shorter than what the upstream wants us to wait."""
    world = World("plain!fail_first=1,status=503,retry_after=100ms")
    world.alias = replace(
        world.alias,
        deployments=(replace(world.alias.deployments[0], first_token_timeout_s=0.05),),
    )
    world.pipeline._watchdog = watchdog = Watchdog(0.01)

    async def with_watchdog(run) -> None:
        sweeping = asyncio.create_task(watchdog.run())
        await run()
        sweeping.cancel()

    reply = world.run(stream=True, around=with_watchdog)
    assert reply.error is None
    assert "d0" == world.ledger.records[0].deployment
    assert 2 == world.journal.count("upstream")


def test_stream_without_usage_is_counted() -> None:
    """A stream whose usage never comes is billed by count and marked so."""
    world = World("plain!no_usage")
    world.run(stream=True)
    assert "counted" == world.ledger.records[0].usage_source
    assert 0 < world.ledger.records[0].charged_nanos


def test_unpaid_call_reaches_no_upstream() -> None:
    """Without credit nothing is held and nobody is asked."""
    world = World("plain", posted=0)
    reply = world.run()
    assert "record permit ~permit note fail ~record" == world.stages
    assert "BudgetExhausted" == type(reply.error).__name__


def test_stream_that_outgrows_its_hold_is_stopped() -> None:
    """A stream that goes on beyond what was held and can be paid is cut, and billed so far."""
    world = World("plain!ignore_limit,chunks=900,output=900", posted=700)
    reply = world.run(stream=True)
    record = world.ledger.records[0]
    assert "HoldOutgrown" == type(reply.error).__name__
    assert "spend cap" in reply.error.message
    assert "settled" == record.resolution
    assert record.output_tokens < 900


def test_idempotency_key_replays_the_first_answer() -> None:
    """A repeat returns the first body, asks nobody and settles nothing."""
    world = World("plain")
    first = world.run(idempotency_key="one")
    second = world.run(idempotency_key="one")
    assert first.body == second.body
    assert 1 == world.journal.count("settle")
    assert 1 == world.journal.count("upstream")
    # Both have ended: whoever waits for running calls waits for none.
    assert 2 == world.journal.count("record") == world.journal.count("~record")


def test_failed_call_frees_its_idempotency_key() -> None:
    """What cost nothing is not kept: the repeat is a fresh call."""
    world = World("plain!fail_first=1")
    world.run(idempotency_key="one")
    assert world.run(idempotency_key="one").body
    assert 2 == world.journal.count("upstream")


def test_clamped_hold_fits_the_balance_also_when_images_are_dearer() -> None:
    """What is affordable is reckoned at the rates the call may come to, pictures included: a clamped
    call is held within the balance, never refused by the ledger after it was granted."""
    dear = replace(RATES, image_input=9_000_000)
    body = (
        b'{"model":"a","messages":[{"role":"user","content":['
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}'
    )

    def quote_at(rates: Rates):
        world = World("plain", price=own_price("d", rates, rates))
        call = Call(
            id=new_call_id(),
            key=KEY,
            request=parse_chat(body),
            alias=world.alias,
            received_at=perf_counter(),
            body=body,
        )
        return world.pipeline.planner.plan(call).quote

    quote = quote_at(dear)
    for wanted in (1, 100, 999):
        balance = quote.worst_nanos(wanted)
        assert wanted == quote.affordable_tokens(balance)
        assert balance < quote.worst_nanos(wanted + 1)
        # At the rate of text the same balance would seem to pay for all of it.
        assert quote_at(RATES).worst_nanos(1000) < balance
        grant = decide(
            Headroom(balance, balance, "balance"),
            quote,
            HoldSettings(clamp_output_tokens_min=1),
        )
        assert isinstance(grant, Grant)
        assert (wanted, balance) == (grant.output_tokens, grant.amount_nanos)


def test_leaving_while_waiting_for_a_limit() -> None:
    """A caller who hangs up before their turn costs nothing, is recorded, and counts as ended."""
    world = World("plain")

    class Busy(FakeLimits):
        def take(self, key, alias, tokens, asked_tokens=None):
            raise LimitExceeded("busy", retry_after_s=1.0)

        async def wait(self, key, alias, tokens, refusal, within_s, asked_tokens=None):
            await asyncio.sleep(0)
            reply.on_disconnect()
            await asyncio.sleep(60)

    pipeline: Any = world.pipeline
    pipeline._limits = Busy(world.journal)
    reply = FakeReply(world.journal)
    body = b'{"model":"a","messages":[{}]}'

    async def scenario() -> None:
        call = Call(
            id=new_call_id(),
            key=KEY,
            request=parse_chat(body),
            alias=world.alias,
            received_at=perf_counter(),
        )
        task = asyncio.create_task(world.pipeline.run(call, reply))
        await asyncio.wait([task], timeout=5)
        assert task.done()

    asyncio.run(scenario())
    assert "record note ~record" == world.stages
    assert [(499, "caller_left", 0)] == [
        (record.status, record.error_code, record.charged_nanos) for record in world.ledger.records
    ]


@pytest.mark.parametrize(
    ("models", "stream"), [(("plain",), False), (("plain",), True), (("plain!status=503",), False)]
)
def test_a_call_is_among_those_that_run_until_it_has_ended(models, stream) -> None:
    """Under its id, with the stage it is in; also a call that fails is gone at its end."""
    world = World(*models)
    seen: list[tuple[str, str, str]] = []

    def look() -> None:
        for call in world.pipeline.running:
            now = call.as_running()
            assert now.id == call.id == asyncio.current_task().get_name()
            seen.append((now.alias, now.stage, now.deployment))

    limits: Any = world.pipeline._limits
    take, ask = limits.take, Recording.send
    limits.take = lambda *asked: (look(), take(*asked))[1]

    async def send(self, request):
        look()
        return await ask(self, request)

    provider = world.pipeline._attempts.one._providers["simulator"]
    provider.send = send.__get__(provider)
    reply = FakeReply.send
    FakeReply.send = lambda self, data: (look(), reply(self, data))[1]
    try:
        world.run(stream=stream)
    finally:
        FakeReply.send = reply
    assert [("a", "queued", ""), ("a", "asking", "d0")] == seen[:2]
    assert stream == (("a", "answering", "d0") in seen)
    assert 0 == len(world.pipeline.running)
