"""Why a slow program meets its limits: told from the times of its calls."""

from __future__ import annotations

from merino.doctor.pace import KeyLimits, SeenCall, check_pace

KEYS = {"k": KeyLimits("ci", rps=None, rpm=60)}


def run(moments_ms: list[int], served: int, *, key: str = "k") -> list[SeenCall]:
    """Calls at these moments, of which the first ones are served."""
    return [SeenCall(key, at_ms, number >= served) for number, at_ms in enumerate(moments_ms)]


def found(calls: list[SeenCall]) -> list[tuple[str, str]]:
    return [(each.id, each.severity) for each in check_pace(calls, KEYS)]


def test_a_burst_is_most_of_a_minute_in_a_second() -> None:
    """A thousand calls at once meet a limit per minute, whatever follows."""
    burst = list(range(1000))

    assert [("burst", "problem")] == found(run(burst, 60))
    assert [("burst", "problem")] == found(run([*burst[:80], *range(2000, 60_000, 1000)], 60))


def test_refusals_that_come_again_all_the_time_are_retries() -> None:
    """Three refusals and more for each answer, spread over the minute."""
    assert [("retries-multiplied", "problem")] == found(run(list(range(0, 60_000, 600)), 20))


def test_one_idempotency_key_many_times_is_a_loop_around_a_loop() -> None:
    """The client sends it twice more; who sends it oftener has a second loop."""
    calls = [SeenCall("k", at_ms, at_ms > 0, "same") for at_ms in range(0, 60_000, 10_000)]

    assert [("retries-multiplied", "problem")] == found(calls)


def test_even_calls_above_the_limit_have_no_limiter() -> None:
    """Nothing comes again and nothing comes at once: there is simply too much."""
    (finding,) = check_pace(run(list(range(0, 60_000, 700)), 60), KEYS)

    assert ("limiter-ineffective", "problem") == (finding.id, finding.severity)
    assert "60 per minute" in finding.seen
    assert "'ci'" in finding.seen


def test_a_refusal_now_and_then_is_what_limits_are_for() -> None:
    """Fewer than five are not worth a word."""
    assert [("limit-reached", "ok")] == found(run(list(range(0, 60_000, 1000)), 57))
    assert [] == found([])


def test_each_key_is_judged_by_itself() -> None:
    """Another key's calls excuse nobody."""
    calls = [*run(list(range(100)), 10), *run(list(range(0, 60_000, 700)), 60, key="other")]

    assert ["burst", "limiter-ineffective"] == [each for each, _ in found(calls)]
