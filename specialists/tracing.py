"""Spans of cases and of specialists at work; the MCP client adds one for each call, which `_meta` carries on.

Off unless an OTLP endpoint is set (`OTEL_EXPORTER_OTLP_ENDPOINT`): nothing is made then.
The names of attributes follow OpenTelemetry's conventions for generative AI, as they stood at genai 0.1.0.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

log = logging.getLogger(__name__)
HEADERS = ("traceparent", "tracestate")  # of W3C trace context
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SEMCONV = "genai-0.1.0"
EXPORT_SECONDS = 3.0  # deadline of one export, unless OTEL_EXPORTER_OTLP_TIMEOUT sets one

OPERATION = "gen_ai.operation.name"
AGENT = "gen_ai.agent.name"
MODEL = "gen_ai.request.model"
ERROR = "error.type"
CASE = "pointsman.case"
TASK = "pointsman.task"
MODE = "pointsman.specialist.mode"
STATUS = "pointsman.status"

_provider: Any = None  # of this process, once tracing has begun


def begin(service: str) -> None:
    """Begin to send this process's spans, when an endpoint is set; told when the exporter is missing."""
    global _provider
    if _provider is not None or not any(map(os.environ.get, ENDPOINTS)):
        return
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning('no spans are sent: %s; install them with `pip install "pointsman[otel]"`', error)
        return
    about = {"pointsman.semconv": SEMCONV}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = service
    provider = TracerProvider(resource=Resource.create(about))  # which sends the rest when the process ends
    patience = None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else EXPORT_SECONDS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=patience)))
    trace.set_tracer_provider(provider)  # the MCP client takes it from there
    _provider = provider


def agent(
    name: str, under: Mapping[str, str] | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span `invoke_agent NAME` around what an agent does; None, and nothing made, when tracing is off.

    `under` are the headers of a request that may carry the span it belongs to (W3C trace context).
    """
    return nullcontext() if _provider is None else _agent(name, under, attributes)


def carried() -> dict[str, str]:
    """The headers that make what another process does part of this trace; none when tracing is off."""
    if _provider is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def request(method: str, params: Mapping[str, Any]) -> AbstractContextManager[Mapping[str, str]]:
    """A span around one MCP request, and what its `_meta` carries on; neither when tracing is off."""
    return nullcontext({}) if _provider is None else _request(method, params)


@contextmanager
def _request(method: str, params: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    """The span that the MCP SDK makes where it has a connection, under the same name."""
    from opentelemetry.trace import SpanKind

    name = f"MCP send {method} {params.get('name') or ''}".strip()
    told = {"mcp.method.name": method}
    with _provider.get_tracer("pointsman").start_as_current_span(name, kind=SpanKind.CLIENT, attributes=told):
        yield carried()


@contextmanager
def _agent(name: str, under: Mapping[str, str] | None, attributes: dict[str, Any]) -> Iterator[Any]:
    told = {OPERATION: "invoke_agent", AGENT: name, **attributes}
    from opentelemetry.trace import StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    above = TraceContextTextMapPropagator().extract(under) if under else None

    tracer = _provider.get_tracer("pointsman")
    name = f"invoke_agent {name}"
    with tracer.start_as_current_span(
        name, above, attributes=told, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute(ERROR, type(error).__name__)  # its words stay here
            span.set_status(StatusCode.ERROR)
            raise
