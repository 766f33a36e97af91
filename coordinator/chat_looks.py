"""Fresh looks for follow-up questions: a tool call or two through the gateway, told in words that cite."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from coordinator.desk import Desk
from specialists.errors import ApprovalPending
from specialists.toolbox import Toolbox, ToolResult
from specialists.types import Evidence, Progress

SHOWN = 6
STAMPED = re.compile(r"\d{4}-\d\d-\d\dT")  # a line of a listing begins with its time
BEFORE = timedelta(hours=1)
CHANGES_BEFORE = timedelta(hours=24)
LATELY = 5  # points of a series that say how it is now


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence and the evidence it stands on."""

    text: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Looks:
    """The looks that one case allows: within its time, with a specialist's own rights."""

    desk: Desk
    onset: datetime | None
    namespace: str = ""
    offered: frozenset[str] = frozenset()  # specialists whose tools the gateway offers

    async def logs(self, component: str) -> list[Said]:
        """The warnings and errors of a component since shortly before it began."""
        arguments: dict[str, Any] = {"severity": "WARN", "limit": 200, "service": component}
        if self.onset:
            arguments["start"] = _iso(self.onset - timedelta(minutes=5))
        result = await self._ask("logs", "logs__search", arguments)
        if not _usable(result) and self.namespace and "kubernetes" in self.offered:
            return await self._kubernetes_logs(component)
        if not _usable(result):
            return [Said(f"The logs of {component} cannot be read: {_clip(result.text)}")]
        lines = [line for line in result.text.splitlines() if STAMPED.match(line)]
        if not lines:
            return [Said(f"{component} logged no warning or error in that time.", _first_line(result))]
        total = (result.data or {}).get("total") or len(lines)
        head = f"{total} lines of {component} are warnings or errors; some of them:"
        chosen = lines if len(lines) <= SHOWN else [*lines[: SHOWN - 2], *lines[-2:]]
        return [Said(head), *(Said(_clip(line), (result.quote(_clip(line, 400)),)) for line in chosen)]

    async def metrics(self, component: str) -> list[Said]:
        """The metrics of a component that moved most since it began."""
        moved = await self.movements(component)
        return [m.said for m in moved[:4]] or [Said(f"There are no metrics of {component} in this time.")]

    async def movements(self, component: str) -> list[Movement]:
        """How each metric of a component stands now beside what it was before, the largest change first."""
        start = _iso(self.onset - BEFORE) if self.onset else ""
        arguments = {"services": [component], "limit": 200} | ({"start": start} if start else {})
        result = await self._ask("metrics", "metrics__query_range", arguments)
        if not _usable(result) or self.onset is None:
            return []
        series = (result.data or {}).get("series") or []
        moved = [m for one in series if (m := _movement(one, result, self.onset))]
        return sorted(moved, key=lambda m: -m.size)

    async def traces(self, component: str) -> list[Said]:
        """Failing and slow spans of a component."""
        said: list[Said] = []
        for tool, what in (("failing_spans", "failing"), ("slow_spans", "slow")):
            arguments: dict[str, Any] = {"service": component, "limit": 3}
            if self.onset:
                arguments["start"] = _iso(self.onset)
            result = await self._ask("traces", f"traces__{tool}", arguments)
            lines = [n for n in result.text.splitlines() if STAMPED.match(n)] if _usable(result) else []
            said += [Said(f"{what}: {_clip(n)}", (result.quote(_clip(n, 400)),)) for n in lines[:3]]
        return said or [Said(f"No failing or slow spans of {component} were recorded in this time.")]

    async def changes(self, component: str = "") -> list[ToolResult]:
        """The deploys, commits and flag changes of the day before."""
        span = {"start": _iso(self.onset - CHANGES_BEFORE)} if self.onset else {}
        asked = (
            ("changes__deploys", span | ({"service": component} if component else {})),
            ("changes__commits", span),
            ("changes__flags", span),
        )
        results = [await self._ask("changes", tool, arguments) for tool, arguments in asked]
        return [r for r in results if _usable(r)]

    async def _kubernetes_logs(self, component: str) -> list[Said]:
        arguments = {"namespace": self.namespace, "service": component, "errors_only": True}
        result = await self._ask("kubernetes", "kubernetes__logs", arguments)
        if not _usable(result):
            return [Said(f"The logs of {component} cannot be read: {_clip(result.text, 200)}")]
        lines = [line for line in result.text.splitlines() if line.strip()][:SHOWN]
        return [Said(_clip(line), (result.quote(_clip(line, 400)),)) for line in lines if len(line) > 2]

    async def _ask(self, specialist: str, tool: str, arguments: dict[str, Any]) -> ToolResult:
        async with self._toolbox(specialist) as toolbox:
            try:
                return await toolbox.call(tool, arguments)
            except ApprovalPending as wait:
                return ToolResult(wait.call, tool, arguments, str(wait), is_error=True)

    @asynccontextmanager
    async def _toolbox(self, specialist: str) -> AsyncIterator[Toolbox]:
        """A toolbox with the specialist's rights; a task of its own, so that nothing is replayed."""

        def tell(event: Progress) -> None:
            self.desk.tell(event)

        async with self.desk.toolbox(specialist, f"{self.desk.case}/chat-{uuid.uuid4().hex[:8]}") as toolbox:
            with toolbox.heard_by(tell):
                yield toolbox


@dataclass(frozen=True, slots=True)
class Movement:
    """How one metric stands now beside what it was before it began."""

    service: str
    metric: str
    before: float
    worst: float
    now: float
    said: Said

    @property
    def size(self) -> float:
        """How far it went from what it was."""
        return abs(self.worst - self.before) / (abs(self.before) + 1e-9)

    @property
    def recovered(self) -> bool:
        """Whether it is back where it was, nearly."""
        return abs(self.now - self.before) <= 0.3 * abs(self.worst - self.before)


def _movement(series: dict[str, Any], result: ToolResult, onset: datetime) -> Movement | None:
    points = [(_moment(t), float(v)) for t, v in series.get("points") or [] if v is not None]
    before = [v for t, v in points if t < onset]
    since = [v for t, v in points if t >= onset]
    quoted = result.cite(f"{series['service']} {series['metric']}", "last=")
    if len(before) < 3 or len(since) < 3 or quoted is None:
        return None
    usual = median(before)
    worst = max(since, key=lambda v: abs(v - usual))
    now = median(since[-LATELY:])
    unit = series.get("unit") or ""
    figures = f"{_number(usual)} before, {_number(worst)} at its farthest, {_number(now)} at the end"
    text = f"{series['metric']} of {series['service']}: {figures}{f' ({unit})' if unit else ''}."
    return Movement(series["service"], series["metric"], usual, worst, now, Said(text, (quoted,)))


def _usable(result: ToolResult) -> bool:
    return not result.is_error and result.refusal is None


def _first_line(result: ToolResult) -> tuple[Evidence, ...]:
    line = next((n for n in result.text.splitlines() if len(n.strip()) > 2), "")
    return (result.quote(line),) if line else ()


def _clip(text: str, limit: int = 220) -> str:
    return text.strip() if len(text.strip()) <= limit else text.strip()[:limit]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
