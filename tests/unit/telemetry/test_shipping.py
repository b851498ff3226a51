"""Batches that are sent elsewhere: what faults do to them, and that nothing waits for them."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from tests.notice_server import NoticeServer
from tests.unit.telemetry.test_otlp import record

from merino.telemetry import shipping
from merino.telemetry.shipping import BATCH, NotSent, Shipper, Shipping
from merino.telemetry.sinks import FileSink, HttpSink, encode_calls, signed


class Scripted:
    """Fails as told, one error after the other, then takes everything."""

    def __init__(self, *errors: NotSent) -> None:
        self.errors = [*errors]
        self.taken: list[int] = []
        self.batches = 0
        self.is_closed = False

    def send(self, batch: Sequence[int]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.batches += 1
        self.taken += batch

    def close(self) -> None:
        self.is_closed = True


def test_everything_comes_once_and_in_order():
    async def scenario():
        sink = Scripted()
        shipper = Shipper("s", sink)
        for number in range(2 * BATCH + 1):
            shipper.put(number)
        assert await shipper.flush()
        return sink

    sink = asyncio.run(scenario())
    assert [*range(2 * BATCH + 1)] == sink.taken
    assert 3 == sink.batches


def test_what_could_not_be_sent_comes_again_before_what_is_newer():
    async def scenario():
        sink = Scripted(NotSent("down"))
        shipper = Shipper("s", sink)
        shipper.put(1)
        assert not await shipper.flush()
        shipper.put(2)
        assert await shipper.flush()
        return sink

    assert [1, 2] == asyncio.run(scenario()).taken


def test_what_nobody_will_ever_take_is_given_up_and_counted():
    """A collector that refuses a batch as wrong would refuse it for ever."""
    lost = []

    async def scenario():
        sink = Scripted(NotSent("status 400", is_final=True))
        shipper = Shipper("s", sink, lambda name, count: lost.append((name, count)))
        shipper.put(1)
        shipper.put(2)
        assert not await shipper.flush()
        shipper.put(3)
        assert await shipper.flush()
        return sink

    assert [3] == asyncio.run(scenario()).taken
    assert [("s", 2)] == lost


def test_what_cannot_be_written_does_not_end_the_sending():
    """A batch with a text that no encoder takes is given up; what comes later is sent."""
    lost = []

    class Strict(Scripted):
        def send(self, batch: Sequence[int]) -> None:
            if 1 in batch:
                "\ud800".encode()
            super().send(batch)

    async def scenario():
        sink = Strict()
        shipper = Shipper("s", sink, lambda _, count: lost.append(count))
        shipper.put(1)
        assert not await shipper.flush()
        shipper.put(2)
        assert await shipper.flush()
        return sink

    assert [2] == asyncio.run(scenario()).taken
    assert [1] == lost


def test_an_outage_takes_no_more_memory_than_it_may(monkeypatch):
    """The oldest are given up, and counted."""
    monkeypatch.setattr(shipping, "WAITING_MAX", 5)
    lost = []

    async def scenario():
        sink = Scripted(NotSent("down"), NotSent("down"))
        shipper = Shipper("s", sink, lambda _, count: lost.append(count))
        for number in range(8):
            shipper.put(number)
        await shipper.flush()
        for number in range(8, 10):
            shipper.put(number)
        await shipper.flush()
        await shipper.flush()
        return sink

    taken = asyncio.run(scenario()).taken
    assert [5, 6, 7, 8, 9] == taken
    assert 5 == sum(lost)


def test_other_settings_and_the_end_send_what_waits():
    async def scenario():
        first, second = Scripted(), Scripted()
        hub = Shipping()
        before, after = Shipper("a", first), Shipper("b", second)
        hub.follow([before])
        hub.start()
        before.put(1)
        hub.follow([after])
        after.put(2)
        await hub.stop()
        return first, second

    first, second = asyncio.run(scenario())
    assert ([1], [2]) == (first.taken, second.taken)
    assert first.is_closed
    assert second.is_closed


def test_calls_in_a_file_are_json_lines_as_the_api_shows_them(tmp_path):
    path = tmp_path / "calls.jsonl"
    sink = FileSink(path)
    sink.send([record(), record(id="req_2")])
    path.rename(tmp_path / "calls.1")  # as logrotate does
    sink.send([record(id="req_3")])
    lines = [json.loads(line) for line in (tmp_path / "calls.1").read_text().splitlines()]
    assert ["req_1", "req_2"] == [line["id"] for line in lines]
    assert "0.0000007" == lines[0]["charged"]
    assert "req_3" == json.loads(path.read_text())["id"]


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(NotSent, match="Is a directory"):
        FileSink(tmp_path).send([record()])


def test_a_webhook_gets_signed_batches_after_its_outage():
    with NoticeServer(failures=1) as server:
        sink = HttpSink(server.url, encode_calls, signed("secret", lambda: 5_000))
        with pytest.raises(NotSent) as caught:
            sink.send([record()])
        assert not caught.value.is_final
        sink.send([record(), record(id="req_2")])
        sink.close()
    assert ["req_1", "req_2"] == [call["id"] for call in server.taken[0]["calls"]]
    assert server.headers[0]["merino-signature"].startswith("t=5,v1=")


def test_an_address_where_nobody_listens_is_tried_again():
    sink = HttpSink("http://127.0.0.1:9/x", encode_calls, signed(""))
    with pytest.raises(NotSent) as caught:
        sink.send([record()])
    assert not caught.value.is_final
