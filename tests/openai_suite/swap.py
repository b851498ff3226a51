"""A pytest plugin: has the openai package's own tests meet Merino's clients.

One client of the suite serves hundreds of tests that fail on purpose. Breaker and retry budget, which
would rightly leave such a server alone, are therefore wide open; everything else is as it comes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import openai
from _pytest.junitxml import bin_xml_escape, mangle_test_address

from merino.client import clients
from merino.client.policy import ClientPolicy

ours: Any = clients
ours.DEFAULT_POLICY = ClientPolicy(breaker_threshold=10**6, retry_reserve=10**6)
openai.OpenAI = openai.Client = clients.OpenAI
openai.AsyncOpenAI = openai.AsyncClient = clients.AsyncOpenAI


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Run what the package's own clients pass."""
    named = os.environ.get("SUITE_WANTED")
    if not named:
        return
    wanted = set(Path(named).read_text(encoding="utf-8").splitlines())
    left_out = [each for each in items if _name_of(each) not in wanted]
    items[:] = [each for each in items if _name_of(each) in wanted]
    config.hook.pytest_deselected(items=left_out)


def _name_of(item: Any) -> str:
    """As the report names it."""
    *classes, name = mangle_test_address(item.nodeid)
    return bin_xml_escape(f"{'.'.join(classes)}::{name}")
