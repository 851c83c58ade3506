"""Tracing with OpenTelemetry. It is off, at no cost, if no OTLP endpoint is set.

A span covers a batch, never a single reading; an empty poll makes no span. Attributes follow the
semantic conventions for messaging (https://opentelemetry.io/docs/specs/semconv/messaging/) and for
Redis (https://opentelemetry.io/docs/specs/semconv/database/redis/).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Link, NoOpTracer, Span, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hourglass.errors import ConfigurationError

#: Time-out of the flush at exit, within the two seconds between SIGTERM and the exit.
FLUSH_S = 0.3
#: Maximum links of one span; more would cost more than they are worth.
MOST_LINKS = 64
#: The default of callers that pass no tracer.
NO_TRACER: Tracer = NoOpTracer()

#: The variables for traces, which take precedence, and for all signals:
#: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_DISABLED = "OTEL_SDK_DISABLED"


def tracer(service: str, instance: str = "") -> tuple[Tracer, Callable[[], None]]:
    """A tracer, and a function that flushes it at exit.

    It exports spans to OTEL_EXPORTER_OTLP_ENDPOINT over HTTP, or over gRPC if
    OTEL_EXPORTER_OTLP_PROTOCOL is grpc; the variables for traces alone take precedence. Without an
    endpoint, or with OTEL_SDK_DISABLED, the tracer records nothing. Raises ConfigurationError.

    instance: name of this process among its replicas
    """
    if not any(map(os.environ.get, _ENDPOINTS)) or _is_true(_DISABLED):
        return NO_TRACER, lambda: None
    exporter = _exporter()
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.name": f"hourglass-{service}",
                "service.namespace": "hourglass",
                "service.instance.id": instance,
            }
        ),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("hourglass"), lambda: _within(FLUSH_S, provider.shutdown)


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() == "true"


def _exporter() -> Any:
    named = next((each for each in _PROTOCOLS if os.environ.get(each)), None)
    protocol = os.environ[named] if named else "http/protobuf"
    try:
        match protocol:
            case "grpc":
                from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as otlp
            case "http/protobuf":
                from opentelemetry.exporter.otlp.proto.http import trace_exporter as otlp
            case _:
                raise ConfigurationError(
                    f"{named} is {protocol!r}: set it to http/protobuf, the default, or grpc"
                )
    except ImportError:
        transport = "grpc" if protocol == "grpc" else "http"
        raise ConfigurationError(
            "an OTLP endpoint is set, but its exporter is not installed: pip install "
            f"opentelemetry-exporter-otlp-proto-{transport}, or unset the endpoint"
        ) from None
    return otlp.OTLPSpanExporter()


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Run `work` in a daemon thread and wait for it up to `seconds`."""
    thread = threading.Thread(target=work, name="flush", daemon=True)
    thread.start()
    thread.join(seconds)


def is_off(tracer: Tracer) -> bool:
    """Whether the tracer records nothing, so that callers can skip the work for spans."""
    return isinstance(tracer, NoOpTracer)


def messaging(operation: str, stream: str, messages: int, script: str = "") -> dict[str, Any]:
    """The attributes of a span that sends to `stream` or processes entries of it.

    operation: send or process
    script: the script in Redis that does it; empty if none
    """
    attributes: dict[str, Any] = {
        "messaging.system": "redis",
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": stream,
        "messaging.batch.message_count": messages,
        "db.system.name": "redis",
    }
    if script:
        attributes |= {"db.operation.name": "EVALSHA", "db.stored_procedure.name": script}
    return attributes


def traceparent_of(span: Span) -> str:
    """The span as a W3C traceparent; empty if it is not sampled."""
    if not span.get_span_context().trace_flags.sampled:
        return ""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")


def exemplar(span: Span | None = None) -> dict[str, str] | None:
    """The exemplar that links a histogram's observation to its trace; None if not sampled."""
    of = (span or trace.get_current_span()).get_span_context()
    if not of.trace_flags.sampled:
        return None
    return {
        "trace_id": trace.format_trace_id(of.trace_id),
        "span_id": trace.format_span_id(of.span_id),
    }


def context_of(traceparent: str) -> context.Context:
    """The context in which a new span becomes a child of `traceparent`; an empty context if the
    text is not a valid traceparent."""
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def links_to(traceparents: Iterable[str]) -> list[Link]:
    """Links to the spans of these traceparents, without duplicates, at most MOST_LINKS. Invalid
    ones are left out."""
    spans = (
        trace.get_current_span(context_of(traceparent))
        for traceparent in list(dict.fromkeys(traceparents))[:MOST_LINKS]
    )
    return [
        Link(context) for context in (span.get_span_context() for span in spans) if context.is_valid
    ]
