"""The glossary is complete."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import merino.domain

GLOSSARY = Path(__file__).parents[2] / "docs" / "concepts" / "glossary.md"
MODULES = [
    *(f"merino.domain.{module.name}" for module in pkgutil.iter_modules(merino.domain.__path__)),
    "merino.billing.nouns",
]


@pytest.mark.parametrize("name", MODULES)
def test_every_noun_is_explained(name) -> None:
    """Every public class of the domain, and of the wing's nouns, stands in the glossary."""
    module = importlib.import_module(name)
    text = GLOSSARY.read_text(encoding="utf-8")
    classes = {
        noun
        for noun, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }
    assert set() == {noun for noun in classes if f"`{noun}`" not in text}
