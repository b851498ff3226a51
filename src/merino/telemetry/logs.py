"""Structured logs on standard error, as text for people or JSON lines for machines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal

import structlog

from merino.telemetry.redaction import redact_event

_also: Callable[[Mapping[str, Any]], None] | None = None


def tell_also(who: Callable[[Mapping[str, Any]], None] | None) -> None:
    """Besides, hand each event to somebody, without its secrets; `None`: to nobody any more."""
    global _also  # noqa: PLW0603 - a log is the process's
    _also = who


def _tell(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if _also is not None:
        _also(event)
    return event


def configure_logs(log_format: Literal["text", "json"], level: str) -> None:
    """Send our events and the standard library's (uvicorn's among them) through one chain."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_event,
                _tell,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    for name in ("httpx2", "httpcore2"):  # a line for each request: what asked it says what matters
        logging.getLogger(name).setLevel(logging.WARNING)
    # uvicorn's own start and stop lines repeat ours.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
