"""What was delivered (HOME/inbox.db): every delivery as it came, every alert, and the case it belongs to."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
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
"""


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
    """Reads and writes the inbox; what is taken in is on the disk when the method returns."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(home / "inbox.db", timeout=10, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)
        self._again: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        """Let go of the file."""
        self.count()
        self._db.close()

    def again(self, delivery: Delivery) -> list[str] | None:
        """The cases of a delivery that came before, which is counted; None when it is new."""
        row = self._db.execute(
            "SELECT cases FROM deliveries WHERE source = ? AND key = ?", (delivery.source, delivery.key)
        ).fetchone()
        if row is None:
            return None
        self._again[delivery.source, delivery.key] += 1
        return json.loads(row[0])

    def count(self) -> None:
        """Write how often deliveries came again: together, since a flood of them costs a flush each."""
        again, self._again = self._again, Counter()
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "UPDATE deliveries SET times = times + ? WHERE source = ? AND key = ?",
            [(times, *which) for which, times in again.items()],
        )
        self._db.execute("COMMIT")

    def take(self, delivery: Delivery, raw: bytes, members: Iterable[tuple[str, Alert, str]]) -> list[str]:
        """Keep a delivery as it came, with the case of each alert and why it belongs there; the cases."""
        now, placed = _now(), list(members)
        cases = list(dict.fromkeys(case for case, _, _ in placed))
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(
                "INSERT INTO deliveries (source, key, received, note, cases, times, body) "
                "VALUES (?, ?, ?, ?, ?, 1, ?)",
                (delivery.source, delivery.key, now, delivery.note, json.dumps(cases), raw),
            )
            self._db.executemany(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, 1, ?, 0, ?) "
                "ON CONFLICT (case_id, fingerprint) DO UPDATE SET status = excluded.status, "
                "last = excluded.last, times = times + 1, told = told AND status = excluded.status",
                [
                    (case, a.fingerprint, a.status, now, now, why, a.model_dump_json())
                    for case, a, why in placed
                ],
            )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return cases

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
            "SELECT case_id FROM alerts GROUP BY case_id "
            "HAVING SUM(status = 'firing') = 0 AND MAX(last) >= ?",
            (since.isoformat(),),
        )
        return [case for (case,) in rows]

    def untold(self) -> list[Member]:
        """Alerts that came or changed and do not stand in the ledger yet."""
        return self._members("WHERE told = 0 ORDER BY last, rowid")

    def tell(self, members: Iterable[Member]) -> None:
        """These stand in the ledger as they are here."""
        self._db.executemany(
            "UPDATE alerts SET told = 1 WHERE case_id = ? AND fingerprint = ? AND status = ?",
            [(m.case, m.alert.fingerprint, m.status) for m in members],
        )

    def fired(self, fingerprint: str, since: datetime) -> int:
        """In how many cases an alert has been since a moment: how usual it is."""
        row = self._db.execute(
            "SELECT COUNT(*) FROM alerts WHERE fingerprint = ? AND last >= ?",
            (fingerprint, since.isoformat()),
        ).fetchone()
        return row[0]

    def _members(self, where: str, *values: str) -> list[Member]:
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
