"""A tiny recorded incident, made for each test: at 10:40 a deploy of `orders` makes it slow and wrong."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.types import CallToolResult

from tool_servers import serving
from tool_servers.settings import load
from tool_servers.world import World

BEGIN = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
BROKEN, CLOCK, FIXED, ENDED = 40, 50, 55, 70  # minutes after the beginning


def at(minute: float) -> str:
    """A minute of the recording as a timestamp."""
    return (BEGIN + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")


def make_recording(root: Path, id: str = "tiny") -> Path:
    """Write a recording of the tiny incident and return its directory."""
    for folder in ("changes", "answers", "runbooks"):
        (root / folder).mkdir(parents=True)
    write_json(root / "recording.json", about(id))
    write_json(root / "state.json", {"services": STATE})
    with gzip.open(root / "metrics.csv.gz", "wt", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("timestamp", "service", "metric", "unit", "value"))
        for minute in range(ENDED + 1):
            bad = BROKEN <= minute < FIXED
            rows.writerow((at(minute), "orders", "latency_p95", "ms", 400 + minute if bad else 20))
            rows.writerow((at(minute), "shop", "requests", "1/s", 100))
    with gzip.open(root / "logs.ndjson.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in log_lines())
    with gzip.open(root / "traces.json.gz", "wt") as file:
        json.dump([span for minute in range(ENDED) for span in trace_of(minute)], file)
    write_json(root / "changes" / "commits.json", COMMITS)
    write_json(root / "changes" / "deploys.json", DEPLOYS)
    write_json(root / "changes" / "flags.json", FLAGS)
    answers = "".join(json.dumps(answer) + "\n" for answer in ANSWERS)
    (root / "answers" / "kubernetes.ndjson").write_text(answers)
    for name, text in RUNBOOKS.items():
        (root / "runbooks" / name).write_text(text)
    return root


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def about(id: str) -> dict[str, Any]:
    return {
        "format": "pointsman-recording/1",
        "id": id,
        "title": "Orders are slow",
        "started": at(0),
        "clock": at(CLOCK),
        "ended": at(ENDED),
        "recovery": {"action": "rollback", "service": "orders", "to_version": "1.0"},
        "services": ["shop", "orders", "db"],
    }


STATE = {
    "shop": {"version": "7", "previous": ["6"], "replicas": 2},
    "orders": {"version": "1.1", "previous": ["1.0", "0.9"], "replicas": 3},
    "db": {"version": "16", "previous": [], "replicas": 1},
}


def log_lines() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for minute in range(ENDED):
        stamp, bad = at(minute), BROKEN <= minute < FIXED
        trace = f"t{minute}"
        lines.append(
            line(stamp, "shop", "INFO", f"served basket {minute} in {20 + minute} ms", trace_id=trace)
        )
        if bad:
            message = f"pool exhausted after {30 + minute} s for 'customer {minute}'"
            lines.append(line(stamp, "orders", "ERROR", message, trace_id=trace, pool="main"))
        if minute % 10 == 0:
            lines.append(line(stamp, "db", "WARN", f"checkpoint took {minute}.5 s"))
    return lines


def line(stamp: str, service: str, severity: str, message: str, **more: str) -> dict[str, Any]:
    return {"timestamp": stamp, "service": service, "severity": severity, "message": message, **more}


def trace_of(minute: int) -> list[dict[str, Any]]:
    """One request: shop calls orders, orders asks the database once, or eleven times when broken."""
    bad = BROKEN <= minute < FIXED
    trace, queries = f"t{minute}", 11 if bad else 1
    begin = BEGIN + timedelta(minutes=minute)

    def span(id: str, parent: str | None, service: str, name: str, after: float, ms: float, **more: Any):
        start = (begin + timedelta(milliseconds=after)).isoformat().replace("+00:00", "Z")
        fixed = {"trace_id": trace, "span_id": id, "parent_id": parent, "service": service, "name": name}
        return fixed | {"start": start, "duration_ms": ms, "status": "OK"} | more

    failure = {"status": "ERROR", "error": "deadline exceeded"} if bad else {}
    whole = 10 + 20 * queries
    spans = [
        span("a", None, "shop", "POST /basket", 0, whole + 10, **failure),
        span("b", "a", "orders", "create", 5, whole, **failure),
    ]
    for number in range(queries):
        spans.append(
            span(f"q{number}", "b", "db", "SELECT item", 5 + 20 * number, 20, attributes={"db.rows": 1})
        )
    return spans


COMMITS = [
    {
        "sha": "a1b2c3d4e5f60718293a4b5c6d7e8f9012345678",
        "author": "ana",
        "timestamp": at(5),
        "message": "Tidy imports",
        "files": ["shop/main.py"],
        "diff": "-import os\n",
    },
    {
        "sha": "b2c3d4e5f60718293a4b5c6d7e8f9012345678a1",
        "author": "ben",
        "timestamp": at(30),
        "message": "Load items one by one\n\nIt is simpler so.",
        "files": ["orders/store.py"],
        "diff": "-    load_all(ids)\n+    [load(id) for id in ids]\n",
    },
    {
        "sha": "c3d4e5f60718293a4b5c6d7e8f9012345678a1b2",
        "author": "cem",
        "timestamp": at(52),
        "message": "Revert",
        "files": ["orders/store.py"],
        "diff": None,
    },
]
DEPLOYS = [
    {
        "timestamp": at(10),
        "service": "shop",
        "version": "7",
        "previous": "6",
        "commit": "a1b2c3d4",
        "actor": "ana",
    },
    {"timestamp": at(40), "service": "orders", "version": "1.1", "previous": "1.0", "commit": "b2c3d4e5"},
]
FLAGS = [
    {"timestamp": at(20), "flag": "new_basket", "service": "shop", "change": "off -> on", "actor": "ana"}
]
ANSWERS = [
    {
        "tool": "get",
        "arguments": {"resource_type": "pods", "namespace": "prod"},
        "text": "NAME READY\norders 1/1",
    },
    {"tool": "alerts", "arguments": {}, "text": "OrdersSlow firing"},
    {"tool": "alerts", "arguments": {}, "text": "no alerts", "at": at(60)},
    {
        "tool": "connectivity",
        "arguments": {"namespace": "prod", "service": "orders", "port": 80},
        "text": "orders:80 answers",
    },
]
RUNBOOKS = {
    "pool.md": (
        "---\ntitle: Connection pool exhausted\n---\n# Connection pool exhausted\n\n## Meaning\n\n"
        "All database connections of the pool are in use, so requests wait.\n\n"
        "## What to do\n\nLook for a recent deploy that opens more queries, and roll it back.\n"
    ),
    "DiskFillingUp.md": (
        "# DiskFillingUp\n\nThe disk of a node is filling up.\n\n"
        "```\n# this is no heading\ndf -h\n```\n\nRemove old images.\n"
    ),
    "notes.bin": "not a runbook",
}


def a_world(state: Path, **settings: Any) -> World:
    """A world with its state in `state`."""
    return World(load("", {"state": str(state), **settings}))


async def ask(world: World, server: str, tool: str, **arguments: Any) -> CallToolResult:
    """Call one tool of a server of this world through a real client."""
    async with Client(serving.build(server, world)) as client:
        return await client.call_tool(tool, arguments)


def text_of(result: CallToolResult) -> str:
    """The text of a result."""
    return "\n".join(block.text for block in result.content if block.type == "text")


async def data(world: World, server: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured content of a call that must succeed."""
    result = await ask(world, server, tool, **arguments)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return result.structured_content


async def refusal(world: World, server: str, tool: str, **arguments: Any) -> str:
    """The text of a call that must fail."""
    result = await ask(world, server, tool, **arguments)
    assert result.is_error, text_of(result)
    return text_of(result)
