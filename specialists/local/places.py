"""Places: in which service the trouble sits, where numbers show that better than why."""

from __future__ import annotations

from specialists.local import indicators, times
from specialists.local.blame import Blame
from specialists.local.moved import Moved, ahead, around
from specialists.types import Cause

MOST = 5
GRAPH_LEAST, GRAPH_MOST = 0.3, 0.8  # confidence of a place found along the calls: nothing of it, all of it
FIRST_LEAST, FIRST_MOST = 0.35, 0.6  # of a place that only stands out
OTHER = 0.3  # the places after the first
BELOW = 0.02  # how far a place stays behind a cause that says what is wrong there
KNOWN = 0.4  # confidence from which a cause says what is wrong


def places(
    trouble: list[Moved], blamed: list[Blame], first: Moved | None, causes: list[Cause]
) -> list[Cause]:
    """The services to look at, likeliest first: along the calls where they are known, else by size."""
    if blamed:
        return [_along_calls(n, b, causes) for n, b in enumerate(blamed[:MOST])]
    return _by_size(trouble, first, causes) if first else []


def _along_calls(n: int, b: Blame, causes: list[Cause]) -> Cause:
    e = b.excess
    series = e.read.series
    largest = max(abs(e.before), abs(e.after))
    was, now = (indicators.write(v, series.metric, series.unit, largest) for v in (e.before, e.after))
    shape = f"{series.metric} {was} → {now} from {times.clock(e.at)}"
    if n == 0:
        through = f", and {', '.join(b.above[:3])} only passes it on" if b.above else ""
        through = through.replace("passes", "pass") if len(b.above[:3]) > 1 else through
        sure = GRAPH_LEAST + (GRAPH_MOST - GRAPH_LEAST) * b.share
        said = (
            f"The trouble comes from {e.service}: {shape}, which nothing that it calls accounts for{through}."
        )
    else:
        sure = min(OTHER, GRAPH_MOST * b.share) if b.own > 0 else 0.1
        said = f"{e.service} is affected: {shape}."
    return Cause(
        category="service",
        object=f"service/{e.service}",
        label="service_degraded",
        statement=said,
        confidence=_behind(e.service, round(max(sure - 0.02 * n, 0.05), 3), causes),
        evidence=(e.read.figures, *([turn] if (turn := around(e.read, e.at)) else [])),
        at=e.at,
        remedy=f"Look into {e.service} first; what calls it only waits or passes errors on."
        if n == 0
        else "",
    )


def _by_size(trouble: list[Moved], first: Moved, causes: list[Cause]) -> list[Cause]:
    """The service that moved first, then those whose changes are largest."""
    named = [c.object.partition("/")[2] for c in causes]
    best: dict[str, Moved] = {first.service: first}
    for m in sorted((m for m in trouble if m.bad), key=lambda m: -m.size):
        best.setdefault(m.service, m)
    found: list[Cause] = []
    for n, (service, m) in enumerate(list(best.items())[:MOST]):
        sure = FIRST_LEAST + (FIRST_MOST - FIRST_LEAST) * ahead(m, trouble) if n == 0 else OTHER - 0.03 * n
        if n and service in named:
            continue
        found.append(_standing(m, trouble, n == 0, _behind(service, round(sure, 3), causes)))
    return found


def _standing(m: Moved, trouble: list[Moved], first: bool, sure: float) -> Cause:
    followers = sorted({o.service for o in trouble if o.bad and o.onset >= m.onset} - {m.service})
    after = f" before {', '.join(followers[:4])}" if followers else ""
    said = f"{m.service} degraded first{after}" if first else f"{m.service} is affected"
    return Cause(
        category="service",
        object=f"service/{m.service}",
        label="service_degraded",
        statement=f"{said}: {m.shift.series.metric} {m.reading()} from {times.clock(m.onset)}.",
        confidence=sure,
        evidence=m.words,
        at=m.onset,
    )


def _behind(service: str, sure: float, causes: list[Cause]) -> float:
    """A place stays behind a cause that says what is wrong in the same service."""
    known = [c.confidence for c in causes if c.object == f"service/{service}" and c.confidence >= KNOWN]
    return max(0.05, min(sure, max(known) - BELOW)) if known else sure
