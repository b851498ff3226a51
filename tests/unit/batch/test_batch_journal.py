"""The results of a batch are its journal: any crash, any failure, and every id has one outcome."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.batch import results
from merino.batch.failures import verdict_of
from merino.batch.items import Checked, Item, Source, check, digest_of, hash_of
from merino.batch.results import JOB_SUFFIX, Result, ResultFiles
from merino.batch.runner import REFUSED_ALIKE_MAX, BatchRunner
from merino.cli.batch import _exit_code
from merino.domain.errors import Misconfigured

ANSWER = {"choices": [{"message": {"content": "hi"}}]}


def item(number: int) -> Item:
    body = {"model": "m", "messages": []}
    return Item(number, number + 1, f"id-{number}", "/v1/chat/completions", body)


class Items:
    """`batch.items.Source` without a file."""

    def __init__(self, count: int) -> None:
        self.count = count

    def items(self):
        return iter([item(number) for number in range(self.count)])

    def checked(self) -> Checked:
        hashes = array("Q", [hash_of(f"id-{number}") for number in range(self.count)])
        return Checked(self.count, hashes, [], 0, set())


class Server:
    """`batch.runner.Sender`: answers as the script of each item says, then well."""

    longest_s = 0.0

    def __init__(self, scripts: dict[int, list[tuple[int, str]]]) -> None:
        self.scripts = scripts
        self.asked: list[int] = []
        self.paid: list[int] = []
        self.keys: dict[int, set[str]] = {}

    def stop(self) -> None:
        pass

    async def send(self, item: Item, idempotency_key: str, on_overload) -> Result | None:
        self.asked.append(item.number)
        self.keys.setdefault(item.number, set()).add(idempotency_key)
        await asyncio.sleep(0)
        script = self.scripts.get(item.number)
        status, error = script.pop(0) if script else (200, "")
        if status == 200 and not error:
            self.paid.append(item.number)
            return Result(item, 200, ANSWER, cost_nanos=7)
        body = {"error": {"code": error, "message": "no"}}
        verdict = verdict_of(status, json.dumps(body).encode())
        return Result(item, status, body, error=error, verdict=verdict)


def run(
    folder: Path,
    server: Server,
    count: int,
    *,
    resume: bool,
    in_order: bool = False,
    shares_a_file: bool = False,
):
    source: Any = Items(count)
    out = folder / "out.jsonl"
    errors = out if shares_a_file else folder / "errors.jsonl"
    files = ResultFiles(out, errors, resume=resume, in_order=in_order)
    runner = BatchRunner(
        source, source.checked(), files, server, concurrency_max=3, in_order=in_order
    )
    return asyncio.run(runner.run())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


FAILURES = [
    (400, "invalid_value"), (404, "model_not_found"), (422, ""), (401, "invalid_api_key"),
    (402, "402"), (403, "permission_denied"), (429, "insufficient_quota"), (500, ""), (0, "timeout"),
    (200, "no_answer"), (403, "content_filter"), (404, ""), (405, ""), (413, ""),
    (200, "invalid_api_key"), (200, "context_length_exceeded"),
]  # fmt: skip

OWN = [(400, "invalid_value"), (422, ""), (403, "content_filter"), (413, ""),
       (200, "context_length_exceeded")]  # fmt: skip


class Killed(BaseException):
    """The process is no more: nothing that follows is done."""


class Mortal:
    """`os` of a process that dies at a step: at a write, of which `bytes_left` bytes still come; at
    a sync; at the end of a call, which is paid for by then."""

    def __init__(self, steps: int, bytes_left: int = 0) -> None:
        self._steps = steps
        self._bytes_left = bytes_left
        self._opened: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise Killed

    def open(self, *arguments: Any) -> int:
        fd = os.open(*arguments)
        self._opened.append(fd)
        return fd

    def close(self, fd: int) -> None:
        self._opened.remove(fd)
        os.close(fd)

    def write(self, fd: int, data: bytes) -> int:
        if self._steps == 0:
            os.write(fd, data[: self._bytes_left % len(data)])
        self.step()
        return os.write(fd, data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self._steps == 0:
            os.pwrite(fd, data[: self._bytes_left % len(data)], offset)
        self.step()
        return os.pwrite(fd, data, offset)

    def fsync(self, fd: int) -> None:
        self.step()

    def die(self) -> None:
        """Its descriptors go with it, and so does its lock."""
        for fd in self._opened:
            os.close(fd)


class Relay(Server):
    """Answers a key once, and again the same for nothing; dies with its caller."""

    def __init__(self, scripts: dict[int, list[tuple[int, str]]]) -> None:
        super().__init__(scripts)
        self.answers: dict[str, Result] = {}
        self.mortal = Mortal(10**9)

    async def send(self, item: Item, idempotency_key: str, on_overload) -> Result | None:
        if idempotency_key in self.answers:
            self.keys[item.number].add(idempotency_key)
            await asyncio.sleep(0)
            return self.answers[idempotency_key]
        result = await super().send(item, idempotency_key, on_overload)
        assert result is not None
        if result.is_good:
            self.answers[idempotency_key] = result
        self.mortal.step()
        return result


def run_and_die(folder: Path, relay: Relay, count: int, mortal: Mortal, **options: bool) -> None:
    """A run that is killed, if it lives so long."""
    relay.mortal = mortal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "os", mortal)
        with contextlib.suppress(Killed):
            run(folder, relay, count, **options)
    mortal.die()
    relay.mortal = Mortal(10**9)


def cut(folder: Path, relay: Relay, where: int) -> None:
    """What a machine that loses its power may lose: the end of whatever was not synced. The job's
    name was, before the first call."""
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        if path.suffix != JOB_SUFFIX or not relay.asked:
            os.truncate(path, max(0, size - where % (size + 1)))


deaths = st.tuples(st.integers(0, 60), st.integers(0, 400), st.none() | st.integers(0, 4000))


@given(
    st.integers(1, 12),
    st.dictionaries(
        st.integers(0, 11), st.lists(st.sampled_from(FAILURES), max_size=3), max_size=12
    ),
    st.lists(deaths, max_size=5),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None, max_examples=examples(50))
def test_whatever_fails_and_wherever_it_dies(
    tmp_path_factory, count, scripts, deaths, in_order, shares_a_file
):
    """Killed at any step of a run, its files cut at any byte, and resumed until nothing may pass any
    more: every id has exactly one outcome, none was paid for twice, what has no answer is not called
    done, and what was refused for itself is a failure."""
    folder = tmp_path_factory.mktemp("batch")
    final = {
        number: failures
        for number, failures in scripts.items()
        if number < count and any(failure in OWN for failure in failures)
    }
    relay = Relay({number: list(script) for number, script in scripts.items()})
    options = {"in_order": in_order, "shares_a_file": shares_a_file}
    for steps, bytes_left, where in deaths:
        run_and_die(folder, relay, count, Mortal(steps, bytes_left), resume=True, **options)
        if where is not None:
            cut(folder, relay, where)
    for _ in range(3 * count + 3):
        progress = run(folder, relay, count, resume=True, **options)
        if not progress.left and progress.done == progress.good:
            break
    rows = lines(folder / "out.jsonl") + lines(folder / "errors.jsonl")
    good = [row for row in rows if row["error"] is None]
    bad = [row["custom_id"] for row in rows if row["error"] is not None]
    assert sorted(f"id-{number}" for number in range(count)) == sorted(
        row["custom_id"] for row in rows
    )
    assert all(ANSWER == row["response"]["body"] for row in good)
    assert len(relay.paid) == len(set(relay.paid))
    assert len(good) == len(relay.paid)
    assert set(bad) <= {f"id-{number}" for number in final}
    assert all(1 == len(keys) for keys in relay.keys.values())
    assert _exit_code(progress) == (1 if bad else 0)


@pytest.mark.parametrize(
    ("refusal", "most"),
    [
        ((401, "invalid_api_key"), 3),
        ((429, "insufficient_quota"), 3),
        ((402, ""), REFUSED_ALIKE_MAX + 2),
        ((404, ""), REFUSED_ALIKE_MAX + 2),
        ((404, "model_not_found"), REFUSED_ALIKE_MAX + 2),
        ((403, "permission_denied"), REFUSED_ALIKE_MAX + 2),
    ],
)
def test_what_refuses_everybody_stops_the_batch(tmp_path, refusal, most) -> None:
    """Few are burnt, the exit code says that some are left, and all are asked again."""
    server = Server({number: [refusal] for number in range(5, 40)})
    progress = run(tmp_path, server, 40, resume=False)
    assert len(server.asked) <= 5 + most + 3
    assert 3 == _exit_code(progress)
    server.scripts.clear()
    progress = run(tmp_path, server, 40, resume=True)
    assert 40 == len(lines(tmp_path / "out.jsonl"))
    assert [] == lines(tmp_path / "errors.jsonl")
    assert 0 == _exit_code(progress)


def test_one_refused_prompt_stops_nobody(tmp_path) -> None:
    """A 403 among answers is that item's."""
    server = Server({number: [(403, "flagged")] for number in (3, 7, 11)})
    progress = run(tmp_path, server, 20, resume=False)
    assert 17 == progress.good
    assert 0 == progress.left
    assert 1 == _exit_code(progress)


