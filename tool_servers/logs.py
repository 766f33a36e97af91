"""The logs server: search and patterns over a recording, or over a directory of log files."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Protocol

from mcp.types import CallToolResult
from pydantic import Field

from tool_servers.errors import BadInput, NotFound
from tool_servers.recording import Line
from tool_servers.templates import mine
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
    format_time,
    listing,
    page,
    reply,
    window,
)
from tool_servers.types import LogLine, LogPage, LogPattern, LogPatterns
from tool_servers.world import World

SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_ALIASES = {"WARNING": "WARN", "ERR": "ERROR", "CRITICAL": "FATAL", "NOTICE": "INFO", "PANIC": "FATAL"}
MESSAGE_LIMIT = 4000

Text = Annotated[
    str, Field(description="Words that the line contains, in any case; empty = all.", max_length=500)
]
Severity = Annotated[
    str, Field(description=f"Lowest severity to show: {', '.join(SEVERITIES)}; empty = all.")
]


class Source(Protocol):
    """Where log lines come from."""

    def lines(self) -> list[Line]:
        """Every line, in the order of time."""
        ...

    def templated(self) -> list[tuple[Line, str]]:
        """Every line with its template, in the order of time."""
        ...

    def services(self) -> set[str]:
        """The services that exist, whether they log or not."""
        ...


def build(world: World) -> ToolServer:
    """The logs server for a world."""
    server = ToolServer("logs", "Log lines of services: search them, or count their patterns.")
    source = _source(world)

    @server.tool(annotations=READ)
    def search(
        text: Text = "",
        service: Service = "",
        severity: Severity = "",
        start: Start = "",
        end: End = "",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, LogPage]:
        """Find log lines by text, service, severity and time; in the order of time."""
        first, last = window(start, end, world.clock())
        rank = _rank(severity)
        lines = [line for line in _select(source, service, first, last) if _matches(line, text, rank)]
        query = ["search", text, service, severity, start, end]
        chosen, texts, after = page(lines, limit, cursor, query, line_text)
        header = f"{len(lines)} lines match, until {format_time(last)}"
        found = LogPage(lines=[log_line(line) for line in chosen], total=len(lines), next_cursor=after)
        return reply(listing(header, texts, after), found)

    @server.tool(annotations=READ)
    def patterns(
        service: Service = "",
        start: Start = "",
        end: End = "",
        baseline_start: BaselineStart = "",
        baseline_end: BaselineEnd = "",
        limit: Limit = 30,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, LogPatterns]:
        """Count log messages by pattern in a window and in a baseline (by default all before the window);
        those whose rate changed most come first."""
        clock = world.clock()
        first, last = window(start, end, clock)
        lines = source.lines()
        oldest = lines[0].time if lines else last
        first = max(first, min(oldest, last))
        before = baseline(baseline_start, baseline_end, (first, last), clock, min(oldest, first))
        _known(source, service)
        counted = _count(source, service, (first, last), before)
        query = ["patterns", service, start, end, baseline_start, baseline_end]
        chosen, texts, after = page(counted, limit, cursor, query, _pattern_text)
        times = [format_time(time) for time in (first, last, *before)]
        header = (
            f"{len(counted)} patterns, {times[0]} to {times[1]} (baseline {times[2]} to {times[3]}); "
            "count baseline severity service template"
        )
        found = LogPatterns(
            patterns=chosen,
            total=len(counted),
            start=times[0],
            end=times[1],
            baseline_start=times[2],
            baseline_end=times[3],
            next_cursor=after,
        )
        return reply(listing(header, texts, after), found)

    return server


def _source(world: World) -> Source:
    if world.settings.logs and not world.recorded:
        from tool_servers.live.logfiles import LogFiles

        return LogFiles(world.settings.logs)
    return RecordedLogs(world)


class RecordedLogs:
    """The log lines of the recording."""

    def __init__(self, world: World) -> None:
        self._world = world

    def lines(self) -> list[Line]:
        """Every recorded line, in the order of time."""
        return self._world.recording().logs

    def templated(self) -> list[tuple[Line, str]]:
        """Every recorded line with its template, worked out once."""
        recording = self._world.recording()
        return recording.derived("templated", "logs.ndjson", lambda: templated(recording.logs))

    def services(self) -> set[str]:
        """The services that the recording names or that log in it."""
        recording = self._world.recording()
        return recording.services | {line.service for line in recording.logs}


def templated(lines: Sequence[Line]) -> list[tuple[Line, str]]:
    """Each line with its template; words are compared only within a service."""
    by_service: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        by_service.setdefault(line.service, []).append(index)
    templates = [""] * len(lines)
    for indexes in by_service.values():
        for index, template in zip(indexes, mine([lines[i].message for i in indexes]), strict=True):
            templates[index] = clip(template, 500)
    return list(zip(lines, templates, strict=True))


def _rank(severity: str) -> int:
    if not severity:
        return -1
    name = _ALIASES.get(severity.upper(), severity.upper())
    if name not in SEVERITIES:
        raise BadInput("severity", severity, ", ".join(SEVERITIES))
    return SEVERITIES.index(name)


def _line_rank(severity: str) -> int:
    name = _ALIASES.get(severity, severity)
    return SEVERITIES.index(name) if name in SEVERITIES else SEVERITIES.index("INFO")


def _known(source: Source, service: str) -> None:
    if service and service not in (known := source.services()):
        raise NotFound("service", service, known, "service")


def _select(source: Source, service: str, start: float, end: float) -> Iterable[Line]:
    _known(source, service)
    lines = source.lines()
    low = bisect_left(lines, start, key=lambda line: line.time)
    high = bisect_right(lines, end, key=lambda line: line.time)
    return (line for line in lines[low:high] if service in ("", line.service))


def _matches(line: Line, text: str, rank: int) -> bool:
    return _line_rank(line.severity) >= rank and (not text or text.casefold() in line_text(line).casefold())


def log_line(line: Line) -> LogLine:
    """A line as structured content."""
    record = {key: value for key, value in line.record.items() if value is not None}
    named = {"timestamp": format_time(line.time), "service": line.service, "severity": line.severity}
    return LogLine.model_validate(record | named | {"message": clip(line.message, MESSAGE_LIMIT)})


def line_text(line: Line) -> str:
    """A line as text: time, severity, service, message, then its attributes."""
    shown = ("timestamp", "service", "severity", "message")
    extra = "".join(
        f" {key}={value}" for key, value in line.record.items() if key not in shown and value is not None
    )
    message = clip(line.message, MESSAGE_LIMIT).replace("\n", "\\n")
    return f"{format_time(line.time)} {line.severity} {line.service} {message}{extra}"


def _count(
    source: Source, service: str, during: tuple[float, float], before: tuple[float, float]
) -> list[LogPattern]:
    found: dict[tuple[str, str, str], LogPattern] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    baselines: Counter[tuple[str, str, str]] = Counter()
    for line, template in source.templated():
        inside, earlier = during[0] <= line.time <= during[1], before[0] <= line.time < before[1]
        if (service and line.service != service) or not (inside or earlier):
            continue
        key = (line.service, line.severity, template)
        counts[key] += inside
        baselines[key] += earlier
        stamp = format_time(line.time)
        if key not in found or (inside and counts[key] == 1):
            found[key] = LogPattern(
                service=key[0],
                severity=key[1],
                template=template,
                count=0,
                baseline_count=0,
                first_seen=found[key].first_seen if key in found else stamp,
                last_seen=stamp,
                example=clip(line.message, 500),
            )
        found[key].last_seen = stamp
    scale = max(during[1] - during[0], 1.0) / max(before[1] - before[0], 1.0)
    for key, pattern in found.items():
        pattern.count, pattern.baseline_count = counts[key], baselines[key]
    return sorted(found.values(), key=lambda pattern: (-_change(pattern, scale), pattern.template))


def _change(pattern: LogPattern, scale: float) -> float:
    """How surprising the count is, given the baseline's count brought to the same length of time."""
    expected = pattern.baseline_count * scale
    return (pattern.count - expected) / math.sqrt(expected + 1)


def _pattern_text(pattern: LogPattern) -> str:
    return (
        f"{pattern.count} {pattern.baseline_count} {pattern.severity} {pattern.service} {pattern.template}"
        f" | first {pattern.first_seen} last {pattern.last_seen} | e.g. {pattern.example}".replace(
            "\n", "\\n"
        )
    )


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("logs")
