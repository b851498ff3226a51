"""The journal's import path before the ledger had its own package; kept for scripts that use it."""

from merino.ledger.journal import Journal

__all__ = ["Journal"]
