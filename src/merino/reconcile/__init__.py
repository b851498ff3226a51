"""What a provider asks beside what the relay booked, and why the two differ.

    from merino.reconcile import own_books, read_statement, reconcile

    statement = read_statement("openai", files)
    found = reconcile(statement, own_books(calls), ("2026-10-01", "2026-11-01"))
    found.unexplained, found.differences

Pure: files are given as text, calls as values.
"""

from merino.reconcile.compare import Line, Reconciliation, reconcile
from merino.reconcile.explain import CAUSES, Cause, Difference
from merino.reconcile.nouns import Billed, Charged, Own, Place, Statement
from merino.reconcile.own import OwnAttempt, OwnCall, add_call, own_books
from merino.reconcile.report import as_csv, as_object, summary
from merino.reconcile.statements import HOSTS, PROVIDERS, read_statement

__all__ = [
    "CAUSES",
    "HOSTS",
    "PROVIDERS",
    "Billed",
    "Cause",
    "Charged",
    "Difference",
    "Line",
    "Own",
    "OwnAttempt",
    "OwnCall",
    "Place",
    "Reconciliation",
    "Statement",
    "add_call",
    "as_csv",
    "as_object",
    "own_books",
    "read_statement",
    "reconcile",
    "summary",
]
