"""Metrics: which service moved first, which indicators moved with it, and which stayed as they were."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from specialists.local import indicators, times
from specialists.local.casework import Alert, Casebook, backed, quote, same_service
from specialists.local.indicators import FALLING, PAIN, STRAIN
from specialists.local.series import Series, Shift, detect, read, without
from specialists.types import Card, Cause, Claim, Event, Evidence, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox, ToolResult

MOST_SYMPTOMS = 10
MOST_CALM = 5
CALM_WORDS = {
    "requests": "Traffic is as usual",
    "cpu": "CPU is not short",
    "memory": "Memory is not short",
    "disk": "Disk is not short",
    "connections": "Connections are not short",
}
SPIKE = timedelta(seconds=60)  # what is shorter, or over before the alert, is not the incident
PAGES = 2
PAGE_POINTS = 6000  # that one answer of the metrics server holds


@dataclass(frozen=True)
class Moved:
    """A series that changed, what it measures, and whether the change is for the worse."""

    shift: Shift
    kind: indicators.Kind
    evidence: Evidence  # the series' figures
    turn: Evidence | None = None  # its points around the onset

    @property
    def service(self) -> str:
        return self.shift.series.service

    @property
    def onset(self) -> datetime:
        return self.shift.onset

    @property
    def bad(self) -> bool:
        if self.kind in FALLING:
            return not self.shift.up
        return self.shift.up and self.kind in PAIN | STRAIN

    @property
    def size(self) -> float:
        """How telling the change is: users feel errors more than latency, and latency more than strain."""
        weight = 3.0 if self.kind in {"errors", "success"} else 2.0 if self.kind == "latency" else 1.0
        return weight * float(np.log1p(self.shift.ratio)) * min(1.0, self.shift.score / 10)

    def reading(self) -> str:
        """ "0.2 % → 31 %" with the unit of the metric."""
        s = self.shift
        largest = max(abs(s.before), abs(s.after), abs(s.extreme))
        before, after = (
            indicators.write(v, s.series.metric, s.series.unit, largest) for v in (s.before, s.after)
        )
        return f"{before} → {after}"


class MetricsSpecialist:
    """Compares every series with its own quiet time and says what moved, when and how far."""

    card = Card(
        name="metrics",
        description="Change points in metrics: what moved first, how far, and what did not move.",
        tools=("metrics__*",),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Read the series around the alert and report what changed."""
        book = Casebook(self.card.name, task, toolbox)
        pages = await self._read(book)
        trouble, still = examine(pages, book)
        first = first_moved(trouble, book.alert)
        claims = [
            *(symptom(m, book) for m in told_first(trouble, book)[:MOST_SYMPTOMS]),
            *calm(trouble, still, first),
        ]
        causes = sorted(explain(trouble, pages, first, book), key=lambda c: -c.confidence)
        yield book.finding(
            summary(trouble, still, first, causes), claims=backed(claims), causes=tuple(causes)
        )

    async def _read(self, book: Casebook) -> list[tuple[Series, ToolResult]]:
        """All series of the window; as recorded when they fit into one answer, else in longer steps."""
        asked = {"start": times.iso(book.window.start), "end": times.iso(book.window.now)}
        result = await book.ask("metrics__query_range", **asked)
        if result is None:
            return []
        found = [(read(raw), result) for raw in result.data.get("series", ())]
        if not result.data.get("next_cursor"):
            return found
        step, cursor, found = _longer_step(found, result.text), "", []
        for _ in range(PAGES):
            result = await book.ask("metrics__query_range", **asked, step_seconds=step, cursor=cursor)
            if result is None:
                break
            found += [(read(raw), result) for raw in result.data.get("series", ())]
            cursor = result.data.get("next_cursor") or ""
            if not cursor:
                return found
        book.missing.append("metrics: there are more series than were read")
        return found


