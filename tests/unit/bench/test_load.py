"""Schedules, targets, scenarios and sweeps: what is decided before a call is made."""

from __future__ import annotations

import json
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.bench.arrivals import arrivals, replayed
from merino.bench.results import BadRun, read_run, read_samples
from merino.bench.scenario import BUILT_IN, BadScenario, load_scenario
from merino.bench.stats import mean
from merino.bench.summary import summarize
from merino.bench.sweep import best, sweep
from merino.bench.targets import parse_target


def test_constant_arrivals_are_evenly_apart_for_hours() -> None:
    """No rounding error grows: the millionth call is due when the division says."""
    assert [0, 0.1, 0.2] == pytest.approx(list(islice(arrivals(10, "constant"), 3)))
    assert 1_000_000 / 3 == next(islice(arrivals(3, "constant"), 1_000_000, None))


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    """Gaps of mean 1/rate and as large a deviation; the same for the same seed."""
    moments = list(islice(arrivals(50, "poisson", 1), 20_000))
    gaps = [b - a for a, b in pairwise(moments)]
    assert 0.02 == pytest.approx(mean(gaps), rel=0.03)
    assert 0.02 == pytest.approx(mean([(gap - 0.02) ** 2 for gap in gaps]) ** 0.5, rel=0.05)
    assert moments == list(islice(arrivals(50, "poisson", 1), 20_000))


def test_a_trace_is_replayed_from_its_first_moment_on() -> None:
    """At double speed in half the time."""
    assert [0, 0.5, 1.0] == list(replayed([1000, 2000, 3000], 2))


def test_targets_are_read() -> None:
    """Name, URL, model and the variable that holds the key; the key is never shown."""
    target = parse_target("a=http://h/v1/,o3,K", {"K": "secret"})
    assert ("a", "http://h/v1", "o3", "secret") == (
        target.name,
        target.base_url,
        target.model,
        target.key,
    )
    assert "secret" not in repr(target)
    assert "m" == parse_target("a=http://h/v1", {"MERINO_API_KEY": "m"}).key
    assert "" == parse_target("a=http://h/v1,o3", {}).key


@pytest.mark.parametrize(
    "text",
    ["a", "=http://h", "a=ftp://h", "a=http://", "a=http://u:p@h/v1", "a=http://h,m,K", "a b=http://h",
     "a=http://h,m,sk-key", "a=http://h,m,K,x"],
)  # fmt: skip
def test_wrong_targets_are_refused(text) -> None:
    """Each says what is wrong."""
    with pytest.raises(ValueError, match=r".+"):
        parse_target(text, {})


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_scenarios_can_be_asked(name) -> None:
    """Each has prompts and a limit, and the picture is one."""
    scenario = load_scenario(name)
    prompt = next(scenario.asked())
    assert scenario.description
    assert prompt.max_output_tokens
    content = prompt.messages[-1]["content"]
    assert (name == "image") == isinstance(content, list)
    if name == "image":
        assert content[1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


def write(tmp_path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_synthetic_prompts_follow_their_distribution(tmp_path) -> None:
    """Lengths within bounds and near the mean, after a prefix that all share."""
    path = write(
        tmp_path,
        "s.toml",
        """
        shared_prefix_tokens = 50
        input_tokens = { distribution = "lognormal", mean = 200, deviation = 80, max = 400 }
        output_tokens = { distribution = "uniform", min = 10, max = 20 }
        """,
    )
    prompts = list(islice(load_scenario(path).asked(7), 400))
    texts = [prompt.messages[0]["content"] for prompt in prompts]
    assert 250 == pytest.approx(mean([len(text) / 4 for text in texts]), rel=0.1)
    assert 1 == len({text[:200] for text in texts})
    assert {10, 20} <= {prompt.max_output_tokens for prompt in prompts} <= set(range(10, 21))
    assert prompts == list(islice(load_scenario(path).asked(7), 400))


def test_prompt_sets_and_traces_are_read(tmp_path) -> None:
    """Lines with messages, a prompt, or lengths with blocks; with timestamps in their order."""
    lines = [
        {"prompt": "b", "timestamp": 2000, "output_length": 5},
        {"messages": [{"role": "user", "content": "a"}], "timestamp": 1000},
        {"input_length": 600, "hash_ids": [1, 2], "timestamp": 3000},
        {"input_length": 600, "hash_ids": [1, 3], "timestamp": 4000},
    ]
    path = write(tmp_path, "t.jsonl", "\n".join(map(json.dumps, lines)))
    scenario = load_scenario(path)
    assert [1000, 2000, 3000, 4000] == scenario.timestamps_ms
    first, second, third, fourth = islice(scenario.asked(), 4)
    assert ("a", "b", 5) == (
        first.messages[0]["content"],
        second.messages[0]["content"],
        second.max_output_tokens,
    )
    one, two = third.messages[0]["content"], fourth.messages[0]["content"]
    assert (2400, 2400) == (len(one), len(two))
    assert one[:2000] == two[:2000]
    assert one != two


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "x ="),
        ("a.toml", "prompts = 3"),
        ("a.toml", "speed = 3"),
        ("a.toml", "[[prompts]]\nsystem = 's'\nturns = [1]"),
        ("a.toml", "[[prompts]]\nturns = []"),
        ("a.toml", "[[prompts]]\nuser = 'a'\nimage = 'none.png'"),
        ("a.toml", "input_tokens = 0"),
        ("a.toml", "input_tokens = { distribution = 'odd' }"),
        ("a.toml", "input_tokens = { min = 5, max = 3 }"),
        ("a.toml", "description = 'no prompts'"),
        ("a.jsonl", ""),
        ("a.jsonl", "[]"),
        ("a.jsonl", '{"prompt": ""}'),
        ("a.jsonl", '{"prompt": "a", "max_output_tokens": 0}'),
        ("a.jsonl", '{"prompt": "a", "timestamp": "x"}'),
        ("a.jsonl", '{"prompt": "a", "timestamp": 1}\n{"prompt": "b"}'),
    ],
)
def test_wrong_scenarios_are_refused(tmp_path, name, text) -> None:
    """Each says what is wrong, never with a traceback of its own."""
    with pytest.raises(BadScenario):
        load_scenario(write(tmp_path, name, text))


