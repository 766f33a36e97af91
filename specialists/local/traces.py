"""Traces: which operation's own work changed, what only waits for it, and who above it feels it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from specialists.local import times
from specialists.local.casework import Casebook, backed, quote, quote_start, same_service
from specialists.local.graph import CallGraph
from specialists.local.mechanisms import mechanism, outside_hosts
from specialists.types import Card, Cause, Claim, Event, Evidence, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox, ToolResult

MOST_OPERATIONS, MOST_IMPACTS, MOST_CALM = 6, 4, 3
NEARER = timedelta(minutes=1)
LEAST_MS = 5.0  # changes of self time below this are nobody's trouble


@dataclass(frozen=True)
class Operation:
    """One operation of one service, in the incident and before."""

    raw: dict[str, Any]
    evidence: Evidence

    @property
    def service(self) -> str:
        return self.raw["service"]

    @property
    def name(self) -> str:
        return self.raw["name"]

    @property
    def calls(self) -> int:
        return self.raw["calls"]

    @property
    def known(self) -> bool:
        """Whether the quiet time before knows this operation."""
        return self.raw["baseline"]["calls"] > 0

    def now(self, figure: str) -> float:
        """A figure in the incident."""
        return float(self.raw[figure])

    def was(self, figure: str) -> float:
        """A figure in the quiet time before."""
        return float(self.raw["baseline"][figure])

    @property
    def failing(self) -> float:
        return self.now("errors") / max(1, self.calls)

    @property
    def failed_before(self) -> float:
        return self.was("errors") / max(1.0, self.was("calls"))

    @property
    def slower(self) -> float:
        """How many times longer it takes."""
        return self.now("p50_ms") / max(self.was("p50_ms"), 0.5) if self.known else 1.0

    @property
    def own_gain(self) -> float:
        """Milliseconds of its own work (not of what it calls) that were added."""
        return self.now("self_p50_ms") - self.was("self_p50_ms") if self.known else 0.0

    @property
    def own_changed(self) -> bool:
        ratio = self.now("self_p50_ms") / max(self.was("self_p50_ms"), 0.5)
        grown = self.now("p50_ms") - self.was("p50_ms")
        return self.known and self.own_gain >= max(LEAST_MS, 0.25 * grown) and ratio >= 1.5

    @property
    def fans_out(self) -> bool:
        """Whether each call makes many more calls than before."""
        before, after = self.was("children_per_call"), self.now("children_per_call")
        return self.known and after >= before + 1.5 and after >= 1.6 * max(before, 0.5)

    @property
    def worse(self) -> bool:
        return (
            self.failing >= self.failed_before + 0.05
            or self._slower("p50_ms", 1.5)
            or self._slower("p95_ms", 2.5)
        )

    def _slower(self, figure: str, ratio: float) -> bool:
        before, after = self.was(figure), self.now(figure)
        return self.known and after >= ratio * max(before, 0.5) and after - before >= LEAST_MS


class TracesSpecialist:
    """Compares operations with the quiet time and walks down to the one whose own work changed."""

    card = Card(
        name="traces",
        description="Self time against child time, failing edges, calls per request, blast radius.",
        tools=("traces__*",),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Read operations, edges and failing spans and report where the time or the error comes from."""
        book = Casebook(self.card.name, task, toolbox)
        window = book.window
        since = {"start": times.iso(window.surely), "end": times.iso(window.now)}
        before = {"baseline_start": times.iso(window.start), "baseline_end": times.iso(window.quiet_end)}
        compared = await book.ask("traces__operations", **since, **before, limit=200)
        if compared and not any(o["baseline"]["calls"] for o in compared.data.get("operations", ())):
            compared = await self._compare_nearer(book, compared)
        edges = await book.ask(
            "traces__dependencies", start=times.iso(window.start), end=times.iso(window.now)
        )
        failing = await book.ask(
            "traces__failing_spans",
            start=times.iso(window.quiet_end),
            end=times.iso(window.now),
            limit=100,
        )
        operations = read(compared) if compared else []
        graph = CallGraph.of(edges.data) if edges else CallGraph(())
        spans = list(failing.data.get("spans", ())) if failing else []
        origin = deepest_failure(spans, failing) if failing else None
        slow = culprit(operations, graph)
        broken = deepest_operation(operations, graph, origin)
        claims = [
            *[worsened(o) for o in sorted(operations, key=_weight) if o.worse][:MOST_OPERATIONS],
            *([origin.claim] if origin else []),
            *impacts(graph, edges, slow or broken, origin, operations),
            *waiting(operations, slow),
            *unchanged(operations),
        ]
        by_name = {(o.service, o.name): o for o in operations}
        many = slow if slow and not _retries(slow, by_name) else None
        causes = [c for c in (fanned_out(many), own_work(slow), failed_at(origin, broken)) if c]
        causes.sort(key=lambda c: -c.confidence)
        yield book.finding(summary(operations, causes), claims=backed(claims), causes=tuple(causes))

    async def _compare_nearer(self, book: Casebook, compared: ToolResult) -> ToolResult:
        """Where nothing is known from long before the alert, compare with what came shortly before it."""
        edge = book.window.surely - NEARER
        nearer = await book.ask(
            "traces__operations",
            start=times.iso(book.window.surely),
            end=times.iso(book.window.now),
            baseline_start=times.iso(book.window.start),
            baseline_end=times.iso(edge),
            limit=200,
        )
        return nearer or compared


