"""Metrics: which service moved first, which indicators moved with it, and which stayed as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from specialists.local import indicators, times
from specialists.local.blame import Blame, assign
from specialists.local.casework import Casebook, backed, same_service
from specialists.local.graph import CallGraph
from specialists.local.indicators import PAIN
from specialists.local.metric_causes import explain
from specialists.local.moved import Moved, examine, first_moved
from specialists.local.places import places
from specialists.local.sampling import Read, sample
from specialists.local.series import Series
from specialists.types import Card, Cause, Claim, Event, Evidence, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox

MOST_SYMPTOMS = 10
MOST_CALM = 5
CALM_WORDS = {
    "requests": "Traffic is as usual",
    "cpu": "CPU is not short",
    "memory": "Memory is not short",
    "disk": "Disk is not short",
    "connections": "Connections are not short",
}


class MetricsSpecialist:
    """Compares every series with its own quiet time and says what moved, when, how far, and where from."""

    card = Card(
        name="metrics",
        description="Change points in metrics: what moved first, how far, where it comes from, what is calm.",
        tools=("metrics__*", "traces__dependencies"),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Read the series around the alert and report what changed."""
        book = Casebook(self.card.name, task, toolbox)
        reads = await sample(book)
        trouble, still = examine(reads, book)
        first = first_moved(trouble, book.alert)
        blamed = await self._blame(book, reads, trouble, first)
        claims = [
            *(symptom(m, book) for m in told_first(trouble, book)[:MOST_SYMPTOMS]),
            *calm(trouble, still, first),
        ]
        causes = explain(trouble, reads, first) if first else []
        causes += places(trouble, blamed, first, causes)
        causes.sort(key=lambda c: -c.confidence)
        said = summary(trouble, still, first, causes)
        yield book.finding(said, claims=backed(claims), causes=tuple(causes))

    async def _blame(
        self, book: Casebook, reads: list[Read], trouble: list[Moved], first: Moved | None
    ) -> list[Blame]:
        """Where the trouble comes from, if several services have to do with it and the calls are known."""
        if len({r.series.service for r in reads}) < 2 or not (first or book.alert.metric):
            return []
        known = len(book.missing)
        span = {"start": times.iso(book.window.start), "end": times.iso(book.window.now)}
        answer = await book.ask("traces__dependencies", **span)
        del book.missing[known:]  # without a call graph there is only less to tell
        graph = CallGraph.of(answer.data) if answer else CallGraph(())
        begin = beginning(reads, trouble, first, book)
        return assign(reads, graph, book.alert, begin, book.window.quiet_end) if answer else []


def beginning(reads: list[Read], trouble: list[Moved], first: Moved | None, book: Casebook) -> datetime:
    """Since when it goes on: the alert's own change, else the first one, else shortly before the alert."""
    alert = book.alert
    fired = alert.fired or book.window.now
    step = timedelta(seconds=float(np.median([r.series.step for r in reads])))
    own = [m for m in trouble if m.bad and same_service(m.service, alert.service) and m.kind in PAIN]
    own = [m for m in own if m.shift.series.metric == alert.metric] or own
    began = min((m.onset for m in own), default=first.onset if first else fired - 2 * step)
    return max(min(began, fired - 2 * step), book.window.quiet_end)


def told_first(trouble: list[Moved], book: Casebook) -> list[Moved]:
    """In the order of telling: the alert's metric, then what users feel, then the rest."""

    def rank(m: Moved) -> tuple[bool, bool, bool, float]:
        own = m.shift.series.metric == book.alert.metric and same_service(m.service, book.alert.service)
        return (not own, not m.bad, m.kind not in PAIN, -m.size)

    chosen: list[Moved] = []
    seen: set[tuple[str, str]] = set()
    for m in sorted(trouble, key=rank):
        if m.kind != "expiry" and (m.service, m.kind) not in seen:
            seen.add((m.service, m.kind))
            chosen.append(m)
    return chosen


