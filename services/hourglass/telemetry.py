"""Logs and traces. Traces are off, and cost nothing, without an OTLP endpoint."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.trace import Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hourglass.errors import Misconfigured
from hourglass.settings import LogFormat

#: A collector that does not answer does not hold up the exit, two seconds after SIGTERM at most.
FLUSH_S = 0.3


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        stamp = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        line = f"{stamp} {record.levelname.lower():7} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def __init__(self, **fixed: str) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            **self._fixed,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(log_format: LogFormat, level: str, **fixed: str) -> None:
    """Log lines to standard error; `fixed` goes into every JSON line. Raises Misconfigured."""
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    if level.lower() not in levels:
        raise Misconfigured(f"--log-level is {level!r}: give one of {', '.join(levels)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(**fixed) if log_format is LogFormat.JSON else _Text())
    logging.basicConfig(level=levels[level.lower()], handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # it tells of its selectors


def tracer(service: str) -> tuple[Tracer, Callable[[], None]]:
    """A tracer, and what flushes it at the end.

    Spans are exported where OTEL_EXPORTER_OTLP_ENDPOINT points, if the `otlp` extra is installed;
    without the variable the tracer records nothing. Raises Misconfigured.
    """
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return trace.NoOpTracerProvider().get_tracer(service), lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise Misconfigured(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set and no exporter is installed: "
            "install hourglass[otlp] or unset it"
        ) from None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"hourglass-{service}"}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer(service), lambda: _within(FLUSH_S, provider.shutdown)


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do `work`, and leave it to its fate where it takes longer."""
    thread = threading.Thread(target=work, name="flush", daemon=True)
    thread.start()
    thread.join(seconds)


def traceparent() -> str:
    """The current span as a W3C traceparent; empty if nothing is being traced."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def links_to(traceparents: Iterable[str]) -> list[trace.Link]:
    """Links to the spans of these traceparents, each once; what is no traceparent is left out."""
    propagator = TraceContextTextMapPropagator()
    spans = (
        trace.get_current_span(propagator.extract({"traceparent": traceparent}))
        for traceparent in dict.fromkeys(traceparents)
    )
    return [
        trace.Link(context)
        for context in (span.get_span_context() for span in spans)
        if context.is_valid
    ]
