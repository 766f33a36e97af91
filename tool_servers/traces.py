"""The traces server: the service graph, slow and failing spans, and operations against their baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

from mcp.types import CallToolResult
from pydantic import Field

from tool_servers.errors import NotFound, NotRecorded
from tool_servers.recording import RecordedSpan
from tool_servers.toolkit import (
    READ,
    BaselineEnd,
    BaselineStart,
    Cursor,
    End,
    Limit,
    Service,
    Start,
    ToolServer,
    baseline,
    clip,
    format_number,
    format_time,
    listing,
    page,
    reply,
    window,
)
from tool_servers.types import Callee, Edge, Edges, Operation, Operations, OperationStats, Span, Spans
from tool_servers.world import World

TraceId = Annotated[str, Field(description="The id of a trace.", min_length=1, max_length=200)]


def build(world: World) -> ToolServer:
    """The traces server for a world."""
    server = ToolServer("traces", "Distributed traces: who calls whom, what is slow, what fails.")

    def spans(service: str, start: float, end: float) -> list[RecordedSpan]:
        recording = world.recording()
        if service and service not in (known := recording.services | {s.service for s in recording.spans}):
            raise NotFound("service", service, known, "service")
        return [
            span for span in recording.spans if start <= span.time <= end and service in ("", span.service)
        ]

    def found(chosen: list[RecordedSpan], what: str, query: list[object], limit: int, cursor: str):
        part, lines, after = page(chosen, limit, cursor, query, span_text)
        header = f"{len(chosen)} {what} (start duration self status service operation)"
        data = Spans(spans=[as_span(span) for span in part], total=len(chosen), next_cursor=after)
        return reply(listing(header, lines, after), data)

    @server.tool(annotations=READ)
    def dependencies(
        start: Start = "", end: End = "", limit: Limit = 200, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, Edges]:
        """Show which service calls which, how often, how many calls fail and how long they take."""
        recorded = world.recording().dependencies
        first, last = window(start, end, world.clock())
        try:
            edges = _edges(spans("", first, last))
        except NotRecorded:
            if not recorded:
                raise
            edges = []
        edges = _with_recorded(edges, recorded)
        chosen, lines, after = page(edges, limit, cursor, ["dependencies", start, end], _edge_text)
        return reply(listing(f"{len(edges)} edges", lines, after), Edges(edges=chosen, next_cursor=after))

    @server.tool(annotations=READ)
    def slow_spans(
        service: Service = "", start: Start = "", end: End = "", limit: Limit = 20, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, Spans]:
        """Show the longest spans; `self` is the time that a span's children do not account for."""
        chosen = spans(service, *window(start, end, world.clock()))
        chosen.sort(key=lambda span: -span.duration)
        return found(chosen, "spans, longest first", ["slow", service, start, end], limit, cursor)

    @server.tool(annotations=READ)
    def failing_spans(
        service: Service = "", start: Start = "", end: End = "", limit: Limit = 20, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, Spans]:
        """Show spans that ended in an error, in the order of time."""
        chosen = [span for span in spans(service, *window(start, end, world.clock())) if span.failed]
        return found(chosen, "failing spans", ["failing", service, start, end], limit, cursor)

    @server.tool(annotations=READ)
    def operations(
        start: Start = "",
        end: End = "",
        baseline_start: BaselineStart = "",
        baseline_end: BaselineEnd = "",
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, Operations]:
        """Compare each operation of each service in a window with a baseline (by default all before the
        window): calls, errors, latency, own time, and calls to other operations per call."""
        clock = world.clock()
        first, last = window(start, end, clock)
        everything = world.recording().spans
        oldest = everything[0].time if everything else last
        first = max(first, min(oldest, last))
        before = baseline(baseline_start, baseline_end, (first, last), clock, min(oldest, first))
        now = _stats(span for span in everything if first <= span.time <= last)
        earlier = _stats(span for span in everything if before[0] <= span.time < before[1])
        rows = _operations(now, earlier)
        query = ["operations", start, end, baseline_start, baseline_end]
        chosen, lines, after = page(rows, limit, cursor, query, _operation_text)
        times = [format_time(time) for time in (first, last, *before)]
        header = (
            f"{len(rows)} operations, {times[0]} to {times[1]} (in brackets: baseline {times[2]} "
            f"to {times[3]})"
        )
        data = Operations(
            operations=chosen,
            total=len(rows),
            start=times[0],
            end=times[1],
            baseline_start=times[2],
            baseline_end=times[3],
            next_cursor=after,
        )
        return reply(listing(header, lines, after), data)

    @server.tool(annotations=READ)
    def trace(trace_id: TraceId, limit: Limit = 500, cursor: Cursor = "") -> Annotated[CallToolResult, Spans]:
        """Show every span of one trace, indented as the calls were nested."""
        clock = world.clock()
        chosen = [
            span
            for span in world.recording().spans
            if span.record["trace_id"] == trace_id and span.time <= clock
        ]
        if not chosen:
            known = [span.record["trace_id"] for span in world.recording().spans if span.time <= clock]
            raise NotFound("trace_id", trace_id, set(known[-2000:]), "trace")
        nested = _nested(chosen)
        query = ["trace", trace_id]
        part, lines, after = page(
            nested, limit, cursor, query, lambda pair: "  " * pair[0] + span_text(pair[1])
        )
        data = Spans(spans=[as_span(span) for _, span in part], total=len(nested), next_cursor=after)
        return reply(listing(f"trace {trace_id}, {len(nested)} spans", lines, after), data)

    return server


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of an ordered list lies, interpolated."""
    if not ordered:
        return 0.0
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (ordered[high] - ordered[low]) * (position - low), 3)


def as_span(span: RecordedSpan) -> Span:
    """A span as structured content; fields of its own stand among the attributes."""
    record = span.record
    named = {"trace_id", "span_id", "parent_id", "service", "name", "start", "duration_ms", "status", "error"}
    attributes = {key: value for key, value in record.items() if key not in named | {"attributes"}}
    return Span(
        trace_id=record["trace_id"],
        span_id=record["span_id"],
        parent_id=record.get("parent_id") or "",
        service=span.service,
        name=span.name,
        start=format_time(span.time),
        duration_ms=span.duration,
        self_ms=round(span.own, 3),
        status="ERROR" if span.failed else "OK",
        error=str(record.get("error") or ""),
        attributes=attributes | (record.get("attributes") or {}),
    )


def span_text(span: RecordedSpan) -> str:
    """A span as text: start, duration, own time, status, service, name, error, attributes, trace."""
    data = as_span(span)
    error = f" error={clip(data.error, 1000)!r}" if data.error else ""
    extra = "".join(f" {key}={clip(str(value), 300)}" for key, value in data.attributes.items())
    return (
        f"{data.start} {format_number(data.duration_ms)}ms self={format_number(data.self_ms)}ms "
        f"{data.status} {data.service} {data.name}{error}{extra} "
        f"trace_id={data.trace_id} span_id={data.span_id}"
    ).replace("\n", "\\n")


def _edges(spans: Iterable[RecordedSpan]) -> list[Edge]:
    calls: dict[tuple[str, str], list[RecordedSpan]] = {}
    for span in spans:
        if span.parent is not None and span.parent.service != span.service:
            calls.setdefault((span.parent.service, span.service), []).append(span)
    edges = []
    for (caller, callee), group in sorted(calls.items()):
        durations = sorted(span.duration for span in group)
        edges.append(
            Edge(
                caller=caller,
                callee=callee,
                calls=len(group),
                errors=sum(span.failed for span in group),
                p50_ms=percentile(durations, 0.5),
                p95_ms=percentile(durations, 0.95),
            )
        )
    return edges


def _with_recorded(edges: list[Edge], recorded: list[tuple[str, str]]) -> list[Edge]:
    """The edges that spans show, and those of the recorded call graph that they do not."""
    seen = {(edge.caller, edge.callee) for edge in edges}
    more = [
        Edge(caller=caller, callee=callee, calls=0, errors=0, p50_ms=0.0, p95_ms=0.0)
        for caller, callee in recorded
        if (caller, callee) not in seen
    ]
    return sorted([*edges, *more], key=lambda edge: (edge.caller, edge.callee))


def _edge_text(edge: Edge) -> str:
    if not edge.calls:
        return f"{edge.caller} -> {edge.callee} (known from the call graph, no calls traced)"
    return (
        f"{edge.caller} -> {edge.callee} calls={edge.calls} errors={edge.errors} "
        f"p50={format_number(edge.p50_ms)}ms p95={format_number(edge.p95_ms)}ms"
    )


def _stats(spans: Iterable[RecordedSpan]) -> dict[tuple[str, str], OperationStats]:
    groups: dict[tuple[str, str], list[RecordedSpan]] = {}
    for span in spans:
        groups.setdefault((span.service, span.name), []).append(span)
    return {key: _group_stats(group) for key, group in groups.items()}


def _group_stats(group: list[RecordedSpan]) -> OperationStats:
    durations = sorted(span.duration for span in group)
    children = Counter((child.service, child.name) for span in group for child in span.children)
    return OperationStats(
        calls=len(group),
        errors=sum(span.failed for span in group),
        p50_ms=percentile(durations, 0.5),
        p95_ms=percentile(durations, 0.95),
        self_p50_ms=percentile(sorted(span.own for span in group), 0.5),
        children_per_call=round(sum(children.values()) / len(group), 3),
        children=[
            Callee(service=service, name=name, per_call=round(count / len(group), 3))
            for (service, name), count in sorted(children.items(), key=lambda item: (-item[1], item[0]))[:5]
        ],
    )


def _operations(
    now: dict[tuple[str, str], OperationStats], earlier: dict[tuple[str, str], OperationStats]
) -> list[Operation]:
    rows = [
        Operation(
            service=key[0],
            name=key[1],
            baseline=earlier.get(key, OperationStats()),
            **dict(now.get(key, OperationStats())),
        )
        for key in now.keys() | earlier.keys()
    ]
    return sorted(rows, key=lambda row: (-row.calls * row.self_p50_ms, row.service, row.name))


def _operation_text(row: Operation) -> str:
    old = row.baseline

    def pair(name: str, new: float, before: float, unit: str = "") -> str:
        return f"{name}={format_number(new)}{unit} ({format_number(before)}{unit})"

    parts = [
        f"{row.service} {row.name}",
        pair("calls", row.calls, old.calls),
        pair("errors", row.errors, old.errors),
        pair("p50", row.p50_ms, old.p50_ms, "ms"),
        pair("p95", row.p95_ms, old.p95_ms, "ms"),
        pair("self_p50", row.self_p50_ms, old.self_p50_ms, "ms"),
        pair("children_per_call", row.children_per_call, old.children_per_call),
    ]
    if row.children:
        shown = (f"{one.service} {one.name} x{format_number(one.per_call)}" for one in row.children)
        parts.append(f"calls to: {'; '.join(shown)}")
    return " ".join(parts)


def _nested(spans: list[RecordedSpan]) -> list[tuple[int, RecordedSpan]]:
    """The spans of a trace, parents before children, each with its depth."""
    known = {id(span) for span in spans}
    roots = [span for span in spans if span.parent is None or id(span.parent) not in known]
    nested: list[tuple[int, RecordedSpan]] = []
    waiting = [(0, span) for span in reversed(roots)]
    while waiting:
        depth, span = waiting.pop()
        nested.append((depth, span))
        later = sorted(span.children, key=lambda child: child.time, reverse=True)
        waiting.extend((depth + 1, child) for child in later if id(child) in known)
    return nested


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("traces")
