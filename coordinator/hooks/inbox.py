"""What was delivered (HOME/inbox.db): every delivery as it came, every alert, and the case it belongs to."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from coordinator.hooks.types import Alert, Delivery
from specialists.types import Value

SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    n INTEGER PRIMARY KEY, source TEXT NOT NULL, key TEXT NOT NULL, received TEXT NOT NULL,
    note TEXT NOT NULL, cases TEXT NOT NULL, times INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (source, key)
);
CREATE TABLE IF NOT EXISTS alerts (
    case_id TEXT NOT NULL, fingerprint TEXT NOT NULL, status TEXT NOT NULL, first TEXT NOT NULL,
    last TEXT NOT NULL, times INTEGER NOT NULL, joined TEXT NOT NULL, told INTEGER NOT NULL,
    alert TEXT NOT NULL, PRIMARY KEY (case_id, fingerprint)
);
CREATE INDEX IF NOT EXISTS alerts_last ON alerts (last);
CREATE INDEX IF NOT EXISTS alerts_fingerprint ON alerts (fingerprint, status);
CREATE INDEX IF NOT EXISTS alerts_untold ON alerts (last) WHERE told = 0;
"""
Statement = tuple[str, Sequence[tuple[object, ...]]]  # and the values of each time it is run


class Member(Value):
    """An alert as a case holds it."""

    case: str
    alert: Alert
    status: str
    first: datetime
    last: datetime
    times: int
    joined: str  # why it belongs to this case


