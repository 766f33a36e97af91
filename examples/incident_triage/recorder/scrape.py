"""Scrapes every service at a fixed step into metric points, and evaluates the alert rule on them."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import psutil
import psycopg

from recorder.stage import SERVICES, Stage, stamp

Samples = dict[str, float]
STATISTICS = """
    WITH clients AS (SELECT state FROM pg_stat_activity WHERE backend_type = 'client backend')
    SELECT xact_commit + xact_rollback AS transactions, tup_fetched AS rows,
           (SELECT count(*) FROM clients) AS connections,
           (SELECT count(*) FROM clients WHERE state <> 'idle') AS busy
    FROM pg_stat_database WHERE datname = current_database()
"""


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """The value below which a share of a cumulative histogram lies, interpolated."""
    total = buckets[-1][1] if buckets else 0
    if not total:
        return None
    below, floor = 0.0, 0.0
    for bound, count in buckets:
        if count >= share * total:
            return floor + (bound - floor) * (share * total - below) / (count - below)
        below, floor = count, bound
    return floor


def grown(now: Samples, before: Samples, name: str) -> float:
    """How much a counter grew since the last scrape; a restarted process begins again at zero."""
    value = now.get(name, 0.0)
    earlier = before.get(name, 0.0)
    return value - earlier if value >= earlier else value


def histogram(now: Samples, before: Samples, name: str) -> list[tuple[float, float]]:
    """The observations of a histogram since the last scrape."""
    prefix = f"{name}_bucket{{le="
    restarted = any(now[key] < before.get(key, 0.0) for key in now if key.startswith(prefix))
    earlier = {} if restarted else before
    keys = [key for key in now if key.startswith(prefix)]
    return [(float(key.split('"')[1]), now[key] - earlier.get(key, 0.0)) for key in keys]


@dataclass
class Rule:
    """Fires when the share of failed requests over a window stays above a threshold."""

    name: str
    service: str
    threshold: float
    window_seconds: float
    for_seconds: float
    severity: str = "critical"
    above_since: datetime | None = None
    fired_at: datetime | None = None
    value: float = 0.0
    _samples: deque = field(default_factory=deque)

    def evaluate(self, moment: datetime, requests: float, errors: float) -> None:
        """Take one more scrape into account."""
        self._samples.append((moment, requests, errors))
        while (moment - self._samples[0][0]).total_seconds() >= self.window_seconds:
            self._samples.popleft()
        served = sum(sample[1] for sample in self._samples)
        ratio = sum(sample[2] for sample in self._samples) / served if served else 0.0
        if ratio <= self.threshold:
            self.above_since = None if self.fired_at is None else self.above_since
            return
        self.above_since = self.above_since or moment
        if self.fired_at is None and (moment - self.above_since).total_seconds() >= self.for_seconds:
            self.fired_at, self.value = moment, ratio


class Scraper:
    """Collects points from the services, their processes and the database."""

    def __init__(self, stage: Stage, step: float, rule: Rule) -> None:
        self.points: list[tuple[str, str, str, str, float]] = []
        self._stage = stage
        self._step = step
        self._rule = rule
        self._before: dict[str, Samples] = {}
        self._cpu: dict[int, float] = {}
        self._last = 0.0
        self.fired = asyncio.Event()

    async def run(self) -> None:
        """Scrape until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._step)) as session:
            while True:
                await self.scrape(session)
                due += self._step
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def scrape(self, session: aiohttp.ClientSession) -> None:
        """Take one point of everything."""
        moment, now = datetime.now(UTC), time.monotonic()
        elapsed, self._last = now - self._last, now
        first = not self._before
        answers = await asyncio.gather(*(self._fetch(session, service) for service in SERVICES))
        for service, samples in zip(SERVICES, answers, strict=True):
            before = self._before.get(service, {})
            self._before[service] = samples
            if not first and samples:
                self._service(moment, service, samples, before, elapsed)
        await self._database(moment, elapsed, first)

    async def _fetch(self, session: aiohttp.ClientSession, service: str) -> Samples:
        url = f"http://127.0.0.1:{self._stage.ports[service]}/metrics"
        try:
            async with session.get(url) as response:
                lines = (await response.text()).splitlines()
        except (TimeoutError, aiohttp.ClientError) as error:
            print(f"scrape of {service} failed: {type(error).__name__}", flush=True)
            return {}
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def _add(self, moment: datetime, service: str, metric: str, unit: str, value: float | None) -> None:
        if value is not None:
            self.points.append((stamp(moment), service, metric, unit, float(f"{value:.4g}")))

    def _service(self, moment: datetime, service: str, now: Samples, before: Samples, elapsed: float) -> None:
        def add(metric: str, unit: str, value: float | None) -> None:
            self._add(moment, service, metric, unit, value)

        requests = grown(now, before, "http_requests_total")
        errors = grown(now, before, "http_errors_total")
        latency = histogram(now, before, "http_request_duration_ms")
        add("request_rate", "req/s", requests / elapsed)
        add("error_ratio", "ratio", errors / requests if requests else 0.0)
        add("latency_p50_ms", "ms", quantile(latency, 0.5))
        add("latency_p95_ms", "ms", quantile(latency, 0.95))
        add("in_flight", "requests", now.get("http_in_flight", 0.0))
        if "db_pool_size" in now:
            queries = grown(now, before, "db_queries_total")
            add("db_pool_size", "connections", now["db_pool_size"])
            add("db_pool_in_use", "connections", now["db_pool_in_use"])
            add("db_pool_waiting", "requests", now["db_pool_waiting"])
            add("db_pool_wait_p95_ms", "ms", quantile(histogram(now, before, "db_pool_wait_ms"), 0.95))
            add("db_pool_timeout_rate", "1/s", grown(now, before, "db_pool_timeouts_total") / elapsed)
            add("db_query_rate", "1/s", queries / elapsed)
            add("db_queries_per_request", "queries", queries / requests if requests else None)
            add("db_query_p95_ms", "ms", quantile(histogram(now, before, "db_query_duration_ms"), 0.95))
        if "webhook_failures_total" in now:
            add("webhook_failure_rate", "1/s", grown(now, before, "webhook_failures_total") / elapsed)
        self._process(moment, service, [psutil.Process(self._stage.processes[service].pid)], elapsed)
        if service == self._rule.service:
            self._rule.evaluate(moment, requests, errors)
            if self._rule.fired_at is not None:
                self.fired.set()

    def _process(
        self, moment: datetime, service: str, processes: list[psutil.Process], elapsed: float
    ) -> None:
        busy, memory = 0.0, 0
        for process in processes:
            try:
                times, resident = process.cpu_times(), process.memory_info()
            except psutil.NoSuchProcess:
                continue
            used = times.user + times.system
            busy += used - self._cpu.get(process.pid, used)
            memory += resident.rss - getattr(resident, "shared", 0)
            self._cpu[process.pid] = used
        self._add(moment, service, "cpu_cores", "cores", busy / elapsed)
        self._add(moment, service, "memory_mb", "MB", memory / 1e6)

    async def _database(self, moment: datetime, elapsed: float, first: bool) -> None:
        names: tuple[str, ...] = ("transactions", "rows", "connections", "busy")
        async with await psycopg.AsyncConnection.connect(self._stage.database_url) as connection:
            row = await (await connection.execute(STATISTICS)).fetchone()
        now: Samples = dict(zip(names, map(float, row or ()), strict=True))
        before = self._before.get("postgres", {})
        self._before["postgres"] = now
        if first:
            return
        parent = psutil.Process(self._stage.database_pid())
        self._process(moment, "postgres", [parent, *parent.children(recursive=True)], elapsed)
        self._add(moment, "postgres", "transaction_rate", "1/s", grown(now, before, "transactions") / elapsed)
        self._add(moment, "postgres", "rows_fetched_rate", "rows/s", grown(now, before, "rows") / elapsed)
        self._add(moment, "postgres", "connections", "connections", now["connections"] - 1)
        self._add(moment, "postgres", "connections_busy", "connections", now["busy"] - 1)