def read(result: ToolResult) -> list[Operation]:
    """The operations with the lines that show them."""
    found: list[Operation] = []
    for raw in result.data.get("operations", ()):
        words = quote_start(result, f"{raw['service']} {raw['name']} ", width=300)
        if words is not None:
            found.append(Operation(raw, words))
    return found


def _weight(o: Operation) -> float:
    gain = max(0.0, o.now("p50_ms") - o.was("p50_ms")) if o.known else 0.0
    return -(1000.0 * max(0.0, o.failing - o.failed_before) + gain + 3 * max(0.0, o.own_gain))


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def worsened(o: Operation) -> Claim:
    """How one operation got worse."""
    parts: list[str] = []
    if o.failing >= o.failed_before + 0.05:
        before = f" (before in {o.was('errors'):.0f} of {o.was('calls'):.0f})" if o.known else ""
        parts.append(f"fails in {o.now('errors'):.0f} of {o.calls} calls{before}")
    if o.slower >= 1.5:
        own = (
            f", its own work {_ms(o.was('self_p50_ms'))} → {_ms(o.now('self_p50_ms'))}"
            if o.own_changed
            else ""
        )
        parts.append(f"takes {_ms(o.was('p50_ms'))} → {_ms(o.now('p50_ms'))}{own}")
    if o.fans_out:
        parts.append(
            f"makes {o.was('children_per_call'):.1f} → {o.now('children_per_call'):.1f} calls each time"
        )
    return Claim(
        kind="symptom",
        text=f"{o.service} {o.name} {' and '.join(parts)}.",
        confidence=0.9 if o.calls >= 20 else 0.7 if o.calls >= 3 else 0.5,
        evidence=(o.evidence,),
        component=o.service,
    )


def _grown(o: Operation) -> dict[str, Any] | None:
    """The operation that is called more often by each call than before."""
    before = {(c["service"], c["name"]): c["per_call"] for c in o.raw["baseline"].get("children") or []}
    children = o.raw.get("children") or []
    return max(
        children, key=lambda c: c["per_call"] - before.get((c["service"], c["name"]), 0.0), default=None
    )


def _retries(o: Operation, by_name: dict[tuple[str, str], Operation]) -> bool:
    """Whether the calls grew in number because they fail and are tried again."""
    grown = _grown(o)
    child = by_name.get((grown["service"], grown["name"])) if grown else None
    return child is not None and child.failing >= 0.3


def culprit(operations: list[Operation], graph: CallGraph) -> Operation | None:
    """The operation whose own work (or number of calls) grew most, the deepest of those that explain much."""
    by_name = {(o.service, o.name): o for o in operations}
    own = [o for o in operations if o.own_changed or (o.fans_out and not _retries(o, by_name))]
    if not own:
        return None

    def added(o: Operation) -> float:
        grown = max(0.0, o.now("p50_ms") - o.was("p50_ms"))
        return max(o.own_gain, grown if o.fans_out else 0.0)

    most = max(added(o) for o in own)
    strong = [o for o in own if added(o) >= 0.3 * most]
    fanning = [o for o in strong if o.fans_out]
    return max(fanning or strong, key=lambda o: (len(graph.above(o.service)), added(o)))