def _longer_step(found: list[tuple[Series, ToolResult]], text: str) -> float:
    """A step at which the remaining pages hold all the series; a multiple of the recorded one."""
    many = re.match(r"(\d+) series", text)
    total = int(many[1]) if many else 4 * len(found)
    span = max((float(s.t[-1] - s.t[0]) for s, _ in found if len(s.t)), default=3600.0)
    own = min((s.step for s, _ in found if len(s.t) > 1), default=15.0)
    points = max(30.0, PAGES * PAGE_POINTS * 0.9 / max(total, 1))
    return float(own * max(1, int(np.ceil(span / own / points))))


def lasting(series: Series, book: Casebook) -> Shift | None:
    """The change that was still going on when the alert fired; a spike that passed before is left out."""
    alarm = book.alert.fired or book.window.now
    for _ in range(3):
        shift = detect(series)
        if shift is None:
            return None
        until = shift.ended or times.at(float(series.t[-1]) + series.step)
        if until >= alarm - SPIKE and until - shift.onset >= min(SPIKE, until - alarm + SPIKE):
            return shift
        series = without(series, shift)
    return None


def examine(
    pages: list[tuple[Series, ToolResult]], book: Casebook
) -> tuple[list[Moved], list[tuple[Series, Evidence]]]:
    """The series that changed, and those that did not, each with the words of the result."""
    moved: list[Moved] = []
    still: list[tuple[Series, Evidence]] = []
    for series, result in pages:
        words = quote(result, f"{series.service} {series.metric}", "max=", width=240)
        if words is None:
            continue
        shift = lasting(series, book)
        if shift is None:
            still.append((series, words))
        else:
            turn = around(result, series, shift.onset)
            moved.append(Moved(shift, indicators.kind(series.metric, series.unit), words, turn))
    return moved, still


def around(result: ToolResult, series: Series, onset: datetime) -> Evidence | None:
    """The points of a series just before and after a moment, as they stand in the result."""
    lines = result.text.splitlines()
    at = next((i for i, x in enumerate(lines) if x.startswith(f"{series.service} {series.metric} ")), -1)
    points = lines[at + 1].split(" ") if 0 <= at < len(lines) - 1 else []
    stamp = times.iso(onset).removesuffix("Z")
    index = next((i for i, x in enumerate(points) if "=" in x and stamp.endswith(_stamp(x))), -1)
    if index < 0:
        return None
    return result.quote(" ".join(points[max(index - 2, 0) : index + 3]).strip())


def _stamp(point: str) -> str:
    return point.partition("=")[0].removesuffix("Z").partition(".")[0]


def first_moved(trouble: list[Moved], alert: Alert) -> Moved | None:
    """The change for the worse that came first; of several at once the alert's own, then the largest."""
    bad = [m for m in trouble if m.bad and m.kind not in {"expiry"}]
    felt = [m for m in bad if m.kind in PAIN] or bad
    if not felt:
        return None
    start = min(m.onset for m in felt)
    slack = timedelta(seconds=max(15.0, 1.5 * max(m.shift.series.step for m in felt)))
    together = [m for m in felt if m.onset - start <= slack]
    step = max(m.shift.series.step for m in felt)
    strained = {s: min(m.onset for m in bad if m.service == s) for s in {m.service for m in together}}
    earliest = min(strained.values())

    def rank(m: Moved) -> tuple[bool, bool, bool, float]:
        before = (strained[m.service] - earliest).total_seconds() <= 0.5 * step
        own = same_service(m.service, alert.service)
        return before, own, own and m.shift.series.metric == alert.metric, m.size

    return max(together, key=rank)


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
        evidence=(m.evidence, *([m.turn] if m.turn else [])),
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


def explain(
    trouble: list[Moved], pages: list[tuple[Series, ToolResult]], first: Moved | None, book: Casebook
) -> list[Cause]:
    """Causes that numbers alone can show, and the service to look at when they cannot."""
    if first is None:
        return []
    found = [surge(trouble, first), expiry(pages, first), exhausted(trouble, first), resolver(trouble, first)]
    found += [provider(trouble, first), multiplied(trouble, first)]
    found.append(degraded(trouble, first))
    return [c for c in found if c is not None]