def symptom(m: Moved, book: Casebook) -> Claim:
    """What one change looks like to a person."""
    s = m.shift
    verb = "rose" if s.up else "fell"
    sure = 0.95 if s.score > 12 and len(s.series.t) >= 20 else 0.85 if s.score > 7 else 0.7
    times_word = f", {s.ratio:.0f} times" if 3 <= s.ratio < 900 else ""  # not from nothing
    over = f", and was back to normal at {times.clock(s.ended)}" if s.ended else ""
    return Claim(
        kind="symptom" if m.bad else "context",
        text=(
            f"{s.series.metric} of {m.service} {verb} at {times.clock(m.onset)}: {m.reading()}"
            f"{times_word} ({severity(m)}){over}."
        ),
        confidence=sure,
        evidence=m.words,
        component=m.service,
        at=m.onset,
    )


def severity(m: Moved) -> str:
    """How bad a change is, in one word."""
    if not m.bad:
        return "not a fault by itself"
    high = max(abs(m.shift.after), abs(m.shift.before))
    share = m.shift.after / 100 if high > 1.5 else m.shift.after
    if m.kind == "errors" and indicators.is_share(m.shift.series.metric, m.shift.series.unit, high):
        return "critical" if share >= 0.1 else "serious" if share >= 0.02 else "slight"
    return "critical" if m.shift.ratio >= 10 else "serious" if m.shift.ratio >= 2 else "slight"


def calm(trouble: list[Moved], still: list[tuple[Series, Evidence]], first: Moved | None) -> list[Claim]:
    """Services and resources that did not move, so that nobody needs to look there."""
    if not trouble:
        return []
    loud = {m.service for m in trouble if m.bad}
    claims: list[Claim] = []
    quiet: dict[str, list[tuple[Series, Evidence]]] = {}
    for series, words in still:
        quiet.setdefault(series.service, []).append((series, words))
    for service, items in sorted(quiet.items()):
        if service not in loud and any(indicators.kind(s.metric, s.unit) in PAIN for s, _ in items):
            names = ", ".join(sorted({s.metric for s, _ in items})[:4])
            claims.append(
                Claim(
                    kind="ruled_out",
                    text=f"{service} did not change: {names} stayed at the usual level.",
                    confidence=0.8,
                    evidence=tuple(e for _, e in items[:2]),
                    component=service,
                )
            )
    for resource in ("requests", "cpu", "memory", "disk", "connections"):
        moved = [m for m in trouble if m.kind == resource and (m.bad or resource == "requests")]
        same = [(s, e) for s, e in still if indicators.kind(s.metric, s.unit) == resource]
        if same and not moved:
            where = first.service if first and any(s.service == first.service for s, _ in same) else ""
            picked = [(s, e) for s, e in same if not where or s.service == where]
            owners = where or ", ".join(sorted({s.service for s, _ in picked})[:3])
            claims.append(
                Claim(
                    kind="ruled_out",
                    text=f"{CALM_WORDS[resource]}: {picked[0][0].metric} of {owners} did not move.",
                    confidence=0.75,
                    evidence=(picked[0][1],),
                    component=picked[0][0].service,
                )
            )
    return claims[:MOST_CALM]


def summary(
    trouble: list[Moved], still: list[tuple[Series, Evidence]], first: Moved | None, causes: list[Cause]
) -> str:
    """The finding in one or two sentences."""
    if not trouble and not still:
        return "No metrics could be read."
    if first is None:
        return f"None of {len(trouble) + len(still)} series got worse."
    services = len({m.service for m in trouble if m.bad})
    what = "" if causes[0].label == "service_degraded" else f" {causes[0].statement}"
    word = "service" if services == 1 else "services"
    return (
        f"{first.service} moved first: {first.shift.series.metric} {first.reading()} from "
        f"{times.clock(first.onset)}; {services} {word} got worse.{what}"
    )
