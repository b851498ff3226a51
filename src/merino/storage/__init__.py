"""Durable state: one data folder with a journal and an SQLite database."""

from merino.storage.store import Store

__all__ = ["Store"]
