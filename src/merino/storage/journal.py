"""The journal's address before the ledger had a room of its own, for scripts that name it."""

from merino.ledger.journal import Journal

__all__ = ["Journal"]