@dataclass(frozen=True)
class Origin:
    """The failing span below which nothing fails, as often as it occurs."""

    service: str
    name: str
    error: str
    count: int
    total: int
    claim: Claim


def deepest_failure(spans: list[dict[str, Any]], result: ToolResult) -> Origin | None:
    """Where errors begin: the service whose failing spans have no failing span below them."""
    parents = {(s["trace_id"], s["parent_id"]) for s in spans}
    leaves = [s for s in spans if (s["trace_id"], s["span_id"]) not in parents]
    if not leaves:
        return None
    counted = Counter((s["service"], s["name"]) for s in leaves)
    told = {(s["service"], s["name"]) for s in leaves if _error(s)}
    (service, name), count = max(counted.items(), key=lambda item: (item[0] in told, item[1]))
    chosen = max(
        (s for s in leaves if (s["service"], s["name"]) == (service, name)), key=lambda s: len(_error(s))
    )
    error = _error(chosen)
    words = quote(result, service, name, *([error[:60]] if error else []), width=300) or quote(
        result, service, name, width=300
    )
    says = f" with “{error[:140]}”" if error else ""
    since = min((w for s in leaves if (w := times.parse(s["start"]))), default=None)
    claim = Claim(
        kind="symptom",
        text=(
            f"Errors begin in {service} {name}{says}: nothing below it fails "
            f"({count} of {len(leaves)} failing traces)."
        ),
        confidence=0.85 if count >= 5 else 0.65,
        evidence=(words,) if words else (),
        component=service,
        at=since if count >= 5 else None,
    )
    return Origin(service, name, error, count, len(leaves), claim)


def _error(span: dict[str, Any]) -> str:
    attributes = span.get("attributes") or {}
    named = (str(v) for k, v in attributes.items() if "error" in k.lower() and "message" in k.lower())
    return str(span.get("error") or next(named, ""))


def deepest_operation(
    operations: list[Operation], graph: CallGraph, origin: Origin | None
) -> Operation | None:
    """The operation in which errors begin, or the deepest that fails more than before."""
    if origin:
        for o in operations:
            if (o.service, o.name) == (origin.service, origin.name):
                return o
    failing = [o for o in operations if o.failing >= o.failed_before + 0.05]
    return max(failing, key=lambda o: (len(graph.above(o.service)), o.failing), default=None)


def impacts(
    graph: CallGraph,
    edges: ToolResult | None,
    where: Operation | None,
    origin: Origin | None,
    operations: list[Operation],
) -> list[Claim]:
    """Who stands above the trouble, up to the entry of the system."""
    service = where.service if where else origin.service if origin else ""
    if not service or edges is None:
        return []
    claims: list[Claim] = []
    for caller in graph.above(service)[:MOST_IMPACTS]:
        between = _between(graph, caller, service)
        callee = between[1]
        words = quote_start(edges, f"{caller} -> {callee} ")
        felt = [o for o in operations if o.service == caller and o.worse]
        how = "feels it" if felt else "depends on it"
        path = " → ".join(between)
        claims.append(
            Claim(
                kind="impact",
                text=f"{caller} {how}: calls run {path}.",
                confidence=0.85 if felt else 0.6,
                evidence=(words, *(o.evidence for o in felt[:1])) if words else (),
                component=caller,
            )
        )
    return claims


def _between(graph: CallGraph, top: str, bottom: str) -> list[str]:
    """One way down from a caller to a service."""
    paths: list[list[str]] = [[top]]
    seen = {top}
    while paths:
        path = paths.pop(0)
        if path[-1] == bottom:
            return path
        for nxt in sorted(graph.callees.get(path[-1], set()) - seen):
            seen.add(nxt)
            paths.append([*path, nxt])
    return [top, bottom]


