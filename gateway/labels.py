"""What a run has seen so far: the labels of the tools whose results it read."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

import orjson

from gateway.ledger import Ledger
from gateway.remembered import Remembered
from gateway.types import Subject
from gateway.writing import Connection

DAY = 24 * 3600.0  # how long what is seen outside of any case counts


class Seen:
    """The labels one run has gathered; policies read them as `context.labels`."""

    __slots__ = ("__weakref__", "_labels", "_lasting")

    def __init__(self, lasting: float = 0.0) -> None:
        self._labels: dict[str, float] = {}  # label → when it was seen last
        self._lasting = lasting  # seconds; 0: as long as the case

    def labels(self) -> frozenset[str]:
        """What counts now."""
        if not self._lasting:
            return frozenset(self._labels)
        since = time.time() - self._lasting
        return frozenset(label for label, moment in self._labels.items() if moment > since)

    def add(self, labels: Iterable[str], moment: float = 0.0) -> None:
        """A result with these labels is being released."""
        for label in labels:
            self._labels[label] = max(moment or time.time(), self._labels.get(label, 0.0))


class Labels:
    """Gathers labels by run, else by case, else by subject; after a restart, from the ledger's outcomes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: Remembered[Seen] = Remembered()

    async def of(self, subject: Subject) -> Seen:
        """What the run of this subject has seen; hold on to it while a call of the run is under way."""
        return await self._seen.get(
            scope_of(subject.run, subject.case, subject.id), lambda: self._read(subject)
        )

    async def _read(self, subject: Subject) -> Seen:
        return await self._ledger.store.read(lambda connection: _past(connection, subject))


def scope_of(run: str, case: str, subject: str) -> str:
    """What gathers labels together."""
    if run:
        return f"run {run} of {case}"
    return f"case {case}" if case else f"subject {subject}"


def _past(connection: Connection, subject: Subject) -> Seen:
    """What the ledger says a run has seen: all of it in its case, else the last day's."""
    seen = Seen(0.0 if subject.case else DAY)
    of_case, values = ("case_id = ? AND", [subject.case]) if subject.case else ("", [])
    first = 0 if subject.case else before(connection, time.time() - DAY)
    rows = connection.execute(
        f"SELECT time, record FROM records WHERE {of_case} seq > ? AND kind = 'outcome' AND record LIKE ?",
        (*values, first, '%"labels":[%'),
    ).fetchall()
    own = scope_of(subject.run, subject.case, subject.id)
    for moment, text in rows:
        record = orjson.loads(text)
        if scope_of(record.get("run", ""), record.get("case", ""), record["subject"]) == own:
            seen.add(record.get("labels", ()), _seconds(moment))
    return seen


def before(connection: Connection, moment: float) -> int:
    """The last record before a moment, found by halving: numbers and times go up together."""
    low, high = 0, connection.execute("SELECT COALESCE(MAX(seq), 0) FROM records").fetchone()[0]
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute("SELECT time FROM records WHERE seq = ?", (middle,)).fetchone()
        if row is None or _seconds(row[0]) < moment:
            low = middle
        else:
            high = middle - 1
    return low


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone(UTC).timestamp()
