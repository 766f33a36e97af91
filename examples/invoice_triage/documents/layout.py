"""Pieces of text put together to segments and rows, as the eye does it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from documents.page import Run
from documents.values import flat

JOIN = 0.45  # of the print's size: a gap this small is a space within a sentence
SPACE = 0.1
SAME_ROW = 0.35


@dataclass(frozen=True, slots=True)
class Segment:
    """Words that belong together on a row, and the pieces they were drawn in."""

    text: str
    page: int
    x: float
    end: float
    y: float
    size: float
    bold: bool = False
    parts: tuple[Run, ...] = ()

    @property
    def middle(self) -> float:
        return (self.x + self.end) / 2


Row = list[Segment]


def rows(runs: Iterable[Run], page: int) -> list[Row]:
    """The rows of a page from top to bottom, each from left to right."""
    found: list[list[Run]] = []
    for run in sorted((piece for run in runs for piece in _pieces(run)), key=lambda run: (-run.y, run.x)):
        row = found[-1] if found else None
        if row and abs(row[0].y - run.y) <= SAME_ROW * max(row[0].size, run.size):
            row.append(run)
        else:
            found.append([run])
    return [_segments(sorted(row, key=lambda run: run.x), page) for row in found]


def _pieces(run: Run) -> list[Run]:
    """A run, cut where two spaces or more stand in it: those are columns."""
    text = run.text
    if not re.search(r"\S {2,}\S", text):
        stripped = text.strip()
        step = (run.end - run.x) / max(len(text), 1)
        lead, trail = len(text) - len(text.lstrip()), len(text) - len(text.rstrip())
        return [_cut(run, stripped, run.x + lead * step, run.end - trail * step)] if stripped else []
    step = (run.end - run.x) / len(text)
    return [
        _cut(run, found[0], run.x + found.start() * step, run.x + found.end() * step)
        for found in re.finditer(r"\S+(?: \S+)*", text)
    ]


def _cut(run: Run, text: str, x: float, end: float) -> Run:
    return Run(text, x, run.y, end, run.size, run.hidden, run.bold)


def _segments(runs: list[Run], page: int) -> Row:
    row: Row = []
    group: list[Run] = []
    for run in runs:
        if group and run.x - group[-1].end > JOIN * max(run.size, group[-1].size):
            row.append(_joined(group, page))
            group = []
        group.append(run)
    return [*row, _joined(group, page)] if group else row


def _joined(group: list[Run], page: int) -> Segment:
    text = group[0].text
    for before, run in itertools.pairwise(group):
        text += (" " if run.x - before.end > SPACE * run.size else "") + run.text
    first = group[0]
    end = max(run.end for run in group)
    bold = all(run.bold for run in group)
    return Segment(flat(text), page, first.x, end, first.y, first.size, bold, tuple(group))


def with_parts(segment: Segment) -> list[Segment]:
    """A segment, and after it the pieces it was drawn in: cells that touch are one for the eye."""
    pieces = [
        Segment(flat(run.text), segment.page, run.x, run.end, run.y, run.size, run.bold)
        for run in segment.parts
    ]
    return [segment, *pieces] if len(pieces) > 1 else [segment]


def beside(one: Segment, other: Segment) -> bool:
    """Whether one stands over the other: they share a left or right edge, a middle, or overlap by half."""
    near = 0.6 * max(one.size, other.size) + 3
    aligned = min(abs(one.x - other.x), abs(one.end - other.end), abs(one.middle - other.middle)) <= near
    overlap = min(one.end, other.end) - max(one.x, other.x)
    return aligned or overlap > 0.5 * min(one.end - one.x, other.end - other.x)
