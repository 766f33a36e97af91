"""The metrics server: range queries over a recording, or over a live Prometheus."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from mcp.types import CallToolResult
from pydantic import Field

from tool_servers.errors import NotFound
from tool_servers.recording import MetricSeries, Recording
from tool_servers.toolkit import (
    READ,
    Cursor,
    End,
    Limit,
    Service,
    Start,
    ToolServer,
    cursor_after,
    cursor_offset,
    format_number,
    format_time,
    listing,
    page,
    reply,
    window,
)
from tool_servers.types import MetricName, MetricNames, Series, SeriesPage
from tool_servers.world import World

if TYPE_CHECKING:
    from tool_servers.live.prometheus import Prometheus

POINTS = 7500  # in one answer

Names = Annotated[list[str], Field(description="Only these metrics; empty = all.", max_length=100)]
Services = Annotated[list[str], Field(description="Only these services; empty = all.", max_length=100)]
Step = Annotated[
    float,
    Field(ge=0, le=86400, description="Seconds between points, each the mean of its step; 0 = as recorded."),
]


def build(world: World) -> ToolServer:
    """The metrics server for a world."""
    server = ToolServer("metrics", "Metrics of services over time.")
    source = _source(world)

    @server.tool(annotations=READ)
    def list_metrics(
        service: Service = "", limit: Limit = 500, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, MetricNames]:
        """List which metrics exist, for one service or for all."""
        names = source.names(service)
        chosen, lines, after = page(names, limit, cursor, ["list", service], _name_line)
        header = f"{len(names)} metrics (service metric unit samples)"
        return reply(listing(header, lines, after), MetricNames(metrics=chosen, next_cursor=after))

    @server.tool(annotations=READ)
    def query_range(
        metrics: Names = [],  # noqa: B006 (never changed; the schema shows the default)
        services: Services = [],  # noqa: B006
        start: Start = "",
        end: End = "",
        step_seconds: Step = 0,
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> Annotated[CallToolResult, SeriesPage]:
        """Read metric series between two times; a line of figures for each, then its points."""
        first, last = window(start, end, world.clock())
        series = source.select(metrics, services, first, last, step_seconds)
        query = ["range", metrics, services, start, end, step_seconds]
        offset = cursor_offset(cursor, query)
        chosen = _within_budget(series[offset : offset + limit])
        done = offset + len(chosen)
        after = cursor_after(done, query) if done < len(series) else ""
        header = f"{len(series)} series, until {format_time(last)}"
        text = listing(header, [series_text(one) for one in chosen], after)
        return reply(text, SeriesPage(series=chosen, step_seconds=step_seconds, next_cursor=after))

    if not isinstance(source, RecordedMetrics):
        from tool_servers.live.prometheus import add_query

        add_query(server, source, world)
    return server


def _source(world: World) -> RecordedMetrics | Prometheus:
    if world.settings.prometheus and not world.recorded:
        from tool_servers.live.prometheus import Prometheus

        return Prometheus(world.settings.prometheus, world.settings.service_label)
    return RecordedMetrics(world)


class RecordedMetrics:
    """Metrics of the recording, up to its clock."""

    def __init__(self, world: World) -> None:
        self._world = world

    def names(self, service: str) -> list[MetricName]:
        """The metrics that have been recorded by now."""
        recording, clock = self._world.recording(), self._world.clock()
        _known(recording, [service] if service else [], [])
        return [
            MetricName(service=one.service, metric=one.metric, unit=one.unit, samples=count)
            for one in recording.metrics
            if service in ("", one.service) and (count := bisect_right(one.times, clock))
        ]

    def select(
        self, metrics: list[str], services: list[str], start: float, end: float, step: float
    ) -> list[Series]:
        """The recorded series that match and have points in the window."""
        recording = self._world.recording()
        _known(recording, services, metrics)
        chosen = []
        for one in recording.metrics:
            if (services and one.service not in services) or (metrics and one.metric not in metrics):
                continue
            low, high = bisect_left(one.times, start), bisect_right(one.times, end)
            if low < high:
                chosen.append(_series(one, low, high, step))
        return chosen


def _known(recording: Recording, services: Sequence[str], metrics: Sequence[str]) -> None:
    known_services = {one.service for one in recording.metrics} | recording.services
    for service in services:
        if service not in known_services:
            raise NotFound("services", service, known_services, "service")
    known_metrics = {one.metric for one in recording.metrics}
    for metric in metrics:
        if metric not in known_metrics:
            raise NotFound("metrics", metric, known_metrics, "metric")


def _series(one: MetricSeries, low: int, high: int, step: float) -> Series:
    pairs = list(zip(one.times[low:high], one.values[low:high], strict=True))
    span = pairs[-1][0] - pairs[0][0]
    if not step and len(pairs) > POINTS:
        step = math.ceil(span / POINTS)
    points = [(format_time(time), value) for time, value in (averaged(pairs, step) if step else pairs)]
    return Series(service=one.service, metric=one.metric, unit=one.unit, points=points)


def averaged(pairs: list[tuple[float, float]], step: float) -> list[tuple[float, float]]:
    """The mean of each step of time, at the beginning of the step."""
    steps: dict[float, list[float]] = {}
    for time, value in pairs:
        steps.setdefault(time // step * step, []).append(value)
    return [(time, sum(values) / len(values)) for time, values in steps.items()]


def _within_budget(series: list[Series]) -> list[Series]:
    chosen, points = [], 0
    for one in series:
        points += len(one.points)
        if chosen and points > POINTS:
            break
        chosen.append(one)
    return chosen


def _name_line(name: MetricName) -> str:
    return f"{name.service} {name.metric} {name.unit or '-'} {name.samples}"


def series_text(series: Series) -> str:
    """One line of figures that can be quoted, and one line with every point."""
    values = [value for _, value in series.points]
    low, high = values.index(min(values)), values.index(max(values))
    labels = "".join(f" {key}={value}" for key, value in sorted(series.labels.items()))
    return (
        f"{series.service} {series.metric}{labels} {series.unit or '-'} n={len(values)} "
        f"first={format_number(values[0])} at {series.points[0][0]} "
        f"last={format_number(values[-1])} at {series.points[-1][0]} "
        f"min={format_number(values[low])} at {series.points[low][0]} "
        f"max={format_number(values[high])} at {series.points[high][0]} "
        f"mean={format_number(sum(values) / len(values))}\n"
        f"  points: {' '.join(_point_texts(series.points))}"
    )


def _point_texts(points: Sequence[tuple[str, float]]) -> list[str]:
    """The points as TIME=VALUE, the date left out where it is that of the first."""
    day = points[0][0][:11]
    return [f"{stamp.removeprefix(day).removesuffix('Z')}={format_number(value)}" for stamp, value in points]


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("metrics")
