"""Moved: the series that changed with an incident, what they measure, and which of them changed first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from specialists.local import indicators, times
from specialists.local.casework import Alert, Casebook, same_service
from specialists.local.indicators import FALLING, PAIN, STRAIN
from specialists.local.sampling import Read
from specialists.local.series import Series, Shift, detect, without
from specialists.types import Evidence

SMALL = 0.2  # a change this much smaller than the largest does not lead it
SPIKE = timedelta(seconds=60)  # what is shorter, or over before the alert, is not the incident


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
    def words(self) -> tuple[Evidence, ...]:
        """The figures and, where they are known, the points around the onset."""
        return (self.evidence, self.turn) if self.turn else (self.evidence,)

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


def lasting(series: Series, book: Casebook) -> Shift | None:
    """The change that was still going on when the alert fired; a spike that passed before is left out."""
    alarm = book.alert.fired or book.window.now
    for _ in range(3):
        shift = detect(series)
        if shift is None:
            return None
        until = shift.ended or times.at(float(series.t[-1]) + series.step)
        if until >= alarm - SPIKE and until - shift.onset >= (
            SPIKE if until <= alarm else min(SPIKE, until - alarm + SPIKE)
        ):
            return shift
        series = without(series, shift)
    return None


def examine(reads: list[Read], book: Casebook) -> tuple[list[Moved], list[tuple[Series, Evidence]]]:
    """The series that changed, and those that did not, each with the words of the result."""
    moved: list[Moved] = []
    still: list[tuple[Series, Evidence]] = []
    for one in reads:
        shift = lasting(one.series, book)
        if shift is None:
            still.append((one.series, one.figures))
        else:
            kind = indicators.kind(one.series.metric, one.series.unit)
            moved.append(Moved(shift, kind, one.figures, around(one, shift.onset)))
    return moved, still


def around(one: Read, onset: datetime) -> Evidence | None:
    """The points of a series just before and after a moment, as they stand in the result."""
    points = one.points
    stamp = times.iso(onset).removesuffix("Z")
    index = next((i for i, x in enumerate(points) if "=" in x and stamp.endswith(_stamp(x))), -1)
    if index < 0:
        return None
    return one.result.quote(" ".join(points[max(index - 2, 0) : index + 3]).strip())


def _overwhelming(bad: list[Moved], felt: list[Moved]) -> Moved | None:
    """A resource that ran short by more than anything users feel, and not after they felt it."""
    leader = max(bad, key=lambda m: m.size)
    slack = timedelta(seconds=max(15.0, 3 * leader.shift.series.step))
    strong = leader.kind in STRAIN and leader.size > max(m.size for m in felt)
    return leader if strong and leader.onset <= min(m.onset for m in felt) + slack else None


def _going_on(changed: list[Moved], alert: Alert) -> list[Moved]:
    """Without the changes that were over when the alert fired, where others went on."""
    if alert.fired is None:
        return changed
    fired = alert.fired
    left = [
        m
        for m in changed
        if m.shift.ended is None or m.shift.ended > fired + timedelta(seconds=2 * m.shift.series.step)
    ]
    return left or changed


def ahead(m: Moved, trouble: list[Moved]) -> float:
    """How far a change stands out from those of other services: 0 not at all, towards 1 far and wide."""
    rival = max((o.size for o in trouble if o.bad and not same_service(o.service, m.service)), default=0.0)
    return max(0.0, 1 - rival / m.size) if m.size > 0 else 0.0


def _stamp(point: str) -> str:
    return point.partition("=")[0].removesuffix("Z").partition(".")[0]


def first_moved(trouble: list[Moved], alert: Alert) -> Moved | None:
    """The change for the worse that came first; of several at once the alert's own, then the largest."""
    bad = _going_on([m for m in trouble if m.bad and m.kind not in {"expiry"}], alert)
    felt = [m for m in bad if m.kind in PAIN] or bad
    if not felt:
        return None
    if (leader := _overwhelming(bad, felt)) is not None:
        return leader
    most = max(m.size for m in felt)
    felt = [m for m in felt if m.size >= SMALL * most]
    start = min(m.onset for m in felt)
    slack = timedelta(seconds=max(15.0, 1.5 * max(m.shift.series.step for m in felt)))
    together = [m for m in felt if m.onset - start <= slack]
    step = max(m.shift.series.step for m in felt)
    strained = {s: min(m.onset for m in bad if m.service == s) for s in {m.service for m in together}}
    earliest = min(strained.values())

    def rank(m: Moved) -> tuple[bool, bool, bool, float]:
        before = (strained[m.service] - earliest).total_seconds() <= step
        own = same_service(m.service, alert.service)
        return before, own, own and m.shift.series.metric == alert.metric, m.size

    return max(together, key=rank)