def test_a_refusal_of_an_earlier_run_still_counts(tmp_path) -> None:
    """A resumed run that finds nothing to do but failures does not exit as if all were well."""
    server = Server({0: [(400, "bad")]})
    assert 1 == _exit_code(run(tmp_path, server, 1, resume=False))
    assert 1 == _exit_code(run(tmp_path, server, 1, resume=True))
    assert [0] == server.asked


def test_results_of_another_program_are_judged_by_what_they_say(tmp_path) -> None:
    """A line that does not say whether it is final is, if its body speaks of the item."""
    bodies = [
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        (400, {"error": {"message": "Your credit balance is too low"}}),
        (403, {"error": {"message": "flagged by moderation"}}),
        (404, None),
    ]
    rows = [
        {
            "id": "x",
            "custom_id": f"id-{number}",
            "response": {"status_code": status, "request_id": "", "body": body},
            "error": {"code": str(status), "message": ""},
        }
        for number, (status, body) in enumerate(bodies)
    ]
    (tmp_path / "errors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ResultFiles(tmp_path / "out.jsonl", tmp_path / "errors.jsonl", resume=True)
    assert {hash_of("id-0"), hash_of("id-2")} == files.done
    files.close()


@pytest.mark.parametrize("left", [b"", b"0123", b"\xff\xfe\n", b"a b\n", b"x" * 99])
def test_half_a_name_is_no_name(tmp_path, left) -> None:
    """It was never sent, since it is on the disk before anything is: there is a new one then, which
    later runs keep."""
    (tmp_path / "out.jsonl.job").write_bytes(left)
    named = []
    for _ in range(2):
        files = ResultFiles(tmp_path / "out.jsonl", tmp_path / "errors.jsonl", resume=True)
        named.append(files.job)
        files.close()
    assert named[0] == named[1]
    assert (16, f"{named[0]}\n") == (len(named[0]), (tmp_path / "out.jsonl.job").read_text())


@pytest.mark.parametrize("line", ["[" * 100_000, "{}", "7", "null", '{"response": 7, "error": 1}'])
def test_another_file_is_not_taken_for_results(tmp_path, line) -> None:
    """It is named with its line, and stays as it is."""
    (tmp_path / "out.jsonl").write_text(line + "\n")
    with pytest.raises(Misconfigured, match=r"out\.jsonl:1 is not a result"):
        ResultFiles(tmp_path / "out.jsonl", tmp_path / "errors.jsonl", resume=True)
    assert line + "\n" == (tmp_path / "out.jsonl").read_text()


def test_two_runs_do_not_share_a_file(tmp_path) -> None:
    """The second is refused while the first runs, and taken afterwards."""
    out, errors = tmp_path / "out.jsonl", tmp_path / "errors.jsonl"
    first = ResultFiles(out, errors, resume=False)
    with pytest.raises(Misconfigured, match="another run writes"):
        ResultFiles(out, errors, resume=True)
    first.close()
    ResultFiles(out, errors, resume=True).close()


def write_all(folder: Path, answers: dict[str, str], *, resume: bool = False) -> None:
    """A file of calls, answered one and all."""
    source = source_of(folder, answers)
    files = ResultFiles(folder / "out.jsonl", folder / "errors.jsonl", resume=resume)
    runner = BatchRunner(source, check(source), files, Server({}), concurrency_max=3)
    asyncio.run(runner.run())


def source_of(folder: Path, texts: dict[str, str], **more: str) -> Source:
    path = folder / "in.jsonl"
    path.write_text(
        "".join(
            json.dumps({"custom_id": each, "body": {"messages": [text], "model": "m"} | more})
            + "\n"
            for each, text in texts.items()
        )
    )
    return Source(path, "jsonl")


def test_a_changed_question_is_not_taken_for_the_one_that_was_answered(tmp_path) -> None:
    """Changed ones are told apart from those that stayed, moved, or only have their fields in
    another order; what is asked again has another key."""
    write_all(tmp_path, {"a": "one", "b": "two", "c": "three"})
    source = source_of(tmp_path, {"c": "three", "new": "four", "b": "other"})
    checked = check(source)
    files = ResultFiles(tmp_path / "out.jsonl", tmp_path / "errors.jsonl", resume=True)
    assert [2] == files.changed(checked)
    files.forget([hash_of("b")])
    assert [] == files.changed(checked)
    server = Server({})
    runner = BatchRunner(source, checked, files, server, concurrency_max=1)
    assert 1 == runner.progress.skipped
    progress = asyncio.run(runner.run())
    assert (0, 2) == (progress.left, progress.good)
    assert ["a", "c", "new", "b"] == [row["custom_id"] for row in lines(tmp_path / "out.jsonl")]
    old = source_of(tmp_path, {"b": "two"})
    assert check(old).digests[0] != checked.digests[2]
    assert f"{files.job}-{checked.digests[2]:016x}" in server.keys[2]


def test_results_that_do_not_say_what_was_asked_are_believed(tmp_path) -> None:
    """Those of an earlier version, and of another program."""
    write_all(tmp_path, {"a": "one", "b": "two"})
    rows = lines(tmp_path / "out.jsonl")
    rows[0]["id"] = f"batch_req_{hash_of('a'):016x}"
    rows[1]["id"] = "batch_req_xyz"
    (tmp_path / "out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ResultFiles(tmp_path / "out.jsonl", tmp_path / "errors.jsonl", resume=True)
    assert [] == files.changed(check(source_of(tmp_path, {"a": "x", "b": "y"})))
    files.close()


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_another_order_of_fields_is_the_same_question(data) -> None:
    """Whatever the body is made of; another value anywhere is another one."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
    body = data.draw(st.dictionaries(st.text(), values, min_size=1, max_size=5))
    moved = dict(data.draw(st.permutations(list(body.items()))))
    one = Item(0, 1, "a", "/v1/chat/completions", body)
    assert digest_of(one) == digest_of(Item(7, 9, "a", one.url, moved))
    assert digest_of(one) != digest_of(Item(0, 1, "a", one.url, body | {next(iter(body)): ["x"]}))
    assert digest_of(one) != digest_of(Item(0, 1, "b", one.url, body))


@pytest.mark.parametrize(
    ("tail", "is_kept"), [("", True), (" ", True), ("{", False), ('{"custom_id": "id-9"', False)]
)
def test_a_result_that_lacks_only_its_line_end_is_a_result(tmp_path, tail, is_kept) -> None:
    """Editors and killed processes leave such a last line; it is not paid for again."""
    run(tmp_path, Server({}), 2, resume=False)
    out = tmp_path / "out.jsonl"
    out.write_text(out.read_text().rstrip("\n") + tail if is_kept else out.read_text() + tail)
    server = Server({})
    progress = run(tmp_path, server, 2, resume=True)
    assert ([], 0) == (server.asked, progress.left)
    assert 2 == len(lines(out))


def test_what_was_done_before_is_not_left_where_a_run_stops_early(tmp_path) -> None:
    """However far it came in the file; and a refusal of what is no longer in the file is none of
    this run's."""
    run(tmp_path, Server({1: [(400, "bad")]}), 2, resume=False)
    (tmp_path / "errors.jsonl").write_text(
        (tmp_path / "errors.jsonl").read_text().replace("id-1", "gone")
    )
    rows = (tmp_path / "out.jsonl").read_text().replace("id-0", "id-19")
    (tmp_path / "out.jsonl").write_text(rows)
    server = Server({number: [(401, "invalid_api_key")] for number in range(20)})
    progress = run(tmp_path, server, 20, resume=True)
    assert (1, 0) == (progress.skipped, progress.failed_before)
    assert 20 == progress.skipped + progress.done + progress.left


class FullDisk:
    """`os` where only so many bytes can be written before there is room again."""

    def __init__(self, room: int, again_after: int = 10**9) -> None:
        self._room = room
        self._refusals_left = again_after

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: bytes) -> int:
        if self._room >= len(data) or self._refusals_left <= 0:
            self._room -= len(data)
            return os.write(fd, data)
        self._refusals_left -= 1
        if self._room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(fd, data[: self._room])
        self._room = 0
        return written


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("room", [0, 1, 300, 1000])
def test_a_full_disk_stops_the_run_and_leaves_whole_lines(tmp_path, monkeypatch, room, in_order):
    """What could not be written is told and left; it is asked again once there is room."""
    server = Server({})
    with monkeypatch.context() as patch:
        patch.setattr(results, "os", FullDisk(room))
        progress = run(tmp_path, server, 20, resume=False, in_order=in_order)
    assert "No space left on device" == progress.write_error
    assert 3 == _exit_code(progress)
    assert len(lines(tmp_path / "out.jsonl")) == progress.done == progress.good
    assert 20 == progress.done + progress.left
    assert 0 < progress.unwritten <= progress.left
    assert len(server.asked) == progress.done + progress.unwritten
    progress = run(tmp_path, server, 20, resume=True, in_order=in_order)
    assert (0, 20) == (progress.left, len(lines(tmp_path / "out.jsonl")))


@pytest.mark.parametrize("in_order", [True, False])
def test_answers_are_kept_until_there_is_room_again(tmp_path, monkeypatch, in_order):
    """What came while the disk was full is written at the end, if it can be."""
    server = Server({})
    monkeypatch.setattr(results, "os", FullDisk(500, again_after=2))
    progress = run(tmp_path, server, 20, resume=False, in_order=in_order)
    assert 0 == progress.unwritten
    assert len(server.asked) == progress.done == len(lines(tmp_path / "out.jsonl"))


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch) -> None:
    """Some network file systems have none; two runs on one file would not see each other."""

    def no_locks(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(Misconfigured, match=r"No locks available.*another disk"):
        ResultFiles(tmp_path / "out.jsonl", tmp_path / "errors.jsonl", resume=False)


@pytest.mark.parametrize("kind", ["link", "symlink"])
@pytest.mark.parametrize("which", ["out", "errors"])
def test_a_file_has_one_run_whatever_it_is_called(tmp_path, kind, which) -> None:
    """Another name of the same file, and a file of failures that two runs share."""
    first = ResultFiles(tmp_path / "out", tmp_path / "errors", resume=False)
    other = tmp_path / "other"
    if kind == "link":
        other.hardlink_to(tmp_path / which)
    else:
        other.symlink_to(tmp_path / which)
    names = (other, tmp_path / "e2") if which == "out" else (tmp_path / "o2", other)
    with pytest.raises(Misconfigured, match="another run writes"):
        ResultFiles(*names, resume=True)
    first.close()
    ResultFiles(*names, resume=True).close()


def test_results_are_written_to_plain_files_only(tmp_path) -> None:
    """A pipe or a device can be no journal."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), tmp_path):
        with pytest.raises(Misconfigured, match="not a plain file"):
            ResultFiles(path, tmp_path / "errors", resume=False)
        with pytest.raises(Misconfigured, match="not a plain file"):
            ResultFiles(tmp_path / "out", path, resume=True)


def test_half_a_surrogate_pair_comes_out_as_it_came(tmp_path) -> None:
    """In the text, and in the id that a resumed run knows again."""
    half = json.loads('"\\ud83d"')
    files = ResultFiles(tmp_path / "o", tmp_path / "e", resume=False)
    odd = Item(0, 1, half, "/v1/chat/completions", {})
    files.write(Result(odd, 200, {"choices": [{"message": {"content": half}}]}))
    files.close()
    [line] = lines(tmp_path / "o")
    assert half == line["custom_id"] == line["response"]["body"]["choices"][0]["message"]["content"]
    files = ResultFiles(tmp_path / "o", tmp_path / "e", resume=True)
    assert {hash_of(half)} == files.done
    files.close()


def test_a_run_that_dies_while_it_takes_up_loses_nothing(tmp_path) -> None:
    """The failures are replaced at once or not at all."""
    server = Server({number: [(500, "")] for number in range(4)})
    run(tmp_path, server, 4, resume=False)
    shutil.copytree(tmp_path, tmp_path / "before")
    (tmp_path / "before" / "errors.jsonl.kept").write_text("half a li")
    run(tmp_path / "before", server, 4, resume=True)
    assert 4 == len(lines(tmp_path / "before" / "out.jsonl"))
