"""`merino doctor`: what stands between a program and its answers, in plain words.

Each check is a small function that returns findings; `caller` and `operator` say which run, and in
which order. Nothing here prints.
"""

from merino.doctor.finding import FINDING_IDS, Finding, FindingId, Severity, is_healthy

__all__ = ["FINDING_IDS", "Finding", "FindingId", "Severity", "is_healthy"]
