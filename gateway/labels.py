"""What a run has seen so far: the labels of the tools whose results it read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import orjson

from gateway.errors import LabelsGained
from gateway.ledger import OF_CASE, Ledger
from gateway.remembered import Remembered
from gateway.types import Subject
from gateway.writing import Connection, Writing, before, seconds

SEEN = """CREATE TABLE IF NOT EXISTS seen (
    scope TEXT NOT NULL, label TEXT NOT NULL, moment REAL NOT NULL, PRIMARY KEY (scope, label))"""
AGAIN = 3600.0  # after so long a label that does not last is told to other gateways again
DAY = 24 * 3600.0  # how long what is seen outside of any case counts


class Seen:
    """The labels one run has gathered; policies read them as `context.labels`."""

    __slots__ = ("__weakref__", "_labels", "_lasting", "told", "version")

    def __init__(self, lasting: float = 0.0) -> None:
        self._labels: dict[str, float] = {}  # label → when it was seen last
        self._lasting = lasting  # seconds; 0: as long as the case
        self.told: dict[str, float] = {}  # label → when other gateways were told of it
        self.version = -1  # of what all gateways have told each other, as far as it is in here

    def labels(self) -> frozenset[str]:
        """What counts now."""
        if not self._lasting:
            return frozenset(self._labels)
        return frozenset(label for label, moment in list(self._labels.items()) if self.counts(moment))

    def counts(self, moment: float) -> bool:
        """Whether what was seen at this moment counts still."""
        return not self._lasting or moment > time.time() - self._lasting

    def add(self, labels: Iterable[str], moment: float = 0.0) -> None:
        """A result with these labels is being released."""
        for label in labels:
            self._labels[label] = max(moment or time.time(), self._labels.get(label, 0.0))

    def untold(self, labels: Iterable[str]) -> list[str]:
        """Those of these labels that other gateways are to be told of."""
        since = time.time() - AGAIN if self._lasting else 0.0
        return [label for label in labels if self.told.get(label, -1.0) < since]


class Labels:
    """Gathers labels by run, else by case, else by subject; after a restart, from the ledger's outcomes.

    Gateways that share a database tell each other in a table, and read it where its version (kept with the
    head of the chain, which every transaction reads anyway) has changed since they last did.
    """

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

    async def prepare(self) -> None:
        """Create the table that is shared with other gateways."""
        await self._ledger.store.prepare(SEEN)

    def forget(self) -> None:
        """Read what runs have seen from the ledger again."""
        self._seen.forget()

    def check(self, subject: Subject, seen: Seen) -> Callable[[Writing], None]:
        """What finds, in the transaction of an intent, that the run has seen more at another gateway."""
        scope = scope_of(subject.run, subject.case, subject.id)

        def job(connection: Writing) -> None:
            if seen.version == connection.version:
                return
            rows = connection.execute("SELECT label, moment FROM seen WHERE scope = ?", (scope,)).fetchall()
            known = seen.labels()
            gained = {label: moment for label, moment in rows if label not in known and seen.counts(moment)}
            if gained:  # nothing is taken over yet: a transaction that fails may be tried again
                raise LabelsGained(f"{scope} has seen {', '.join(gained)} elsewhere", gained)
            seen.version = connection.version

        return job

    def tell(self, subject: Subject, seen: Seen, labels: Iterable[str]) -> Callable[[Writing], None] | None:
        """What tells other gateways, in the transaction of an outcome, of labels they may not know of."""
        fresh = seen.untold(labels)
        if not fresh:
            return None
        scope, moment = scope_of(subject.run, subject.case, subject.id), time.time()

        def job(connection: Writing) -> None:
            for label in fresh:
                connection.execute(
                    "INSERT INTO seen VALUES (?, ?, ?) "
                    "ON CONFLICT (scope, label) DO UPDATE SET moment = excluded.moment",
                    (scope, label, moment),
                )
            connection.news = True

        return job


def scope_of(run: str, case: str, subject: str) -> str:
    """What gathers labels together."""
    if run:
        return f"run {run} of {case}"
    return f"case {case}" if case else f"subject {subject}"


def _past(connection: Connection, subject: Subject) -> Seen:
    """What the ledger says a run has seen: all of it in its case, else the last day's."""
    seen = Seen(0.0 if subject.case else DAY)
    seen.version = connection.told()  # first, so that what is told meanwhile is looked at again
    of_case, values = (f"{OF_CASE} AND", [subject.case]) if subject.case else ("", [])
    first = 0 if subject.case else before(connection, time.time() - DAY)
    rows = connection.execute(
        f"SELECT time, record FROM records WHERE {of_case} seq > ? AND kind = 'outcome' AND record LIKE ?",
        (*values, first, '%"labels":[%'),
    ).fetchall()
    own = scope_of(subject.run, subject.case, subject.id)
    for moment, text in rows:
        record = orjson.loads(text)
        if scope_of(record.get("run", ""), record.get("case", ""), record["subject"]) == own:
            seen.add(record.get("labels", ()), seconds(moment))
    return seen
