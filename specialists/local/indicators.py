"""Indicators: what a metric measures, judged by its name and unit, and how its values read."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal[
    "errors", "latency", "requests", "queue", "connections", "cpu", "memory", "disk", "network",
    "expiry", "restarts", "replicas", "calls", "saturation", "success", "headroom", "work", "other",
]  # fmt: skip

# The first pattern that fits decides; names are matched word by word ("http_5xx_per_sec" has the words
# http, 5xx, per, sec).
KINDS: tuple[tuple[Kind, str], ...] = (
    (  # bookkeeping, and counts that rise in health
        "other",
        r"(start_?time|boot_?time|last_?seen|uptime|timestamp|created|spec|info|memory_failures(_total)?|page_?faults?"
        r"|maj_?faults?|failcnt)",
    ),
    ("expiry", r"(expir\w*|not_?after|validity|days_left|remaining_(seconds|days))"),
    (
        "success",
        r"(success|availability|apdex|healthy|goodput|hit(?!s))(_?(rate|ratio|pct|percent|per|total))?",
    ),
    ("disk", r"(disk|fs|filesystem|block)_?(io|reads?|writes?|written)"),
    ("memory", r"gc_(pause|duration|time|collection)\w*"),
    ("restarts", r"(restart|crash_?loop|oom_?kill|evict\w*|reschedul\w*)"),
    (
        "errors",
        r"(err|error|errors|fail\w*|5\d\d|4\d\d|5xx|4xx|exception\w*|panic\w*|reject\w*|denied|servfail"
        r"|timeout\w*|packet_?loss|loss|lost"
        r"|drop(s|ped)?|unauthor\w*|retrans\w*|dead_?letter|unavailable|abort\w*|fault\w*|invalid"
        r"|refused|retries)",
    ),
    ("connections", r"(pool|connection|connections|conn|conns|sockets?|sessions?|file_?desc\w*|fds?)"),
    (
        "queue",
        r"(queue\w*|backlog|lag|pending|waiting|buffer\w*|inflight|in_flight|saturat\w*|depth|unacked)",
    ),
    (
        "latency",
        r"(latency|lat|duration|response_?time|p50|p75|p90|p95|p99|p999|elapsed|wait|time|delay|ttfb|rtt|slow)",
    ),
    ("headroom", r"(free|available|avail|idle|remaining|unused)"),
    ("calls", r"(per_request|per_call|queries_per|calls_per|fan_?out)"),
    ("disk", r"(disk\w*|fs|volume|filesystem|storage|inode\w*|iops|io)"),
    ("memory", r"(mem\w*|heap|rss|working_?set|gc|swap)"),
    ("cpu", r"(cpu|load\d*|throttl\w*|utili[sz]ation)"),
    ("replicas", r"(replicas?|pods?|instances|ready)"),
    ("network", r"(network|net|bytes_(in|out)|rx|tx|bandwidth|packets?)"),
    (
        "requests",
        r"(requests?|rps|qps|tps|rpm|http|calls|workload|lod|traffic|hits|throughput_?(rps|qps|req\w*)?$|transactions?)",
    ),
    ("saturation", r"(used|usage|capacity|threads?|workers?|goroutines?|locks?)"),
    ("work", r"(rate|throughput|per_sec\w*|per_second|total|count|queries|ops|messages|orders)"),
)
COMPILED: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(rf"(^|_){pattern}s?(?=_|$|\d)")) for kind, pattern in KINDS
)

WORDS: dict[Kind, str] = {
    "errors": "errors",
    "latency": "latency",
    "requests": "traffic",
    "queue": "queueing",
    "connections": "connections",
    "cpu": "CPU",
    "memory": "memory",
    "disk": "disk",
    "network": "network",
    "expiry": "time to expiry",
    "restarts": "restarts",
    "replicas": "replicas",
    "calls": "calls per request",
    "saturation": "saturation",
    "success": "success",
    "headroom": "headroom",
    "work": "work done",
    "other": "another indicator",
}

# Kinds whose rise (or, for the last ones, fall) hurts users or says that something is running out.
PAIN = frozenset({"errors", "latency", "restarts", "success"})
STRAIN = frozenset({"queue", "connections", "cpu", "memory", "disk", "saturation", "network", "calls"})
FALLING = frozenset({"success", "replicas", "headroom"})


def kind(metric: str, unit: str = "") -> Kind:
    """What a metric measures."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", metric).lower()
    name = re.sub(r"[^a-z0-9]+", "_", name).strip("_")
    if COMPILED[0][1].search(name):
        return COMPILED[0][0]
    if re.search(r"(^|_)(error|err|fail\w*|5xx|4xx)(s)?(_|$)", name) and "duration" not in name:
        return "errors"
    for found, pattern in COMPILED:
        if pattern.search(name):
            return found
    return "latency" if unit in {"ms", "s", "seconds", "milliseconds"} else "other"


def is_share(metric: str, unit: str, largest: float) -> bool:
    """Whether values are a share of one, to be read as a percentage."""
    named = re.search(r"ratio|share|fraction|utili[sz]ation|pct|percent", metric.lower()) or unit.lower() in {
        "ratio",
        "1",
        "fraction",
    }
    return bool(named) and abs(largest) <= 1.5


def write(value: float, metric: str, unit: str, largest: float) -> str:
    """A value with its unit, as a person reads it."""
    low = metric.lower()
    if is_share(metric, unit, largest):
        return f"{_digits(100 * value)} %"
    if unit in {"%", "percent"} or re.search(r"(pct|percent)(_|$)", low):
        return f"{_digits(value)} %"
    if unit == "ms" or (not unit and re.search(r"(_ms|millis\w*)(_|$)", low)):
        return f"{_digits(value)} ms"
    if unit in {"s", "seconds"} or (not unit and re.search(r"_seconds(_|$)", low) and "per_sec" not in low):
        return f"{_digits(value)} s"
    if unit in {"bytes", "B"} or low.endswith("_bytes"):
        for name, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if abs(value) >= size:
                return f"{_digits(value / size)} {name}"
        return f"{_digits(value)} B"
    if not unit and re.search(r"(per_sec\w*|_rps|_qps|_tps)(_|$)", low):
        return f"{_digits(value)}/s"
    if unit.startswith("1/"):
        return f"{_digits(value)}{unit[1:]}"
    return f"{_digits(value)} {unit}".strip()


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.2g}" if size else "0"
