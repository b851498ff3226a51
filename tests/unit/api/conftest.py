"""Fixtures of stores in memory."""

from __future__ import annotations

from tests.unit.control_in_memory import accounts, books, control, running

__all__ = ["accounts", "books", "control", "running"]
