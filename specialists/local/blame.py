"""Blame: where, in a graph of calls, the time is lost or the errors begin.

Seconds waited and calls failed are counted: what a service shows is its own and that of those it calls, so
what is left after taking theirs away is its own. A service deep in the graph with much of its own is where
the trouble comes from; the services above it only pass it on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from specialists.local import indicators, times
from specialists.local.casework import Alert, same_service
from specialists.local.graph import CallGraph
from specialists.local.sampling import Read
from specialists.local.series import Series, spread

Family = Literal["latency", "errors"]
CLEAR = 3.0  # how far beyond the usual scatter an excess counts
LEAST = 8  # points of quiet time without which nothing is said
SURELY = 30.0  # from here on an excess counts in full where calls are not counted
HARDLY = 0.1  # of an excess that may all be passed on from below
WORST = 3  # the worst points of the incident are its measure


@dataclass(frozen=True)
class Excess:
    """What one service shows more than usual, in seconds waited or calls failed for each step."""

    service: str
    read: Read
    amount: float
    score: float  # distance from the usual in units of the usual scatter
    before: float  # the indicator's usual level
    after: float  # and its worst
    at: datetime  # when it was first clearly beyond
    weighed: bool  # by counts of calls

    @property
    def clear(self) -> bool:
        return self.score >= CLEAR and self.amount > 0


@dataclass(frozen=True)
class Blame:
    """A service with what is its own, after what it passes on is taken away."""

    excess: Excess
    own: float
    share: float  # of all that is anybody's own
    above: tuple[str, ...]  # the services that pass it on, nearest first


def assign(
    reads: list[Read], graph: CallGraph, alert: Alert, begin: datetime, quiet: datetime
) -> list[Blame]:
    """The services where the trouble may come from, likeliest first; none where numbers do not tell."""
    named = next((s for s in graph.services if same_service(s, alert.service)), "")
    kinds = {f: _found(reads, f, alert.metric, begin, quiet) for f in families(alert)}
    found = max(kinds.values(), key=lambda some: _loudness(some, named))
    if not any(service in graph.services for service, e in found.items() if e.clear):
        return []
    within = {named, *graph.below(named)} if named else graph.services
    clear = {s: e for s, e in found.items() if e.clear and s in within}
    clear = clear or {s: e for s, e in found.items() if e.clear}
    own = {s: _own(s, clear, graph) for s in clear}
    total = sum(value for value in own.values() if value > 0) or 1.0
    ranked = sorted(clear, key=lambda s: (-own[s], -clear[s].score, s))
    return [
        Blame(clear[s], own[s], max(0.0, own[s]) / total, tuple(a for a in graph.above(s) if a in clear))
        for s in ranked
    ]


def families(alert: Alert) -> tuple[Family, ...]:
    """What users suffer from: what the alert is about; both where it does not say."""
    kind = indicators.kind(alert.metric) if alert.metric else "other"
    if kind in {"errors", "success"}:
        return ("errors",)
    return ("latency",) if kind == "latency" else ("errors", "latency")


def _found(
    reads: list[Read], family: Family, metric: str, begin: datetime, quiet: datetime
) -> dict[str, Excess]:
    return {e.service: e for e in excesses(reads, family, metric, begin.timestamp(), quiet.timestamp())}


def _loudness(found: dict[str, Excess], named: str) -> tuple[bool, float]:
    """How clear an excess is, where the alert points or, if nothing is clear there, anywhere."""
    near = found.get(named)
    if near is not None and near.clear:
        return True, near.score
    return False, max((e.score for e in found.values()), default=0.0)


def _own(service: str, clear: dict[str, Excess], graph: CallGraph) -> float:
    """What of an excess is a service's own; where calls are not counted, little if those below show any."""
    excess = clear[service]
    left = excess.amount - passed_on(service, clear, graph)
    if excess.weighed:
        return left
    certain = excess.amount * min(1.0, excess.score / SURELY)
    below = any(callee in clear for callee in graph.callees.get(service, set()))
    return min(left, HARDLY * certain) if below else certain


