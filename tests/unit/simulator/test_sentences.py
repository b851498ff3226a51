"""Simulated answers end where a sentence does."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from merino.simulator.answer import answer_of
from merino.simulator.options import Options


@settings(deadline=None)
@given(
    count=st.integers(1, 700),
    prompt=st.text(max_size=80),
    model=st.sampled_from(["o3", "o4-mini", "a model with a long name and many words in it"]),
)
@example(count=20, prompt="", model="o3")
@example(count=11, prompt="Hi", model="o3")
def test_an_answer_ends_with_a_whole_sentence(count, prompt, model) -> None:
    """Whatever number of tokens it shall have, it has them, and the last one ends a sentence."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    answer = answer_of(body, model, Options(output=count))
    assert (count, "stop") == (len(answer.pieces), answer.finish_reason)
    text = "".join(answer.pieces)
    assert text.endswith((".", '".'))
    assert not text.startswith(" ")


def test_what_a_limit_cuts_says_so() -> None:
    """Then the sentence is not whole, and the reason is the length."""
    body = {
        "model": "plain",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 7,
    }
    answer = answer_of(body, "plain", Options())
    assert ("length", 7) == (answer.finish_reason, len(answer.pieces))
