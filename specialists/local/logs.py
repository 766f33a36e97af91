"""Logs: error texts that are new or far more frequent than before, whom they blame, and what is noise."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from specialists.local import times
from specialists.local.casework import SOON, Casebook, Window, backed, mentions, quote, same_service, short
from specialists.local.mechanisms import Mechanism, hosts, mechanism, outside_hosts
from specialists.types import Card, Cause, Claim, Event, Evidence, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox, ToolResult

LOUD = {"WARN", "WARNING", "ERROR", "FATAL", "CRITICAL", "PANIC"}
TROUBLED = re.compile(
    r"error|fail|exception|panic|refus|timeout|timed out|unavailable|reject|denied|unable|cannot"
    r"|could not|exhaust"
    r"|expired|invalid|retry|overload|saturat|degraded|lost|killed|full|traceback|slow query",
    re.I,
)
NAMED_BY_INFRASTRUCTURE = re.compile(r"dns|resolver|node|ingress|proxy|mesh|etcd|kube", re.I)
STARTED = re.compile(
    r"\b(start(ed|ing)|restart|reload|deploy|version|feature flag|enabled|disabled|migrat|scal)", re.I
)
MOST_NEW, MOST_NOISE = 8, 3
SURELY_SEEN = 6.0  # expected sightings that did not happen


@dataclass(frozen=True)
class Pattern:
    """One template of one service, counted in the incident and in the quiet time before."""

    service: str
    severity: str
    template: str
    example: str
    count: int
    usual: float  # the baseline's count, brought to the length of the incident's window
    baseline: int
    first: datetime | None
    emerged: bool  # whether it was not there for so long that it would have been seen
    evidence: Evidence

    @property
    def loud(self) -> bool:
        return self.severity in LOUD or (self.severity != "DEBUG" and bool(TROUBLED.search(self.template)))

    @property
    def new(self) -> bool:
        return self.loud and self.count >= 1 and ((self.usual < 0.5 and self.baseline <= 1) or self.emerged)

    @property
    def more(self) -> bool:
        return self.loud and not self.new and self.count >= 5 and self.count >= 3 * max(self.usual, 1.0)

    @property
    def noise(self) -> bool:
        return (
            self.loud
            and self.baseline >= 2
            and self.count >= 2
            and 0.4 <= self.count / max(self.usual, 0.1) <= 2.5
        )

    @property
    def text(self) -> str:
        return self.example or self.template


class LogsSpecialist:
    """Counts log messages by pattern before and during the incident and reads what changed."""

    card = Card(
        name="logs",
        description="Log patterns that are new or far more frequent than before, and whom they blame.",
        tools=("logs__*",),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Compare the patterns with the quiet time and report the ones that tell something."""
        book = Casebook(self.card.name, task, toolbox)
        window = book.window = Window.of(task, book.alert, SOON)
        result = await self._patterns(book, window.quiet_end)
        if result and not any(p["baseline_count"] for p in result.data.get("patterns", ())):
            window = book.window = replace(window, quiet_end=max(window.surely, window.quiet_end))
            result = await self._patterns(book, window.quiet_end)
        if result is None:
            yield book.finding("The logs could not be read.")
            return
        long = window.now - window.quiet_end
        listed = list(result.data.get("patterns", ()))
        known = min((t for raw in listed if (t := times.parse(raw["first_seen"]))), default=window.start)
        known = max(known, window.start)
        scale = long.total_seconds() / max(1.0, (window.quiet_end - known).total_seconds())
        patterns = [p for raw in listed if (p := read(raw, result, scale, known, window.now))]
        telling = sorted((p for p in patterns if p.new or p.more), key=_order)
        services = {p.service for p in patterns} | set(task.scope.services)
        first = first_failing(telling, services, book.alert.service)
        detail = await self._detail(book, first) if first else None
        telling.sort(key=lambda p: p is not first)
        claims = [
            *(told(p) for p in telling[:MOST_NEW]),
            *blames(telling, services),
            *([detail] if detail else []),
            *[noisy(p) for p in patterns if p.noise and p not in telling][:MOST_NOISE],
            *marks(patterns),
        ]
        causes = sorted(explain(telling, services, first), key=lambda c: -c.confidence)
        yield book.finding(
            summary(telling, patterns, first, causes), claims=backed(claims), causes=tuple(causes[:4])
        )

    async def _patterns(self, book: Casebook, edge: datetime) -> ToolResult | None:
        """The patterns since a moment against those before it."""
        return await book.ask(
            "logs__patterns",
            start=times.iso(edge),
            end=times.iso(book.window.now),
            baseline_start=times.iso(book.window.start),
            baseline_end=times.iso(edge),
            limit=200,
        )

    async def _detail(self, book: Casebook, first: Pattern) -> Claim | None:
        """One whole line of the first error: its attributes often name the place in the code."""
        words = _longest_words(first.template)
        result = await book.ask(
            "logs__search",
            text=words,
            service=first.service,
            start=times.iso(book.window.quiet_end),
            end=times.iso(book.window.now),
            limit=3,
        )
        lines = result.data.get("lines", ()) if result else ()
        if not result or not lines:
            return None
        extra = {k: v for k, v in lines[0].items() if k not in KNOWN and v not in (None, "")}
        if not extra:
            return None
        named = ", ".join(f"{k} {v}" for k, v in list(extra.items())[:3])
        words_found = quote(result, *(str(v) for v in list(extra.values())[:1]), width=300)
        return Claim(
            kind="context",
            text=f"The first error of {first.service} carries {named[:200]}.",
            confidence=0.8,
            evidence=(words_found,) if words_found else (),
            component=first.service,
            at=times.parse(lines[0].get("timestamp")),
        )


