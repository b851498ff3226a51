"""Many calls from a file: resumable, within limits and within a budget.

The relay works batches off, too, and has no use for the `openai` package; so the processor, which
needs it, is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merino.batch.processor import BatchProcessor as BatchProcessor

__all__ = ["BatchProcessor"]


def __getattr__(name: str) -> Any:
    if name == "BatchProcessor":
        from merino.batch.processor import BatchProcessor

        return BatchProcessor
    raise AttributeError(f"module 'merino.batch' has no attribute '{name}'")
