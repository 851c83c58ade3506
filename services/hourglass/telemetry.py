"""Traces: off, and free of cost, without an OTLP endpoint.

Spans are of batches, never of readings, and an empty poll makes none. Attributes follow the
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

from hourglass.errors import Misconfigured

#: A collector that does not answer does not hold up the exit, two seconds after SIGTERM at most.
FLUSH_S = 0.3
#: Links of one span; further ones would cost more than they tell.
MOST_LINKS = 64
#: Of whoever is given no tracer.
NO_TRACER: Tracer = NoOpTracer()

#: Of traces alone, which wins, and of all signals:
#: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_DISABLED = "OTEL_SDK_DISABLED"


def tracer(service: str, instance: str = "") -> tuple[Tracer, Callable[[], None]]:
    """A tracer, and what flushes it at the end.

    Spans are exported where OTEL_EXPORTER_OTLP_ENDPOINT points, over HTTP, or over gRPC where
    OTEL_EXPORTER_OTLP_PROTOCOL is grpc; the variables of the same name for traces win. Without an
    endpoint, or with OTEL_SDK_DISABLED, the tracer records nothing. `instance` is the process's
    name among its replicas. Raises Misconfigured.
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
                raise Misconfigured(
                    f"{named} is {protocol!r}: give http/protobuf, the default, or grpc"
                )
    except ImportError:
        transport = "grpc" if protocol == "grpc" else "http"
        raise Misconfigured(
            "OpenTelemetry's OTLP endpoint is set and no exporter is installed: pip install "
            f"opentelemetry-exporter-otlp-proto-{transport}, or unset it"
        ) from None
    return otlp.OTLPSpanExporter()


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do `work`, and leave it to its fate where it takes longer."""
    thread = threading.Thread(target=work, name="flush", daemon=True)
    thread.start()
    thread.join(seconds)


def is_off(tracer: Tracer) -> bool:
    """Whether it records nothing, so that nothing need be gathered for it."""
    return isinstance(tracer, NoOpTracer)


def messaging(operation: str, stream: str, messages: int, script: str = "") -> dict[str, Any]:
    """The attributes of a span that sends to `stream`, or processes what came from it.

    operation: send or process
    script: the one that does it in Redis, if one does
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
    """The span as a W3C traceparent; empty if it is not being recorded."""
    if not span.get_span_context().trace_flags.sampled:
        return ""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")


def exemplar(span: Span | None = None) -> dict[str, str] | None:
    """What a histogram keeps to lead from a latency to its trace; None if nothing is traced."""
    of = (span or trace.get_current_span()).get_span_context()
    if not of.trace_flags.sampled:
        return None
    return {
        "trace_id": trace.format_trace_id(of.trace_id),
        "span_id": trace.format_span_id(of.span_id),
    }


def context_of(traceparent: str) -> context.Context:
    """What a span is started in to become the child of that one; of nothing if it is no
    traceparent."""
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def links_to(traceparents: Iterable[str]) -> list[Link]:
    """Links to the spans of these traceparents, each once and MOST_LINKS at most; what is no
    traceparent is left out."""
    spans = (
        trace.get_current_span(context_of(traceparent))
        for traceparent in list(dict.fromkeys(traceparents))[:MOST_LINKS]
    )
    return [
        Link(context) for context in (span.get_span_context() for span in spans) if context.is_valid
    ]