def surge(trouble: list[Moved], first: Moved) -> Cause | None:
    """More demand than usual everywhere, before or with the trouble."""
    slack = timedelta(seconds=3 * first.shift.series.step)
    traffic = [m for m in trouble if m.kind == "requests" and m.shift.up and m.shift.ratio >= 1.4]
    early = [m for m in traffic if m.onset <= first.onset + slack]
    services = {m.service for m in trouble if m.bad}
    if not early or not any(m.service == first.service for m in early):
        return None
    ratios = [m.shift.ratio for m in early]
    everywhere = len({m.service for m in early}) >= max(1, len(services) // 2)
    even = max(ratios) <= 2.5 * min(ratios)
    top = next(m for m in early if m.service == first.service)
    sure = 0.75 if everywhere and even and len(early) >= 2 else 0.5
    strained = [m for m in trouble if m.kind in {"cpu", "queue", "saturation", "connections"} and m.bad]
    names = ", ".join(sorted({m.service for m in early}))
    return Cause(
        category="saturation",
        object=f"service/{first.service}",
        label="traffic_surge",
        statement=(
            f"Demand rose {top.shift.ratio:.1f} times at {times.clock(top.onset)} on {names} "
            f"and is more than {first.service} has capacity for ({top.reading()})."
        ),
        confidence=min(0.9, sure + (0.1 if strained else 0.0)),
        evidence=tuple(m.evidence for m in (early[:2] + strained[:2])),
        at=top.onset,
        remedy=f"Add capacity: scale out {first.service} and what it calls, or shed load until demand falls.",
    )


def expiry(pages: list[tuple[Series, ToolResult]], first: Moved) -> Cause | None:
    """A countdown that reached zero when the trouble began."""
    for series, result in pages:
        if indicators.kind(series.metric, series.unit) != "expiry" or len(series.v) < 3:
            continue
        crossed = np.flatnonzero((series.v[:-1] > 0) & (series.v[1:] <= 0))
        if not len(crossed):
            continue
        when = times.at(float(series.t[crossed[0] + 1]))
        if abs((when - first.onset).total_seconds()) > 600 + 2 * series.step:
            continue
        words = quote(result, series.service, series.metric)
        if words is None:
            continue
        certificate = any(w in series.metric.lower() for w in ("cert", "tls", "ssl", "x509"))
        what = "certificate" if certificate else "credential or lease"
        return Cause(
            category="expiry",
            object=f"service/{series.service}",
            label="certificate_expired" if certificate else "credential_expired",
            statement=(
                f"The {what} of {series.service} ran out at {times.clock(when)} ({series.metric} reached 0), "
                f"the moment {first.service} began to fail."
            ),
            confidence=0.85,
            evidence=(words, first.evidence),
            at=when,
            remedy=f"Renew the {what} of {series.service} and reload what uses it; no rollback helps.",
        )
    return None


def exhausted(trouble: list[Moved], first: Moved) -> Cause | None:
    """A resource of the first service (or of one below it) that filled up before users felt it."""
    slack = timedelta(seconds=3 * first.shift.series.step)
    names: dict[str, tuple[str, str]] = {
        "disk": ("disk_full", "free space or stop what fills the disk"),
        "memory": ("memory_exhausted", "restart to win time, and look for what holds the memory"),
        "connections": ("pool_exhausted", "look for what holds connections, then raise the limit"),
        "queue": ("queue_backlog", "find the slow consumer or add consumers"),
        "cpu": ("cpu_saturated", "find the expensive work or add capacity"),
        "saturation": ("workers_saturated", "find what holds the workers or add capacity"),
    }
    full = [m for m in trouble if m.kind in names and m.bad and m.onset <= first.onset + slack]
    if not full:
        return None
    order = list(names)
    best = min(full, key=lambda m: (not same_service(m.service, first.service), order.index(m.kind), m.onset))
    label, remedy = names[best.kind]
    return Cause(
        category="saturation",
        object=f"service/{best.service}",
        label=label,
        statement=(
            f"{best.service} ran short of {indicators.WORDS[best.kind]}: {best.shift.series.metric} "
            f"{best.reading()} from {times.clock(best.onset)}."
        ),
        confidence=0.45,
        evidence=(best.evidence, first.evidence) if best is not first else (best.evidence,),
        at=best.onset,
        remedy=remedy[0].upper() + remedy[1:] + ".",
    )


def resolver(trouble: list[Moved], first: Moved) -> Cause | None:
    """Name resolution that failed when several services did."""
    dns = [m for m in trouble if m.bad and _named(m, ("dns", "resolver", "servfail", "nxdomain"))]
    if not dns:
        return None
    others = {m.service for m in trouble if m.bad and m.kind in PAIN} - {m.service for m in dns}
    best = max(dns, key=lambda m: m.size)
    return Cause(
        category="infrastructure",
        object=f"service/{best.service}",
        label="dns_failure",
        statement=(
            f"Name resolution failed from {times.clock(best.onset)} ({best.shift.series.metric} of "
            f"{best.service} {best.reading()}) and {len(others)} services that depend on it failed with it."
        ),
        confidence=0.8 if len(others) >= 2 else 0.65,
        evidence=(*(m.evidence for m in dns[:2]), first.evidence),
        at=best.onset,
        remedy="Restore the resolver or point to a second one; escalate to whoever runs DNS.",
    )


def provider(trouble: list[Moved], first: Moved) -> Cause | None:
    """An indicator of a provider outside this system that went bad with the service that calls it."""
    outside = [
        m for m in trouble if m.bad and m.kind in PAIN and _named(m, ("provider", "third_party", "external"))
    ]
    if not outside:
        return None
    best = max(outside, key=lambda m: m.size)
    return Cause(
        category="dependency",
        object=f"service/{best.service}",
        label="provider_outage",
        statement=(
            f"The provider that {best.service} calls went bad at {times.clock(best.onset)} "
            f"({best.shift.series.metric} {best.reading()})."
        ),
        confidence=0.65,
        evidence=(best.evidence,),
        at=best.onset,
        remedy="Fail over to a second provider or degrade gracefully; escalate to the provider.",
    )


def multiplied(trouble: list[Moved], first: Moved) -> Cause | None:
    """Each request makes more queries or calls than it did."""
    slack = timedelta(seconds=3 * first.shift.series.step)
    more = [m for m in trouble if m.kind == "calls" and m.shift.up and m.onset <= first.onset + slack]
    if not more:
        return None
    best = max(more, key=lambda m: (same_service(m.service, first.service), m.shift.ratio))
    return Cause(
        category="code",
        object=f"service/{best.service}",
        label="calls_multiplied",
        statement=(
            f"{best.service} makes more calls for each request: {best.shift.series.metric} {best.reading()} "
            f"from {times.clock(best.onset)}."
        ),
        confidence=0.6,
        evidence=(best.evidence, *([best.turn] if best.turn else [])),
        at=best.onset,
        remedy=f"Undo the change that multiplied the calls of {best.service}.",
    )


def _named(m: Moved, words: tuple[str, ...]) -> bool:
    name = f"{m.service} {m.shift.series.metric}".lower()
    return any(w in name for w in words)


def degraded(trouble: list[Moved], first: Moved) -> Cause:
    """The service that moved first: where to look, when numbers cannot say why."""
    followers = sorted({m.service for m in trouble if m.bad and m.onset >= first.onset} - {first.service})
    after = f" before {', '.join(followers[:4])}" if followers else ""
    return Cause(
        category="service",
        object=f"service/{first.service}",
        label="service_degraded",
        statement=(
            f"{first.service} degraded first{after}: {first.shift.series.metric} {first.reading()} "
            f"from {times.clock(first.onset)}."
        ),
        confidence=0.35,
        evidence=(first.evidence,),
        at=first.onset,
    )


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
