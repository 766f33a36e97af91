"""The index of cases (HOME/cases.db): which cases there are, their citations, and the numbers people use."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordinator.errors import CaseUnknown
from coordinator.types import Citation, Report, Trigger
from specialists.types import Value

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
SCHEMA = """
CREATE TABLE IF NOT EXISTS cases (
    id TEXT PRIMARY KEY, opened TEXT NOT NULL, updated TEXT NOT NULL, status TEXT NOT NULL,
    title TEXT NOT NULL, fingerprint TEXT NOT NULL, recording TEXT NOT NULL, outcome TEXT NOT NULL,
    summary TEXT NOT NULL, trigger TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS opened (key TEXT PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS citations (
    id TEXT NOT NULL, n INTEGER NOT NULL, citation TEXT NOT NULL, PRIMARY KEY (id, n)
);
"""


class CaseRow(Value):
    """One case as the index keeps it."""

    id: str
    opened: datetime
    updated: datetime
    status: str  # running, waiting, delivered, failed
    title: str
    fingerprint: str = ""
    recording: str = ""
    outcome: str = ""
    summary: str = ""


class CaseIndex:
    """Reads and writes HOME/cases.db; several processes may do so at once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._open() as db:
            db.executescript(SCHEMA)

    def open_case(self, trigger: Trigger) -> str:
        """A new case; its id."""
        with self._open() as db:
            return _insert(db, trigger)

    def open_once(self, trigger: Trigger, key: str) -> tuple[str, bool]:
        """The case of this key and whether it is new; one key opens one case, over processes and crashes."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if known := db.execute("SELECT id FROM opened WHERE key = ?", (key,)).fetchone():
                return known["id"], False
            id_ = _insert(db, trigger)
            db.execute("INSERT INTO opened VALUES (?,?)", (key, id_))
            db.execute("COMMIT")
        return id_, True

    def update(self, id_: str, status: str, report: Report | None = None) -> None:
        """What became of a case."""
        with self._open() as db:
            db.execute("UPDATE cases SET status = ?, updated = ? WHERE id = ?", (status, _now(), id_))
            if report is None:
                return
            summary = " ".join(s.text for s in report.summary[1:2])
            db.execute(
                "UPDATE cases SET outcome = ?, summary = ? WHERE id = ?", (report.outcome, summary, id_)
            )

    def retitle(self, id_: str, trigger: Trigger) -> None:
        """What opens a case whose run has not begun, now that more is known."""
        with self._open() as db:
            db.execute(
                "UPDATE cases SET title = ?, trigger = ? WHERE id = ?",
                (trigger.title, trigger.model_dump_json(), id_),
            )

    def get(self, id_: str) -> CaseRow:
        """One case by its id (upper or lower case); CaseUnknown when there is none."""
        with self._open() as db:
            row = db.execute("SELECT * FROM cases WHERE id = ?", (id_.upper(),)).fetchone()
        if row is None:
            known = ", ".join(c.id for c in self.list(3)) or "there are none yet"
            raise CaseUnknown(
                f"no case {id_!r} in {self.home}: the latest are {known}; see `pointsman cases list`"
            )
        return _row(row)

    def trigger(self, id_: str) -> Trigger:
        """What opened a case."""
        with self._open() as db:
            row = db.execute("SELECT trigger FROM cases WHERE id = ?", (id_,)).fetchone()
        return Trigger.model_validate_json(row["trigger"])

    def list(self, limit: int = 50) -> list[CaseRow]:
        """The latest cases."""
        with self._open() as db:
            rows = db.execute("SELECT * FROM cases ORDER BY opened DESC LIMIT ?", (limit,)).fetchall()
        return [_row(row) for row in rows]

    def report(self, id_: str) -> Report | None:
        """The latest report of a case, if one was delivered."""
        path = self.report_path(id_, "json")
        return Report.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None

    def report_path(self, id_: str, kind: str) -> Path:
        """Where a case's report is, as `md` or `json`."""
        return self.home / "cases" / id_ / f"report.{kind}"

    def citation(self, id_: str, n: int) -> Citation | None:
        """The citation [En] of a case: of its report, or of an answer given since."""
        with self._open() as db:
            row = db.execute("SELECT citation FROM citations WHERE id = ? AND n = ?", (id_, n)).fetchone()
        return Citation.model_validate_json(row["citation"]) if row else None

    def numbers(self, id_: str) -> dict[tuple[str, str], int]:
        """The numbers that the case's citations have, by call and words."""
        with self._open() as db:
            rows = db.execute("SELECT citation FROM citations WHERE id = ?", (id_,)).fetchall()
        known = (Citation.model_validate_json(row["citation"]) for row in rows)
        return {(c.call, c.quote): c.n for c in known}

    def keep_citations(self, id_: str, citations: Iterable[Citation]) -> None:
        """Keep the citations of a report under the numbers it gave them."""
        rows = [(id_, c.n, c.model_dump_json()) for c in citations]
        with self._open() as db:
            db.executemany("INSERT OR REPLACE INTO citations VALUES (?,?,?)", rows)

    def add_citations(self, id_: str, citations: list[Citation]) -> list[Citation]:
        """Number new citations after those the case has; one that it has keeps its number."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            rows = db.execute("SELECT citation FROM citations WHERE id = ? ORDER BY n", (id_,)).fetchall()
            known = {
                (c.call, c.quote): c for r in rows for c in [Citation.model_validate_json(r["citation"])]
            }
            last = max((c.n for c in known.values()), default=0)
            numbered = []
            for citation in citations:
                if (key := (citation.call, citation.quote)) not in known:
                    last += 1
                    known[key] = citation.model_copy(update={"n": last})
                    db.execute(
                        "INSERT INTO citations VALUES (?,?,?)", (id_, last, known[key].model_dump_json())
                    )
                numbered.append(known[key])
            db.commit()
        return numbered

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.home / "cases.db", timeout=10, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            yield db
        finally:
            db.close()


def _insert(db: sqlite3.Connection, trigger: Trigger) -> str:
    id_ = f"INC-{''.join(secrets.choice(ALPHABET) for _ in range(6))}"
    now = _now()
    row = (id_, now, now, "running", trigger.title, trigger.fingerprint, trigger.recording, "", "")
    db.execute("INSERT INTO cases VALUES (?,?,?,?,?,?,?,?,?,?)", (*row, trigger.model_dump_json()))
    return id_


def _row(row: Any) -> CaseRow:
    return CaseRow.model_validate({name: row[name] for name in CaseRow.model_fields})


def _now() -> str:
    return datetime.now(UTC).isoformat()
