"""Many calls from a file: resumable, within limits and within a budget."""

from __future__ import annotations

from merino.batch.processor import BatchProcessor

__all__ = ["BatchProcessor"]
