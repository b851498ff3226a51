"""A model that is asked for by a wrong name."""

from __future__ import annotations

import pytest

from merino.domain.deployment import Alias
from merino.domain.errors import AliasNotAllowed
from merino.domain.key import VirtualKey
from merino.gateway.keys import alias_for, nearest

NAMES = ("o3", "o3-mini", "openai/gpt-4.1", "gpt-4.1-mini", "Claude-Sonnet-4-5")


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("o3-min", "o3-mini"),
        ("O3-Mini", "o3-mini"),
        ("openai/gpt4.1", "openai/gpt-4.1"),
        ("claude-sonnet-4.5", "Claude-Sonnet-4-5"),
        ("llama", None),
        ("", None),
        ("o3-mini" * 100, None),
    ],
)
def test_the_model_that_was_probably_meant_is_named(asked, meant) -> None:
    """One that is spelt like it; a name like none, or too long to look for, has none."""
    assert meant == nearest(asked, NAMES)


def test_a_key_learns_of_no_model_that_it_may_not_call() -> None:
    """The neighbour is looked for among its own."""
    aliases = {name: Alias(name, ()) for name in NAMES}
    key = VirtualKey("k", "a", "ci", "mk-...", b"", aliases=("o3", "gpt-4.1-mini"))
    with pytest.raises(AliasNotAllowed) as refused:
        alias_for(key, "o3-min", aliases)
    assert "o3-mini" not in refused.value.message
    with pytest.raises(AliasNotAllowed) as refused:
        alias_for(key, "gpt-4.1-min", aliases)
    assert "Did you mean 'gpt-4.1-mini'?" in refused.value.message