def passed_on(service: str, clear: dict[str, Excess], graph: CallGraph) -> float:
    """The part of an excess that the services below account for."""
    return sum(
        clear[callee].amount * graph.share(service, callee)
        for callee in graph.callees.get(service, set())
        if callee in clear
    )


def excesses(reads: list[Read], family: Family, metric: str, begin: float, quiet: float) -> Iterable[Excess]:
    """What every service shows more than usual of one family of indicators."""
    by_service: dict[str, list[Read]] = {}
    for one in reads:
        by_service.setdefault(one.series.service, []).append(one)
    counts = {s: found for s, some in by_service.items() if (found := _traffic(some)) is not None}
    weighed = len(counts) >= 0.5 * len(by_service)  # seconds can only be added where calls are counted
    for service, some in sorted(by_service.items()):
        one = _indicator(some, family, metric)
        if one is None or (weighed and service not in counts):
            continue
        if (found := _excess(one, counts[service] if weighed else None, begin, quiet)) is not None:
            yield found


def _traffic(some: list[Read]) -> Read | None:
    found = [r for r in some if indicators.kind(r.series.metric, r.series.unit) == "requests"]
    return max(found, key=lambda r: (float(np.median(r.series.v)), r.series.metric), default=None)


def _indicator(some: list[Read], family: Family, metric: str) -> Read | None:
    """The indicator of the family: the alert's own metric, else the one named most like a mean."""
    wanted = {"latency"} if family == "latency" else {"errors", "success"}
    found = [r for r in some if indicators.kind(r.series.metric, r.series.unit) in wanted]
    return min(found, key=lambda r: _order(r.series, metric), default=None)


def _order(series: Series, wanted: str) -> tuple[bool, bool, bool, str]:
    """The alert's own metric, then a share of all calls, then a mean."""
    name = series.metric
    share = indicators.is_share(name, series.unit, float(np.max(np.abs(series.v))))
    mean = any(word in name.lower() for word in ("avg", "average", "mean", "p50"))
    return name != wanted, not share, not mean, name


def _excess(one: Read, traffic: Read | None, begin: float, quiet: float) -> Excess | None:
    t, v = one.series.t, one.series.v
    usual = t < quiet if int((t < quiet).sum()) >= LEAST else t < begin
    during = t >= begin
    if int(usual.sum()) < LEAST or not during.any():
        return None
    before = float(np.median(v[usual]))
    kind = indicators.kind(one.series.metric, one.series.unit)
    worse = (before - v if kind == "success" else v - before) * _weight(one, traffic)
    level, scatter = _usually(worse[usual], int(during.sum()))
    scatter = max(scatter, 0.02 * float(np.max(np.abs(worse))))
    worst = np.argsort(worse[during])[::-1][:WORST]
    amount = float(np.mean(worse[during][worst])) - level
    beyond = np.flatnonzero(during & (worse - level > CLEAR * scatter))
    first = float(t[beyond[0]]) if len(beyond) else begin
    after = float(np.mean(v[during][worst]))
    return Excess(
        one.series.service, one, amount, amount / scatter, before, after, times.at(first), traffic is not None
    )


def _usually(values: np.ndarray, length: int) -> tuple[float, float]:
    """How bad the worst points of so long a stretch usually are, and how much that scatters."""
    length = max(WORST, min(length, len(values) // 2))
    stretches = np.lib.stride_tricks.sliding_window_view(values, length)
    worst = np.sort(stretches, axis=1)[:, -WORST:].mean(axis=1)
    middle = float(np.median(worst))
    return middle, max(spread(values), float(np.quantile(worst, 0.95)) - middle)


def _weight(one: Read, traffic: Read | None) -> np.ndarray | float:
    """How many calls each point stands for; a count of errors already is one."""
    share = indicators.is_share(one.series.metric, one.series.unit, float(np.max(np.abs(one.series.v))))
    percent = one.series.unit in {"%", "percent"} or float(np.max(np.abs(one.series.v))) > 1.5
    kind = indicators.kind(one.series.metric, one.series.unit)
    if traffic is None or (kind == "errors" and not share and one.series.unit not in {"%", "percent"}):
        return 1.0
    calls = np.interp(one.series.t, traffic.series.t, traffic.series.v)
    return calls / 100 if kind != "latency" and percent else calls
