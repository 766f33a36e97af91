"""`/metrics`: the figures in Prometheus's text format, with how the gateway stands at that moment.

Labels are names the operator gave and words of ours: nothing that a caller chose, and no id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.errors import LedgerError
from gateway.ledger import now
from gateway.meters import Histogram, Meters
from gateway.pipeline import Gateway
from gateway.types import Subject
from gateway.writing import Connection

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
MAY_READ = frozenset(("operator", "metrics"))  # roles
STATES = ("idle", "connecting", "ready", "failed", "stopped")


def may_read(subject: Subject) -> bool:
    """Whether a subject may see the figures."""
    return not MAY_READ.isdisjoint(subject.roles)


async def text(gateway: Gateway) -> bytes:
    """The figures as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Given([*_counted(gateway.meters), *_servers(gateway), *await _records(gateway)]))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Given(Collector):
    """Figures that were gathered before they are shown."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _counted(meters: Meters) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "pointsman_gateway_calls", "Calls by how they ended", labels=["server", "verb", "status"]
    )
    for key, count in list(meters.calls.items()):
        calls.add_metric(key, count)
    refusals = CounterMetricFamily("pointsman_gateway_refusals", "Refusals by code", labels=["code"])
    for code, count in list(meters.refusals.items()):
        refusals.add_metric([code], count)
    decisions = CounterMetricFamily(
        "pointsman_gateway_decisions", "Decisions of policy by verdict", labels=["verdict"]
    )
    for verdict, count in list(meters.decisions.items()):
        decisions.add_metric([verdict], count)
    upstream = HistogramMetricFamily(
        "pointsman_gateway_upstream_seconds", "Time a tool server took for a call", labels=["server"]
    )
    for server, histogram in list(meters.upstream.items()):
        upstream.add_metric([server], *_buckets(histogram))
    yield from (calls, refusals, decisions, upstream)
    for name, about, histogram in (
        ("gateway_overhead_seconds", "Time of a call that ran, less its tool server's", meters.overhead),
        ("ledger_write_seconds", "One transaction of the ledger, until it is durable", meters.write_seconds),
        ("ledger_batch_writes", "Writes that one transaction held", meters.batch_writes),
    ):
        one = HistogramMetricFamily(f"pointsman_{name}", about, labels=[])
        one.add_metric([], *_buckets(histogram))
        yield one


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    total, buckets = 0, []
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, list(histogram.counts), strict=True):
        total += count
        buckets.append((bound, total))
    return buckets, histogram.sum


def _servers(gateway: Gateway) -> Iterator[Metric]:
    servers = gateway.catalogue.servers.values()
    states = Counter(server.state for server in servers)
    by_state = GaugeMetricFamily("pointsman_gateway_servers", "Registered tool servers", labels=["state"])
    for state in STATES:
        by_state.add_metric([state], states[state])
    ready = GaugeMetricFamily(
        "pointsman_gateway_server_ready", "1 when it is ready, else 0", labels=["server"]
    )
    for server in servers:
        ready.add_metric([server.name], server.state == "ready")
    yield from (by_state, ready)


async def _records(gateway: Gateway) -> list[Metric]:
    store = gateway.ledger.store
    waiting = _gauge("ledger_writes_waiting", "Hand-overs the writer has not begun", store.waiting)
    try:
        pending, records = await store.read(_lengths)
    except LedgerError:  # what is in memory is told all the same; /readyz says why these are missing
        return [waiting]
    return [
        waiting,
        _gauge("approvals_pending", "Approvals that wait for a person", pending),
        _gauge("ledger_records", "Records in the ledger", records),
    ]


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"pointsman_{name}", about, value=value)


def _lengths(connection: Connection) -> tuple[int, int]:
    waiting = "SELECT count(*) FROM approvals WHERE status = 'pending' AND expires > ?"
    pending = connection.execute(waiting, (now(),)).fetchone()
    records = connection.execute("SELECT max(seq) FROM records").fetchone()
    return int(pending[0] if pending else 0), int(records[0] or 0 if records else 0)