KNOWN = {"timestamp", "service", "severity", "message", "trace_id", "span_id", "request_id", "logger"}


def emerged(raw: dict[str, Any], known: datetime, now: datetime) -> bool:
    """Whether at its present rate it would surely have been seen earlier, had it been there."""
    first = times.parse(raw["first_seen"])
    many = raw["count"] + raw["baseline_count"]
    if first is None or many < 4:
        return False
    since = max((now - first).total_seconds(), 60.0)
    return (first - known).total_seconds() * many / since >= SURELY_SEEN


def read(
    raw: dict[str, Any], result: ToolResult, scale: float, known: datetime, now: datetime
) -> Pattern | None:
    """A pattern with the line of the result that shows it."""
    counted = f"{raw['count']} {raw['baseline_count']} {raw['severity']} {raw['service']}"
    template = str(raw["template"]).replace("\n", "\\n")
    words = quote(result, f"{counted} {template[:60]}", width=260) or quote(result, counted, width=260)
    if words is None:
        return None
    return Pattern(
        service=raw["service"],
        severity=str(raw["severity"]).upper(),
        template=str(raw["template"]),
        example=str(raw.get("example") or ""),
        count=int(raw["count"]),
        usual=raw["baseline_count"] * scale,
        baseline=int(raw["baseline_count"]),
        first=times.parse(raw.get("first_seen")),
        emerged=emerged(raw, known, now),
        evidence=words,
    )


def _order(p: Pattern) -> tuple[bool, bool, float]:
    specific = mechanism(p.text) is not None
    return (p.severity not in LOUD, not specific, -float(p.count))


def _longest_words(template: str) -> str:
    """The longest stretch of a template without placeholders, to search for."""
    parts = re.split(r"<[^>]*>|\{[^}]*\}|\d+|\*", template)
    return max((p.strip(" :,.=()[]'\"") for p in parts), key=len, default="")[:120]


def told(p: Pattern) -> Claim:
    """What one changed pattern says."""
    shown = p.text if len(p.text) <= 160 else p.text[:157] + "…"
    how = "new" if p.new else f"{p.count / max(p.usual, 0.5):.0f} times more frequent than before"
    since = p.first if p.new else None
    return Claim(
        kind="symptom",
        text=f"{p.service} logs {p.severity} “{shown}” ({p.count} lines, {how})"
        + (f" since {times.clock(since)}." if since else "."),
        confidence=0.85 if p.count >= 3 else 0.65,
        evidence=(p.evidence,),
        component=p.service,
        at=since,
    )


def noisy(p: Pattern) -> Claim:
    """An error that was there before and did not change."""
    return Claim(
        kind="ruled_out",
        text=(
            f"“{p.text[:120]}” of {p.service} is noise: {p.count} lines now against {p.usual:.0f} expected "
            "from the quiet time before."
        ),
        confidence=0.8,
        evidence=(p.evidence,),
        component=p.service,
    )


def marks(patterns: list[Pattern]) -> list[Claim]:
    """Quiet lines that say something was started, switched or reloaded."""
    said = [p for p in patterns if not p.loud and p.count and p.baseline <= 1 and STARTED.search(p.text)]
    return [
        Claim(
            kind="context",
            text=f"{p.service} logged “{p.text[:120]}” at {times.clock(p.first)}.",
            confidence=0.7,
            evidence=(p.evidence,),
            component=p.service,
            at=p.first,
        )
        for p in said[:3]
    ]


def blamed(p: Pattern, services: set[str]) -> list[str]:
    """Other services that an error text names as the ones that failed."""
    return sorted(s for s in services if not same_service(s, p.service) and mentions(p.text, s))


def blames(telling: list[Pattern], services: set[str]) -> list[Claim]:
    """Errors that point at another component."""
    claims: list[Claim] = []
    seen: set[tuple[str, str]] = set()
    for p in telling:
        for other in blamed(p, services) + [h for h in outside_hosts(p.text)]:
            if (p.service, other) in seen:
                continue
            seen.add((p.service, other))
            claims.append(
                Claim(
                    kind="context",
                    text=f"The errors of {p.service} name {other}.",
                    confidence=0.75,
                    evidence=(p.evidence,),
                    component=other,
                    at=p.first,
                )
            )
    return claims[:5]


