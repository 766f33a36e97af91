"""A span for each call on the road, joined to its caller's trace and handed on to the tool server.

Off unless an OTLP endpoint is set (`OTEL_EXPORTER_OTLP_ENDPOINT`); the ledger depends on none of this.
Names of attributes follow OpenTelemetry's conventions for MCP and generative AI (as of genai 0.1.0).
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from gateway.meters import Note
from gateway.types import Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("gateway.tracing")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE = "pointsman-gateway"
SEMCONV = "genai-0.1.0"
EXPORT_SECONDS = 3.0  # deadline of one export, unless OTEL_EXPORTER_OTLP_TIMEOUT sets one

METHOD = "mcp.method.name"
OPERATION = "gen_ai.operation.name"
TOOL = "gen_ai.tool.name"
ERROR = "error.type"
SUBJECT = "pointsman.subject"
CASE = "pointsman.case"
SERVER = "pointsman.server"
CALL = "pointsman.call"
DECISION = "pointsman.decision"
RULES = "pointsman.rules"
SEQ = "pointsman.ledger.seq"
STATUS = "pointsman.status"
QUIET = frozenset(("", "approval_pending"))  # refusals that are no failure


class Tracing:
    """Begins and ends the spans of calls."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("pointsman.gateway")
        self._propagator = TraceContextTextMapPropagator()
        self._inside = set_span_in_context
        self._kind, self._failed = SpanKind.SERVER, Status(StatusCode.ERROR)

    def begin(self, note: Note, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Begin a call's span; the parameters with it as the parent of what the tool server does."""
        meta = params.get("_meta") or {}
        if not isinstance(meta, dict):
            return params
        told = {name: value for name, value in meta.items() if isinstance(value, str)}
        note.span = self._tracer.start_span(method, self._propagator.extract(told), self._kind)
        carried: dict[str, Any] = {}
        self._propagator.inject(carried, self._inside(note.span))
        return {**params, "_meta": {**meta, **carried}}

    def end(self, note: Note, call: Call | None, method: str) -> None:
        """End it, with what was decided and how the call ended; never with arguments or results."""
        span, code, status = note.span, note.code, note.status
        told: dict[str, Any] = {METHOD: method, STATUS: status}
        if call is not None:
            told |= {SUBJECT: call.subject.id, SERVER: call.tool.server, CALL: call.id}
            if call.verb == "call":
                span.update_name(f"{method} {call.tool.public}")
                told |= {OPERATION: "execute_tool", TOOL: call.tool.public}
            if call.subject.case:
                told[CASE] = call.subject.case
        if note.decision is not None:
            told |= {DECISION: note.decision.verdict, RULES: [rule.id for rule in note.decision.rules]}
        if note.seq:
            told[SEQ] = note.seq
        if code or status in ("error", "unknown"):
            told[ERROR] = code or "tool_error"
        span.set_attributes(told)
        if code not in QUIET or status in ("error", "unknown"):
            span.set_status(self._failed)
        span.end()

    def close(self) -> None:
        """Send what has not been sent; blocks, at most for a few seconds."""
        self._provider.shutdown()


def begun() -> Tracing | None:
    """Tracing, when an endpoint is set and the exporter is installed; it is told when only one of them is."""
    if not any(map(os.environ.get, ENDPOINTS)) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning('no spans are sent: %s; install them with `pip install "pointsman[otel]"`', error)
        return None
    about = {"pointsman.semconv": SEMCONV}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = SERVICE
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    patience = None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else EXPORT_SECONDS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=patience)))
    return Tracing(provider)
