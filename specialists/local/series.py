"""Series of numbers over time: where they changed, how much, and whether that is more than noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np

from specialists.local import times

ENOUGH = 8  # points below which nothing is said about a series
LONGEST = 360  # longer series are thinned to this many bins before the search


@dataclass(frozen=True)
class Series:
    """One metric of one service: Unix times and values, in order of time."""

    service: str
    metric: str
    unit: str
    t: np.ndarray
    v: np.ndarray

    @property
    def step(self) -> float:
        """The usual distance between two points, in seconds."""
        return float(np.median(np.diff(self.t))) if len(self.t) > 1 else 60.0


@dataclass(frozen=True)
class Shift:
    """A change of level: from what to what, since when, and how far beyond the noise."""

    series: Series
    before: float
    after: float
    extreme: float  # the furthest value of the changed part
    onset: datetime
    score: float  # distance from the usual level in units of the usual spread
    ended: datetime | None  # when it was back at the usual level

    @property
    def up(self) -> bool:
        return self.after > self.before

    @property
    def ratio(self) -> float:
        """How many times larger (or smaller) the level became, at least 1."""
        low, high = sorted((abs(self.before), abs(self.after)))
        return float(high / max(low, 1e-9, 0.001 * high))


def read(raw: dict) -> Series:
    """A series from one item of the answer of `query_range`; points without a number are left out."""
    points: list[tuple[float, float]] = []
    for moment, value in raw.get("points", ()):
        when = times.parse(moment)
        if when is None or value is None or not np.isfinite(float(value)):
            continue
        points.append((when.timestamp(), float(value)))
    points.sort()
    table = np.array(points, dtype=float).reshape(-1, 2)
    return Series(
        str(raw.get("service", "")),
        str(raw.get("metric", "")),
        str(raw.get("unit") or ""),
        table[:, 0],
        table[:, 1],
    )


def thin(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Times and values, as medians of equal bins when there are more than the search needs."""
    n = len(series.t)
    if n <= LONGEST:
        return series.t, series.v
    edges = np.linspace(0, n, LONGEST + 1).astype(int)
    pairs = list(pairwise(edges))
    return (
        np.array([series.t[a] for a, _ in pairs]),
        np.array([np.median(series.v[a:b]) for a, b in pairs]),
    )


def contrast(v: np.ndarray) -> tuple[int, int]:
    """The stretch [i, j) whose mean differs most from the rest, weighed by its length."""
    n = len(v)
    low, high = np.quantile(v, [0.01, 0.99])
    clipped = np.clip(v, low, high) if high > low else v
    total = np.concatenate([[0.0], np.cumsum(clipped - clipped.mean())])
    i, j = np.triu_indices(n + 1, k=2)
    keep = (i >= min(4, n // 4)) & (j - i >= 2) & (j - i <= n - 3)
    i, j = i[keep], j[keep]
    inside = (j - i).astype(float)
    strength = np.abs(total[j] - total[i]) / np.sqrt(inside * (n - inside) / n)
    best = int(np.argmax(strength))
    return int(i[best]), int(j[best])


def spread(v: np.ndarray) -> float:
    """The usual scatter of values: robust, and never zero for a constant."""
    middle = float(np.median(v))
    scatter = 1.4826 * float(np.median(np.abs(v - middle)))
    outer = float(np.quantile(v, 0.95) - np.quantile(v, 0.05)) / 3.3
    return max(scatter, outer, 0.01 * abs(middle), 1e-9)


def without(series: Series, shift: Shift) -> Series:
    """The series with a stretch that ended put back to the usual level, to see what else changed."""
    last = shift.ended.timestamp() if shift.ended else float("inf")
    inside = (series.t >= shift.onset.timestamp() - series.step) & (series.t <= last)
    return replace(series, v=np.where(inside, shift.before, series.v))


def detect(series: Series, least: float = 5.0) -> Shift | None:
    """The change of level of a series, or None when it stayed as it was."""
    if len(series.t) < ENOUGH or float(np.ptp(series.v)) == 0.0:
        return None
    t, v = thin(series)
    i, j = contrast(v)
    i, j = _trim(v, i, j)
    usual = v[:i]
    if len(usual) < 4 or j - i < 2:
        return None
    before, scatter = float(np.median(usual)), spread(usual)
    changed = v[i:j]
    after = float(np.median(changed))
    score = abs(after - before) / scatter
    low, high = np.quantile(usual, [0.02, 0.98])
    beyond = after > high + 0.2 * scatter or after < low - 0.2 * scatter
    if score < least or not beyond or _drifting(usual, after, before) or _passing(usual, j - i):
        return None
    extreme = float(changed.max() if after > before else changed.min())
    ended = times.at(t[j]) if j < len(v) else None
    return Shift(series, before, after, extreme, times.at(t[i]), score, ended)


def _trim(v: np.ndarray, i: int, j: int) -> tuple[int, int]:
    """Move the beginning to the first point that left the usual band for good."""
    usual = v[: max(i - 1, min(4, len(v)))]
    if len(usual) < 4 or j <= i:
        return i, j
    middle, scatter = float(np.median(usual)), spread(usual)
    sign = 1.0 if float(np.median(v[i:j])) > middle else -1.0
    out = sign * (v - middle) > 4.0 * scatter
    while i < j - 2 and not out[i]:
        i += 1
    while i > 4 and out[i - 1]:
        i -= 1
    return i, j


def _passing(usual: np.ndarray, length: int) -> bool:
    """Whether the usual part strays as far for about as long by itself: such spikes come and go."""
    out = np.abs(usual - np.median(usual)) > 4.0 * spread(usual)
    if not out.any():
        return False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], out.astype(int), [0]])))
    return length <= 2 * int((edges[1::2] - edges[::2]).max())


def _drifting(usual: np.ndarray, after: float, before: float) -> bool:
    """Whether the changed level is only where the steady drift of the usual part was going."""
    n = len(usual)
    if n < ENOUGH:
        return False
    third = n // 3
    slope = (float(np.median(usual[-third:])) - float(np.median(usual[:third]))) / (2 * third)
    rest = usual - slope * np.arange(n)
    if spread(usual) < 2.5 * spread(rest):
        return False
    expected = before + slope * n
    return abs(after - expected) < 0.5 * abs(after - before)