class Inbox:
    """Reads and writes the inbox; what is taken in is on the disk when the method returns.

    Whatever waits to be written is written together, since it is the flush that costs, and beside the loop.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db, self._writing = (self._connect(home / "inbox.db") for _ in range(2))
        self._db.executescript(SCHEMA)
        self._again: Counter[tuple[str, str]] = Counter()
        self._taking: dict[tuple[str, str], tuple[list[str], asyncio.Future[None]]] = {}
        self._waiting: list[tuple[list[Statement], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "inbox")  # its own: DBOS ends the loop's while we still write

    def _connect(self, file: Path) -> sqlite3.Connection:
        db = sqlite3.connect(file, timeout=10, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        return db

    async def aclose(self) -> None:
        """Write what waits, and let go of the file."""
        await self.count()
        if self._writer is not None:
            await self._writer
        self._thread.shutdown()
        for db in (self._db, self._writing):
            db.close()

    async def again(self, delivery: Delivery) -> list[str] | None:
        """The cases of a delivery that came before, which is counted; None when it is new."""
        which = (delivery.source, delivery.key)
        if which in self._taking:
            cases, written = self._taking[which]
            await asyncio.shield(written)
        else:
            row = self._db.execute(
                "SELECT cases FROM deliveries WHERE source = ? AND key = ?", which
            ).fetchone()
            if row is None:
                return None
            cases = json.loads(row[0])
        self._again[which] += 1
        return cases

    async def count(self) -> None:
        """Write how often deliveries came again: together, since a flood of them costs a flush each."""
        again, self._again = self._again, Counter()
        if again:
            counted = "UPDATE deliveries SET times = times + ? WHERE source = ? AND key = ?"
            await self._write([(counted, [(times, *which) for which, times in again.items()])])

    async def take(
        self, delivery: Delivery, raw: bytes, members: Iterable[tuple[str, Alert, str]]
    ) -> list[str]:
        """Keep a delivery as it came, with the case of each alert and why it belongs there; the cases."""
        now, placed, which = _now(), list(members), (delivery.source, delivery.key)
        cases = list(dict.fromkeys(case for case, _, _ in placed))
        kept: Statement = (
            "INSERT INTO deliveries (source, key, received, note, cases, times, body) "
            "VALUES (?, ?, ?, ?, ?, 1, ?)",
            [(*which, now, delivery.note, json.dumps(cases), raw)],
        )
        alerts: Statement = (
            "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, 1, ?, 0, ?) "
            "ON CONFLICT (case_id, fingerprint) DO UPDATE SET status = excluded.status, "
            "last = excluded.last, times = times + 1, told = told AND status = excluded.status",
            [(case, a.fingerprint, a.status, now, now, why, a.model_dump_json()) for case, a, why in placed],
        )
        written = self._write([kept, alerts])
        self._taking[which] = cases, written
        written.add_done_callback(lambda _: self._taking.pop(which))
        await asyncio.shield(written)
        return cases

    def _write(self, statements: list[Statement]) -> asyncio.Future[None]:
        """Have statements written, all or none; they are on the disk when the future is done."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        return written

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            failed = await self._tried([one for statements, _ in batch for one in statements])
            for statements, written in batch:
                wrong = failed
                if failed and len(batch) > 1:  # one that cannot be kept harms no other
                    wrong = await self._tried(statements)
                if not written.done():
                    written.set_exception(wrong) if wrong else written.set_result(None)

    async def _tried(self, statements: list[Statement]) -> Exception | None:
        """Write these, all or none; what is wrong with them, which whoever waits is told."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._flush, statements)
        except Exception as error:
            return error
        return None

    def _flush(self, statements: Iterable[Statement]) -> None:
        self._writing.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in statements:
                self._writing.executemany(sql, values)
        except BaseException:
            self._writing.execute("ROLLBACK")
            raise
        self._writing.execute("COMMIT")

    def members(self, case: str) -> list[Member]:
        """The alerts of a case, in the order they came."""
        return self._members("WHERE case_id = ? ORDER BY first, rowid", case)

    def since(self, moment: datetime) -> list[Member]:
        """Every alert heard of since a moment."""
        return self._members("WHERE last >= ? ORDER BY first, rowid", moment.isoformat())

    def holding(self, fingerprint: str) -> str:
        """The case in which this alert still fires; empty when there is none."""
        row = self._db.execute(
            "SELECT case_id FROM alerts WHERE fingerprint = ? AND status = 'firing' "
            "ORDER BY last DESC LIMIT 1",
            (fingerprint,),
        ).fetchone()
        return row[0] if row else ""

    def over(self, since: datetime) -> list[str]:
        """The cases heard of since a moment in which no alert fires any more."""
        rows = self._db.execute(
            "SELECT case_id FROM alerts WHERE case_id IN (SELECT case_id FROM alerts WHERE last >= ?) "
            "GROUP BY case_id HAVING SUM(status = 'firing') = 0",
            (since.isoformat(),),
        )
        return [case for (case,) in rows]

    def untold(self, most: int) -> list[Member]:
        """Alerts that came or changed and do not stand in the ledger yet, the oldest of them."""
        return self._members("WHERE told = 0 ORDER BY last, rowid LIMIT ?", most)

    async def tell(self, members: Iterable[Member]) -> None:
        """These stand in the ledger as they are here."""
        told = "UPDATE alerts SET told = 1 WHERE case_id = ? AND fingerprint = ? AND status = ?"
        await self._write([(told, [(m.case, m.alert.fingerprint, m.status) for m in members])])

    def fired(self, fingerprint: str, since: datetime) -> int:
        """In how many cases an alert has been since a moment: how usual it is."""
        row = self._db.execute(
            "SELECT COUNT(*) FROM alerts WHERE fingerprint = ? AND last >= ?",
            (fingerprint, since.isoformat()),
        ).fetchone()
        return row[0]

    def _members(self, where: str, *values: str | int) -> list[Member]:
        rows = self._db.execute(
            f"SELECT case_id, alert, status, first, last, times, joined FROM alerts {where}", values
        )
        return [
            Member(
                case=case,
                alert=Alert.model_validate_json(alert),
                status=status,
                first=datetime.fromisoformat(first),
                last=datetime.fromisoformat(last),
                times=times,
                joined=joined,
            )
            for case, alert, status, first, last, times, joined in rows
        ]


def _now() -> str:
    return datetime.now(UTC).isoformat()
