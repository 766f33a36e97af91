"""Metrics read from a live Prometheus HTTP API."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any

import httpx2
from mcp.types import CallToolResult
from pydantic import Field

from tool_servers.errors import BadInput, NotOffered, Unavailable
from tool_servers.toolkit import (
    READ,
    End,
    Limit,
    Start,
    ToolServer,
    format_time,
    listing,
    reply,
    window,
)
from tool_servers.types import MetricName, Series, SeriesPage
from tool_servers.world import World

SECONDS = 20.0
POINTS = 240  # of one series, unless a step is asked for
HOUR = 3600.0
MOST_SERIES = 2000  # that are read without naming metrics

Promql = Annotated[str, Field(description="A PromQL expression.", min_length=1, max_length=4000)]
Step = Annotated[float, Field(ge=0, le=86400, description="Seconds between points; 0 = chosen to fit.")]


class Prometheus:
    """A Prometheus server, and the label that names services in it."""

    def __init__(self, url: str, label: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadInput("--prometheus", url, "a URL such as http://127.0.0.1:9090")
        self._url = url.rstrip("/")
        self._label = label
        self._http = httpx2.Client(timeout=SECONDS, follow_redirects=False)

    def names(self, service: str) -> list[MetricName]:
        """The metrics that Prometheus has for a service, or at all."""
        selector = f'{{{self._label}="{_quoted(service)}"}}' if service else f'{{{self._label}=~".+"}}'
        rows = self._ask("series", {"match[]": selector, "start": f"{time.time() - HOUR:.0f}"})
        names = {(row.get(self._label, ""), row["__name__"]) for row in rows if "__name__" in row}
        return [MetricName(service=name, metric=metric) for name, metric in sorted(names)]

    def select(
        self, metrics: list[str], services: list[str], start: float, end: float, step: float
    ) -> list[Series]:
        """The series of some metrics or all, for some services or all."""
        wanted = "|".join(_quoted(_literal(service)) for service in services)
        selector = f'{{{self._label}=~"{wanted}"}}' if services else ""
        if not metrics:
            everything = selector or f'{{{self._label}=~".+"}}'
            counted = self._ask("query", {"query": f"count({everything})"})["result"]
            if (many := int(float(counted[0]["value"][1])) if counted else 0) > MOST_SERIES:
                raise BadInput(
                    "metrics", metrics, f"some names, since there are {many} series: see list_metrics"
                )
            return self.query(everything, start, end, step)
        found: list[Series] = []
        for metric in metrics:
            found += self.query(f"{metric}{selector}", start, end, step)
        return found

    def query(self, promql: str, start: float, end: float, step: float) -> list[Series]:
        """The series that an expression yields over time; the last hour unless a start is named."""
        start = end - HOUR if math.isinf(start) else start
        step = step or max(1.0, math.ceil((end - start) / POINTS))
        asked = {"query": promql, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        rows = self._ask("query_range", asked)["result"]
        series = [self._series(row, promql) for row in rows]
        kept = [one for one in series if one.points]
        return sorted(kept, key=lambda one: (one.service, one.metric, sorted(one.labels.items())))

    def _series(self, row: dict[str, Any], promql: str) -> Series:
        labels = dict(row["metric"])
        name = labels.pop("__name__", promql)
        points = [(format_time(stamp), float(value)) for stamp, value in row["values"]]
        return Series(
            service=labels.pop(self._label, ""),
            metric=name,
            labels=labels,
            points=[point for point in points if math.isfinite(point[1])],
        )

    def _ask(self, what: str, parameters: dict[str, str]) -> Any:
        try:
            answer = self._http.get(f"{self._url}/api/v1/{what}", params=parameters)
        except httpx2.HTTPError as error:
            raise Unavailable(
                f"Prometheus at {self._url} does not answer: {error or type(error).__name__}; "
                "check the URL and that it runs"
            ) from error
        try:
            body = answer.json()
            status = body.get("status")
        except (ValueError, AttributeError) as error:
            raise Unavailable(
                f"{self._url} is no Prometheus: it answered {answer.status_code} without JSON; check the URL"
            ) from error
        if status != "success":
            raise NotOffered(f"Prometheus refused: {body.get('error', 'no reason given')}; correct the query")
        return body["data"]


def _literal(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-:/" else f"\\{letter}" for letter in text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def add_query(server: ToolServer, source: Prometheus, world: World) -> None:
    """Offer free PromQL queries, which only a live Prometheus can answer."""
    from tool_servers.metrics import series_text

    @server.tool(annotations=READ)
    def query(
        promql: Promql, start: Start = "", end: End = "", step_seconds: Step = 0, limit: Limit = 50
    ) -> Annotated[CallToolResult, SeriesPage]:
        """Evaluate a PromQL expression over time."""
        first, last = window(start, end, world.clock())
        found = source.query(promql, first, last, step_seconds)
        header = f"{len(found)} series, until {format_time(last)}"
        if len(found) > limit:
            header += f"; the first {limit} are shown, narrow the expression to see others"
        text = listing(header, [series_text(one) for one in found[:limit]], "")
        return reply(text, SeriesPage(series=found[:limit], step_seconds=step_seconds))
