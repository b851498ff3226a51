"""Tests of the openai package that cannot hold for Merino's clients, each with its reason: a part of
the test's name."""

from __future__ import annotations

CANNOT_APPLY: dict[str, str] = {}