def first_failing(telling: list[Pattern], services: set[str], alerted: str) -> Pattern | None:
    """The error nearest to the cause: of a service that blames nobody, early, saying what is wrong."""
    if not telling:
        return None
    accused = {b for p in telling for b in blamed(p, services)}

    def rank(p: Pattern) -> tuple[float, float]:
        points = 0.0
        found = mechanism(p.text)
        points += 2.0 * (found.sure if found else 0.0)
        points += 1.0 if not blamed(p, services) else -0.5
        points += 0.6 if any(same_service(p.service, a) for a in accused) else 0.0
        points += 0.4 if same_service(p.service, alerted) else 0.0
        points += 0.3 if p.severity in {"ERROR", "FATAL", "CRITICAL"} else 0.0
        points += 0.2 if p.count >= 5 else 0.0
        return (-points, p.first.timestamp() if p.first else 0.0)

    return min(telling, key=rank)


def explain(telling: list[Pattern], services: set[str], first: Pattern | None) -> list[Cause]:
    """Causes that error texts name themselves."""
    if first is None:
        return []
    groups: dict[str, tuple[Mechanism, list[Pattern]]] = {}
    for p in telling:
        found = mechanism(p.text)
        if found:
            groups.setdefault(found.label, (found, []))[1].append(p)
    causes = [cause for found, ps in groups.values() if (cause := _cause(found, ps, first))]
    outside = _provider(telling, services)
    if outside and not any(c.label in {"dns_failure", "certificate_expired"} for c in causes):
        causes.append(outside)
    return causes


def _cause(found: Mechanism, patterns: list[Pattern], first: Pattern) -> Cause | None:
    top = first if first in patterns else max(patterns, key=lambda p: (p.severity in LOUD, p.count))
    affected = sorted({p.service for p in patterns})
    sure = found.sure * (0.8 if found is not mechanism(first.text) else 1.0)
    if found.label == "dns_failure":
        wide = len(affected) >= 2 and len({h for p in patterns for h in hosts(p.text)}) >= 2
        sure = 0.85 if wide else 0.6
    where = next((s for s in affected if NAMED_BY_INFRASTRUCTURE.search(s)), top.service)
    if found.category != "infrastructure":
        where = top.service
    also = [s for s in affected if s != top.service]
    more = f", also {', '.join(also[:3])}" if also else ""
    since = min((p.first for p in patterns if p.first), default=None)
    return Cause(
        category=found.category,
        object=f"service/{where}",
        label=found.label,
        statement=(
            f"{found.statement.format(service=top.service)}{more}: "
            f"“{top.text[:140]}” since {times.clock(since)}."
        ),
        confidence=round(sure, 2),
        evidence=tuple(p.evidence for p in patterns[:4]),
        at=since,
        remedy=found.remedy,
    )


def _provider(telling: list[Pattern], services: set[str]) -> Cause | None:
    """A host outside this system that answers with errors or not at all."""
    failing: dict[str, list[Pattern]] = {}
    for p in telling:
        if not re.search(
            r"\b5\d\d\b|\b429\b|timeout|timed out|deadline|unavailable|refused|reset|outage", p.text, re.I
        ):
            continue
        for host in outside_hosts(p.text):
            if not any(short(s) and short(s) in host.split(".")[:1] for s in services):
                failing.setdefault(host, []).append(p)
    if not failing:
        return None
    host, patterns = max(failing.items(), key=lambda item: sum(p.count for p in item[1]))
    top = max(patterns, key=lambda p: p.count)
    since = min((p.first for p in patterns if p.first), default=None)
    server_side = any(re.search(r"\b50[0-4]\b|unavailable|outage", p.text, re.I) for p in patterns)
    return Cause(
        category="dependency",
        object=f"service/{top.service}",
        label="provider_outage",
        statement=(
            f"{host}, a provider outside this system, fails the calls of {top.service} "
            f"since {times.clock(since)}: "
            f"“{top.text[:120]}”."
        ),
        confidence=0.75 if server_side else 0.55,
        evidence=tuple(p.evidence for p in patterns[:3]),
        at=since,
        remedy=f"Fail over from {host} to a second provider, or degrade without it; escalate to them.",
    )


def summary(
    telling: list[Pattern], patterns: list[Pattern], first: Pattern | None, causes: list[Cause]
) -> str:
    """The finding in one or two sentences."""
    if first is None:
        return f"No error is new or more frequent among {len(patterns)} log patterns."
    where = (
        f"{len(telling)} error patterns are new or more frequent"
        if len(telling) > 1
        else "One error pattern is new"
    )
    says = f" {causes[0].statement}" if causes else f" The first is “{first.text[:120]}” of {first.service}."
    return f"{where}.{says}"
