"""Log lines, metrics and spans of one service process."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

BUCKETS_MS = [round(0.5 * 1.2**n, 3) for n in range(56)]


def now() -> str:
    """The time as RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hex_id(digits: int) -> str:
    """A random identifier."""
    return f"{random.getrandbits(digits * 4):0{digits}x}"


@dataclass
class Span:
    """One piece of work in a trace."""

    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool
    status: str = "OK"
    error: str | None = None
    attributes: dict = field(default_factory=dict)

    def fail(self, error: str) -> None:
        """Mark the work as failed."""
        self.status, self.error = "ERROR", error


current_span: ContextVar[Span | None] = ContextVar("current_span", default=None)


class Histogram:
    """Durations counted in cumulative buckets."""

    def __init__(self) -> None:
        self.counts = [0] * len(BUCKETS_MS)

    def observe(self, milliseconds: float) -> None:
        """Count one duration."""
        for position, bound in enumerate(BUCKETS_MS):
            if milliseconds <= bound:
                self.counts[position] += 1


class Telemetry:
    """Everything one process tells about itself."""

    def __init__(self, service: str, directory: Path, sample: float) -> None:
        self.service = service
        self.sample = sample
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.histograms: dict[str, Histogram] = {}
        self._logs = (directory / f"{service}.log").open("a", buffering=1, encoding="utf-8")
        self._spans = (directory / f"{service}.spans").open("a", buffering=1, encoding="utf-8")

    def log(self, severity: str, message: str, **attributes: object) -> None:
        """Write one structured log line, with the trace it belongs to."""
        line = {"timestamp": now(), "service": self.service, "severity": severity, "message": message}
        span = current_span.get()
        if span is not None:
            line["trace_id"] = span.trace_id
        self._logs.write(json.dumps(line | attributes) + "\n")

    def observe(self, name: str, milliseconds: float) -> None:
        """Count one duration in a histogram."""
        self.histograms.setdefault(name, Histogram()).observe(milliseconds)

    @contextmanager
    def span(self, name: str, traceparent: str = "", **attributes: object) -> Iterator[Span]:
        """Time a piece of work and write it down when its trace is sampled."""
        span = self._child(traceparent)
        span.attributes.update(attributes)
        token = current_span.set(span)
        started, begin = now(), time.perf_counter()
        try:
            yield span
        except BaseException as error:
            span.fail(str(error) or type(error).__name__)
            raise
        finally:
            current_span.reset(token)
            if span.sampled:
                self._write(span, name, started, (time.perf_counter() - begin) * 1000)

    def _child(self, traceparent: str) -> Span:
        parent = current_span.get()
        if parent is not None:
            return Span(parent.trace_id, hex_id(16), parent.span_id, parent.sampled)
        if traceparent:
            _, trace_id, parent_id, flags = traceparent.split("-")
            return Span(trace_id, hex_id(16), parent_id, flags == "01")
        return Span(hex_id(32), hex_id(16), None, random.random() < self.sample)

    def _write(self, span: Span, name: str, started: str, milliseconds: float) -> None:
        line = {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_id": span.parent_id,
            "service": self.service,
            "name": name,
            "start": started,
            "duration_ms": round(milliseconds, 2),
            "status": span.status,
        }
        if span.error:
            line["error"] = span.error
        if span.attributes:
            line["attributes"] = span.attributes
        self._spans.write(json.dumps(line) + "\n")

    def exposition(self) -> str:
        """The metrics in the Prometheus text format."""
        lines = [f"{name} {value}" for name, value in (*self.counters.items(), *self.gauges.items())]
        for name, histogram in self.histograms.items():
            pairs = zip(BUCKETS_MS, histogram.counts, strict=True)
            lines += [f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in pairs]
        return "\n".join(lines) + "\n"


def traceparent() -> str:
    """The header that carries the current trace to the next service."""
    span = current_span.get()
    return f"00-{span.trace_id}-{span.span_id}-{'01' if span.sampled else '00'}" if span else ""