def waiting(operations: list[Operation], slow: Operation | None) -> list[Claim]:
    """Operations that are slow only because they wait for another."""
    if slow is None:
        return []
    still = [o for o in operations if o.known and o.slower >= 1.5 and not o.own_changed and not o.fans_out]
    return [
        Claim(
            kind="ruled_out",
            text=(
                f"{o.service} {o.name} only waits: it takes {_ms(o.was('p50_ms'))} → {_ms(o.now('p50_ms'))}, "
                f"but its own work stayed at {_ms(o.now('self_p50_ms'))}."
            ),
            confidence=0.8,
            evidence=(o.evidence,),
            component=o.service,
        )
        for o in sorted(still, key=_weight)
        if not same_service(o.service, slow.service)
    ][:MOST_CALM]


def unchanged(operations: list[Operation]) -> list[Claim]:
    """Services none of whose operations changed."""
    if not any(o.worse for o in operations):
        return []
    bad = {o.service for o in operations if o.worse}
    calm = {o.service: o for o in operations if o.known and o.calls >= 3 and o.service not in bad}
    return [
        Claim(
            kind="ruled_out",
            text=(
                f"{service} is as fast and as healthy as before "
                f"({o.name} {_ms(o.was('p50_ms'))} → {_ms(o.now('p50_ms'))})."
            ),
            confidence=0.75,
            evidence=(o.evidence,),
            component=service,
        )
        for service, o in sorted(calm.items())
    ][:MOST_CALM]


def fanned_out(o: Operation | None) -> Cause | None:
    """Many more calls for each request than before."""
    if o is None or not o.fans_out:
        return None
    grown = _grown(o)
    what = f" to {grown['service']} {grown['name']}" if grown else ""
    return Cause(
        category="code",
        object=f"service/{o.service}",
        label="calls_multiplied",
        statement=(
            f"{o.service} {o.name} makes {o.now('children_per_call'):.0f} calls{what} where it made "
            f"{o.was('children_per_call'):.0f}, "
            f"and takes {_ms(o.now('p50_ms'))} instead of {_ms(o.was('p50_ms'))}."
        ),
        confidence=0.65 if o.calls >= 10 else 0.45,
        evidence=(o.evidence,),
        remedy=f"Undo the change that multiplied the calls of {o.service}.",
    )


def own_work(o: Operation | None) -> Cause | None:
    """An operation that itself takes longer."""
    if o is None or not o.own_changed:
        return None
    return Cause(
        category="service",
        object=f"service/{o.service}",
        label="slow_operation",
        statement=(
            f"The time is lost in {o.service} {o.name} itself: its own work went from "
            f"{_ms(o.was('self_p50_ms'))} to {_ms(o.now('self_p50_ms'))}."
        ),
        confidence=0.5 if o.calls >= 10 else 0.35,
        evidence=(o.evidence,),
        remedy=f"Look at what changed in {o.service} and at what it waits for.",
    )


def failed_at(origin: Origin | None, o: Operation | None) -> Cause | None:
    """A service in which errors begin."""
    if origin is None or not origin.claim.evidence:
        return None
    found = mechanism(origin.error) if origin.error else None
    outside = outside_hosts(f"{origin.error} {origin.name}")
    if found and found.outside:
        label, category, statement = (
            found.label,
            found.category,
            found.statement.format(service=origin.service),
        )
    elif outside and (not found or found.category == "dependency"):
        label, category = "provider_outage", "dependency"
        statement = f"{outside[0]}, outside this system, fails the calls of {origin.service}"
    else:
        label, category = "failing_operation", "service"
        statement = f"Errors begin in {origin.service}"
    says = f": “{origin.error[:140]}”" if origin.error else ""
    return Cause(
        category=category,
        object=f"service/{origin.service}",
        label=label,
        statement=f"{statement} ({origin.name}){says}.",
        confidence=0.55 if origin.count >= 5 else 0.4,
        evidence=origin.claim.evidence,
        remedy=found.remedy
        if found
        else f"Look at {origin.service} first; what calls it only passes the error on.",
    )


def summary(operations: list[Operation], causes: list[Cause]) -> str:
    """The finding in one or two sentences."""
    worse = [o for o in operations if o.worse]
    if not operations:
        return "No traces could be read."
    if not worse and not causes:
        return f"None of {len(operations)} operations got slower or fails more often."
    said = f" {causes[0].statement}" if causes else ""
    return f"{len(worse)} of {len(operations)} operations got worse.{said}"