def test_an_unknown_scenario_is_refused() -> None:
    """Neither built in nor a file."""
    with pytest.raises(BadScenario, match="neither"):
        load_scenario("poem")


@pytest.mark.anyio
@given(limit=st.floats(1, 500))
async def test_a_sweep_finds_the_highest_rate(limit) -> None:
    """Within its precision, for any server that fails above some rate."""

    async def measure(rate: float):
        found = summarize("t", [])
        found.error_share = 0.0 if rate <= limit else 1.0
        return found

    steps = await sweep(measure, start_per_s=1.0, rate_max_per_s=1000)
    found = best(steps)
    assert found is not None
    assert limit * 0.89 <= found <= limit
    assert len(steps) <= 20


@pytest.mark.anyio
async def test_a_sweep_of_a_server_that_keeps_nothing_ends() -> None:
    """It halves a few times and says that no rate was kept."""

    async def measure(rate: float):
        found = summarize("t", [])
        found.error_share = 1.0
        return found

    steps = await sweep(measure, start_per_s=8.0, rate_max_per_s=1000)
    assert None is best(steps)
    assert len(steps) < 10


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("late", "failed", "calls", "why"),
    [
        (0, 0, 15, None),
        (1, 0, 15, "the generator sent 1 of 15 calls more than 5 ms late, one of them 9.0 ms"),
        (1, 0, 100, None),
        (2, 0, 100, "the generator sent 2 of 100 calls more than 5 ms late, one of them 9.0 ms"),
        (0, 1, 15, "1 of 15 calls failed (at most 1% may)"),
        (0, 1, 100, None),
    ],
)
async def test_a_sweep_judges_by_the_calls_there_are(late, failed, calls, why) -> None:
    """Late and failed calls are counted as in a run of one rate, and told as counts: of fewer than
    a hundred, one is more than the share that may be."""

    async def measure(rate: float):
        found = summarize("t", [])
        found.calls, found.good, found.sent_late = calls, calls - failed, late
        found.lag_max_ms, found.error_share = 9.0, failed / calls
        return found

    steps = await sweep(measure, start_per_s=1.0, rate_max_per_s=1.0)
    assert why == steps[0].why_not


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no result"),
        ("{}", "schema None"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "no result"),
    ],
)
def test_a_folder_without_a_run_is_told(tmp_path, text, why) -> None:
    """What is no result, or of another schema, is named."""
    with pytest.raises(BadRun, match=r"result\.json"):
        read_run(tmp_path)
    write(tmp_path, "result.json", text)
    with pytest.raises(BadRun, match=why):
        read_run(tmp_path)


def test_a_last_sample_that_was_cut_short_is_left_out(tmp_path) -> None:
    """A full disk may end a line early; a broken line before it is an error."""
    line = '{"number":1,"target":"t","scheduled_s":0,"sent_s":0,"end_s":1}'
    path = tmp_path / "samples.jsonl"
    path.write_text(f"{line}\n{line[:20]}")
    assert [1] == [each.number for each in read_samples(path)]
    path.write_text(f"{line[:20]}\n{line}\n{line}\n")
    with pytest.raises(BadRun, match="jsonl:1"):
        read_samples(path)
