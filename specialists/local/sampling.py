"""Sampling: which series are read, since when and in which steps, so that few answers hold enough."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from specialists.local import indicators, times
from specialists.local.casework import Casebook
from specialists.local.indicators import PAIN
from specialists.local.series import Series, read
from specialists.types import Evidence

if TYPE_CHECKING:
    from specialists.toolbox import ToolResult

PAGES = 3  # answers that are read after the first look
PAGE_POINTS = 6500  # that one answer of the metrics server surely holds
MOST = 500  # series in one answer
QUIET = 40  # points of quiet time from which on a usual level can be told
DEEP = 96  # points of quiet time that are asked for where the usual look-back holds too few
FEW = 100  # points a series below which it is better to read fewer series
LONGEST = timedelta(days=2)
QUOTED = 260  # characters of a line of figures

STATISTIC = re.compile(r"[_.-]?(avg|average|mean|median|max|min|sum|p\d{1,4}|q?\d{2,3}(th)?)$", re.I)
PREFERRED = re.compile(r"(avg|average|mean)$|(p|_)95(th)?$|(p|_)99(th)?$|(p|_)90(th)?$", re.I)


@dataclass(frozen=True)
class Read:
    """A series, the answer it came with, and the line there that holds its figures."""

    series: Series
    result: ToolResult
    lines: list[str]  # of the answer's text, shared by all its series
    line: int  # of the figures; the points stand in the next

    @property
    def figures(self) -> Evidence:
        """The figures, as they stand in the answer."""
        return self.result.quote(self.lines[self.line][:QUOTED].strip())

    @property
    def points(self) -> list[str]:
        """The points as they are written in the answer."""
        return self.lines[self.line + 1].split(" ")


def taken(result: ToolResult) -> list[Read]:
    """The series of an answer with their lines, in the order of both."""
    lines = result.text.splitlines()
    heads = [n - 1 for n, line in enumerate(lines) if line.startswith("  points: ")]
    found = [read(raw) for raw in result.data.get("series", ())]
    return [
        Read(series, result, lines, head)
        for series, head in zip(found, heads, strict=False)
        if lines[head].startswith(f"{series.service} {series.metric}")
    ]


async def sample(book: Casebook) -> list[Read]:
    """The series around the alert: as recorded where they fit, else fewer of a kind or in longer steps."""
    start, end = book.window.start, book.window.now
    result = await book.ask("metrics__query_range", start=times.iso(start), end=times.iso(end), limit=MOST)
    first = taken(result) if result else []
    if result is None or not first:
        return []
    whole = not result.data.get("next_cursor")
    if _shallow(first, book):
        start = _deeper(first, book)
    elif whole:
        return first
    else:
        start = max(start, times.at(min(float(r.series.t[0]) for r in first)))
    asked: dict[str, Any] = {"start": times.iso(start), "end": times.iso(end)}
    total, length = _total(result.text, len(first)), _length(first, start, end)
    if _points(total) < min(FEW, length):
        names = await _names(book, first, whole)
        if chosen := fewer(names, book.alert.metric):
            asked["metrics"] = chosen
            total = max(1, sum(names.get(name, 0) for name in chosen))
    if (step := _step(first, length, total)) > 0:
        asked["step_seconds"] = step
    return await _pages(book, asked) or first


async def _pages(book: Casebook, asked: dict[str, Any]) -> list[Read]:
    found: list[Read] = []
    cursor = ""
    for _ in range(PAGES):
        result = await book.ask("metrics__query_range", **asked, limit=MOST, cursor=cursor)
        if result is None:
            return found
        found += taken(result)
        cursor = result.data.get("next_cursor") or ""
        if not cursor:
            return found
    book.missing.append("metrics: there are more series than were read")
    return found


async def _names(book: Casebook, first: list[Read], whole: bool) -> dict[str, int]:
    """How many services have each metric."""
    counted: dict[str, int] = defaultdict(int)
    listed = None if whole else await book.ask("metrics__list_metrics", limit=MOST)
    named = listed.data.get("metrics", ()) if listed else ()
    for name in [one["metric"] for one in named] or [r.series.metric for r in first]:
        counted[name] += 1
    return counted


def fewer(names: dict[str, int], wanted: str) -> list[str]:
    """Of several statistics of one quantity one, and what users feel before the rest; none if all stay."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[STATISTIC.sub("", name).lower()].append(name)
    one_each = [min(group, key=lambda name: _preference(name, wanted)) for group in groups.values()]
    needed = [name for name in one_each if indicators.kind(name) in PAIN | {"requests", "expiry"}]
    room = PAGES * PAGE_POINTS / FEW
    chosen = one_each if sum(names[n] for n in one_each) <= room else needed or one_each
    return sorted(chosen)[:100] if len(chosen) < len(names) else []


def _preference(name: str, wanted: str) -> tuple[bool, bool, str]:
    return name != wanted, PREFERRED.search(name) is None, name


def _shallow(found: list[Read], book: Casebook) -> bool:
    """Whether the usual look-back holds too few points of quiet time to tell a usual level by."""
    edge = book.window.quiet_end.timestamp()
    begin = book.window.start.timestamp()
    longest = max(found, key=lambda r: len(r.series.t)).series
    reaches = bool(len(longest.t)) and longest.t[0] <= begin + 2 * longest.step  # there may be more before
    return reaches and int((longest.t < edge).sum()) < QUIET and longest.step < LONGEST.total_seconds()


def _deeper(found: list[Read], book: Casebook) -> datetime:
    step = float(np.median([r.series.step for r in found if len(r.series.t) > 1] or [60.0]))
    return book.window.quiet_end - min(LONGEST, timedelta(seconds=DEEP * step))


def _total(text: str, least: int) -> int:
    many = re.match(r"(\d+) series", text)
    return max(least, int(many[1]) if many else least)


def _points(total: int) -> float:
    """How many points each of so many series may have."""
    return PAGES * PAGE_POINTS / max(total, 1)


def _length(found: list[Read], start: datetime, end: datetime) -> float:
    """How many points a series has from a moment to another, at its own step."""
    own = min((r.series.step for r in found if len(r.series.t) > 1), default=15.0)
    return (end - start).total_seconds() / max(own, 1e-3)


def _step(found: list[Read], length: float, total: int) -> float:
    """The step at which the answers hold all series, a multiple of their own; 0 = as recorded."""
    own = min((r.series.step for r in found if len(r.series.t) > 1), default=15.0)
    times_longer = int(np.ceil(length / max(30.0, _points(total))))
    return own * times_longer if times_longer > 1 else 0.0
