"""Structured logs on standard error, as JSON or for a terminal. Lines of the standard library's logging join them."""

import logging
import sys
from typing import Any, TextIO

import structlog
from opentelemetry import trace

from lensmesh_chassis.rpc.request_id import request_id

# Chatty at INFO, and telling nothing that a span or a metric does not.
_QUIET = ("asyncio", "grpc", "httpx", "httpcore", "urllib3", "filelock", "PIL", "opentelemetry")
# What of an event is printed line by line.
_HAS_LINES = ("exception", "stack")


def get_logger(name: str) -> Any:
    """Return a structlog logger that ends in the standard library's `logging`.

    A program that configured neither sees nothing.
    """
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def configure_logging(level: str, format_: str, *, service: str, instance: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (default: standard error). `format_`: "auto", "json" or "console"."""
    stream = stream or sys.stderr
    if format_ == "auto":
        format_ = "console" if stream.isatty() else "json"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_call,
        _Process(service, instance),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    render: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if format_ == "json"
        # Plain tracebacks in both: the richer ones print local variables, which hold images, queries and secrets.
        else [
            structlog.processors.format_exc_info,
            _make_harmless,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def _add_call(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add the call and the span that an event belongs to, where there are any."""
    if current := request_id.get():
        event.setdefault("request_id", current)
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = trace.format_trace_id(span.trace_id)
        event["span_id"] = trace.format_span_id(span.span_id)
    return event


def _make_harmless(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Remove whatever a terminal obeys: an error may quote what a stranger sent. JSON escapes it anyway."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            # Tracebacks have lines; whatever else stands in them is a stranger's too.
            lines = value.split("\n") if key in _HAS_LINES else [value]
            event[key] = "\n".join(line if line.isprintable() else repr(line)[1:-1] for line in lines)
    return event


class _Process:
    def __init__(self, service: str, instance: str) -> None:
        self._service, self._instance = service, instance

    def __call__(self, _logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event.setdefault("service", self._service)
        event.setdefault("instance", self._instance)
        return event
