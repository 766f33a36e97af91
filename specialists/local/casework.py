"""Casework: what every specialist here keeps while it works: the alert, the window, its calls and quotes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from specialists.local import times
from specialists.types import Claim, Evidence, Finding, Scope, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox, ToolResult

LOOKBACK = timedelta(minutes=90)  # how much of the quiet time before an alert is compared with
SURELY = timedelta(minutes=3)  # how long before an alert the trouble was there at least
SOON = timedelta(minutes=10)  # the same where what is new can be told by when it was first seen
LATE = timedelta(minutes=30)  # how late an alert may be: the quiet time ends this long before it


@dataclass(frozen=True)
class Alert:
    """The parts of an alert that an investigation starts from."""

    name: str
    service: str
    metric: str
    severity: str
    text: str  # the words of its annotations
    fired: datetime | None

    @classmethod
    def of(cls, scope: Scope) -> Alert:
        """From an Alertmanager payload, one alert of it, or nothing at all."""
        raw = scope.alert
        inner = raw.get("alerts") or []
        one = inner[0] if inner and isinstance(inner[0], dict) else raw
        labels = {**(raw.get("commonLabels") or {}), **(one.get("labels") or {})}
        notes = {**(raw.get("commonAnnotations") or {}), **(one.get("annotations") or {})}
        service = next(
            (labels[k] for k in ("service", "app", "job", "deployment", "component") if labels.get(k)), ""
        )
        return cls(
            name=str(labels.get("alertname", "")),
            service=str(service or (scope.services[0] if scope.services else "")),
            metric=str(labels.get("metric") or notes.get("metric") or ""),
            severity=str(labels.get("severity", "")),
            text=" ".join(str(v) for v in notes.values()),
            fired=scope.onset or times.parse(one.get("startsAt")),
        )


@dataclass(frozen=True)
class Window:
    """The quiet time before an alert and the time since: [start, quiet_end) is the baseline."""

    start: datetime
    quiet_end: datetime
    now: datetime
    surely: datetime  # from here on the incident was surely going on

    @classmethod
    def of(cls, task: Task, alert: Alert, late: timedelta = LATE) -> Window:
        """Around the earliest moment the case knows of; symptoms found by others move it back."""
        fired = alert.fired or task.scope.now or datetime.now(UTC)
        now = task.scope.now or max(fired, datetime.now(UTC))
        began = onset(task)
        edge = began - timedelta(minutes=2) if began and began <= now else fired - late
        surely = max(edge, (began or fired - SURELY))
        return cls(start=edge - LOOKBACK, quiet_end=edge, now=max(now, fired), surely=min(surely, now))


def onset(task: Task) -> datetime | None:
    """When the trouble began, as far as the claims of others tell: the earliest of the surest symptoms."""
    found = [c.at for c in task.claims if c.kind == "symptom" and c.at and c.confidence >= 0.6]
    return min(found) if found else None


def quote(result: ToolResult, *needles: str, width: int = 220) -> Evidence | None:
    """A short stretch of one line of the result in which all needles stand, or None."""
    wanted = [n for n in needles if n]
    for line in result.text.splitlines():
        if wanted and all(n in line for n in wanted):
            return result.quote(_stretch(line.strip(), wanted, width))
    return None


def quote_start(result: ToolResult, start: str, width: int = 260) -> Evidence | None:
    """The first line of the result that begins with these words, or None."""
    line = next((x.strip() for x in result.text.splitlines() if x.strip().startswith(start)), "")
    return result.quote(line[:width].strip()) if line else None


def _stretch(line: str, needles: list[str], width: int) -> str:
    if len(line) <= width:
        return line
    first = min(line.find(n) for n in needles)
    last = max(line.find(n) + len(n) for n in needles)
    if last - first > 2 * width:
        first, last = line.find(needles[-1]), line.find(needles[-1]) + len(needles[-1])
    room = max(0, width - (last - first)) // 2
    return line[max(0, first - room) : last + room].strip()


class Casebook:
    """What one investigation has seen: its calls, its time, and what it could not see."""

    def __init__(self, specialist: str, task: Task, toolbox: Toolbox) -> None:
        self.specialist = specialist
        self.task = task
        self.toolbox = toolbox
        self.alert = Alert.of(task.scope)
        self.window = Window.of(task, self.alert)
        self.calls = 0
        self.missing: list[str] = []
        self._began = time.monotonic()

    async def ask(self, tool: str, **arguments: Any) -> ToolResult | None:
        """The result of a call, or None (noted under what is missing) when the tool gave an error."""
        given = {k: v for k, v in arguments.items() if v not in ("", None, [])}
        result = await self.toolbox.call(tool, given)
        self.calls += 1
        if result.is_error:
            said = result.text.strip().splitlines()
            self.missing.append(f"{tool}: {said[0][:200] if said else 'an error without words'}")
            return None
        if not isinstance(result.data, dict):
            self.missing.append(f"{tool}: it answered without data")
            return None
        return result

    def finding(self, summary: str, **parts: Any) -> Finding:
        """The finding; it abstains when there is nothing in it."""
        something = any(parts.get(name) for name in ("claims", "causes", "actions", "guidance"))
        return Finding(
            task=self.task.id,
            specialist=self.specialist,
            status=parts.pop("status", "found" if something else "abstained"),
            summary=summary,
            missing=tuple(self.missing),
            calls=self.calls,
            seconds=time.monotonic() - self._began,
            **parts,
        )


def backed(claims: Sequence[Claim | None]) -> tuple[Claim, ...]:
    """The claims that stand on evidence."""
    return tuple(c for c in claims if c is not None and c.evidence)


def short(name: str) -> str:
    """A service's name without the endings that people leave out."""
    return re.sub(r"[-_.]?(service|svc|server|api|app)$", "", name.lower())


def same_service(a: str, b: str) -> bool:
    """Whether two names mean the same service ("orders-svc" and "orders")."""
    return bool(a and b) and (a.lower() == b.lower() or short(a) == short(b) != "")


def mentions(text: str, service: str) -> bool:
    """Whether a text names a service as a word of its own."""
    names = {service.lower(), short(service)} if len(short(service)) >= 4 else {service.lower()}
    return any(re.search(rf"(?<![\w]){re.escape(n)}(?![\w])", text.lower()) for n in names if n)
