"""The index of cases: which there are, how far each is, their citations, and the numbers people use.

It is kept in HOME/cases.db, or in the PostgreSQL database that `[coordinator] database` names.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from coordinator.database import Database, marks, open_database
from coordinator.errors import CaseUnknown
from coordinator.settings import CoordinatorSettings, home
from coordinator.types import Citation, Report, Trigger
from specialists.types import Value

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
ENDED = ("delivered", "closed", "failed", "cancelled")
SCHEMA = """
CREATE TABLE IF NOT EXISTS cases (
    id TEXT PRIMARY KEY, opened TEXT NOT NULL, updated TEXT NOT NULL, status TEXT NOT NULL,
    title TEXT NOT NULL, fingerprint TEXT NOT NULL, recording TEXT NOT NULL, outcome TEXT NOT NULL,
    summary TEXT NOT NULL, trigger TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS cases_status ON cases (status);
CREATE TABLE IF NOT EXISTS opened (key TEXT PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS citations (
    id TEXT NOT NULL, n INTEGER NOT NULL, citation TEXT NOT NULL, PRIMARY KEY (id, n)
);
CREATE TABLE IF NOT EXISTS reports (
    id TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (id, kind)
);
CREATE TABLE IF NOT EXISTS legs (
    id TEXT PRIMARY KEY, ended INTEGER NOT NULL, queued INTEGER NOT NULL, attempt INTEGER NOT NULL,
    step TEXT NOT NULL, why TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS holds (id TEXT PRIMARY KEY, worker TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS workers (name TEXT PRIMARY KEY, seen TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ticks (schedule TEXT PRIMARY KEY, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS waits (id TEXT NOT NULL, approval TEXT NOT NULL, PRIMARY KEY (id, approval));
CREATE TABLE IF NOT EXISTS wishes (
    id TEXT NOT NULL, at TEXT NOT NULL, wish TEXT NOT NULL, person TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (id, at)
);
CREATE TABLE IF NOT EXISTS outbox (
    key TEXT PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL, destination TEXT NOT NULL, at TEXT NOT NULL,
    attempts INTEGER NOT NULL, held TEXT NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (state, at);
"""


class CaseRow(Value):
    """One case as the index keeps it."""

    id: str
    opened: datetime
    updated: datetime
    status: str  # queued, running, waiting, paused, stopped, delivered, closed, failed, cancelled
    title: str
    fingerprint: str = ""
    recording: str = ""
    outcome: str = ""
    summary: str = ""


class Legs(Value):
    """How far the engine is with a case. A leg goes from the start, or from a decision, to the next wait."""

    id: str
    ended: int = 0  # legs that have ended
    queued: int = 0  # the last leg that was queued
    attempt: int = 0  # how often a person had it tried again
    step: str = ""  # the step from which it is tried again
    why: str = ""  # why it failed, or stands still


class Wish(Value):
    """What a person wants of a case that some process may be running: cancel, pause, go on, try again."""

    id: str
    at: str
    wish: str
    person: str
    reason: str = ""


class CaseIndex:
    """Reads and writes the index; several processes may do so at once."""

    def __init__(self, home: Path, database: str = "") -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.db: Database = open_database(database, home / "cases.db")
        with self.db.alone("schema") if database else _NOTHING:
            self.db.script(SCHEMA)

    def close(self) -> None:
        """Let go of the database."""
        self.db.close()

    def open_case(self, trigger: Trigger, status: str = "running") -> str:
        """A new case; its id."""
        id_ = _new_id()
        self._insert(id_, trigger, status)
        return id_

    def open_once(self, trigger: Trigger, key: str) -> tuple[str, bool]:
        """The case of this key and whether it is new; one key opens one case, over processes and crashes."""
        id_ = _new_id()
        with self.db.alone(key):
            claimed = "INSERT INTO opened VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
            if not self.db.write(claimed, key, id_):
                return self.db.rows("SELECT id FROM opened WHERE key = ?", key)[0]["id"], False
            self._insert(id_, trigger, "queued")
        return id_, True

    def _insert(self, id_: str, trigger: Trigger, status: str) -> None:
        now = _now()
        self.db.write(
            f"INSERT INTO cases VALUES ({marks(range(10))})",
            *(id_, now, now, status, trigger.title, trigger.fingerprint, trigger.recording, "", ""),
            trigger.model_dump_json(),
        )

    def update(self, id_: str, status: str, report: Report | None = None) -> None:
        """What became of a case."""
        told = {"status": status, "updated": _now()}
        if report is not None:
            told |= {"outcome": report.outcome, "summary": " ".join(s.text for s in report.summary[1:2])}
        columns = ", ".join(f"{name} = ?" for name in told)
        self.db.write(f"UPDATE cases SET {columns} WHERE id = ?", *told.values(), id_)

    def change(self, id_: str, before: Iterable[str], status: str) -> bool:
        """Change the status, if it is one of those before; whether it was."""
        known = tuple(before)
        return bool(
            self.db.write(
                f"UPDATE cases SET status = ?, updated = ? WHERE id = ? AND status IN ({marks(known)})",
                *(status, _now(), id_, *known),
            )
        )

    def retitle(self, id_: str, trigger: Trigger) -> None:
        """What opens a case whose run has not begun, now that more is known."""
        self.db.write(
            "UPDATE cases SET title = ?, trigger = ? WHERE id = ?",
            trigger.title,
            trigger.model_dump_json(),
            id_,
        )

    def get(self, id_: str) -> CaseRow:
        """One case by its id (upper or lower case); CaseUnknown when there is none."""
        rows = self.db.rows("SELECT * FROM cases WHERE id = ?", id_.upper())
        if not rows:
            known = ", ".join(c.id for c in self.list(3)) or "there are none yet"
            raise CaseUnknown(
                f"no case {id_!r} in {self.home}: the latest are {known}; see `pointsman cases list`"
            )
        return _row(rows[0])

    def trigger(self, id_: str) -> Trigger:
        """What opened a case."""
        [row] = self.db.rows("SELECT trigger FROM cases WHERE id = ?", id_)
        return Trigger.model_validate_json(row["trigger"])

    def list(self, limit: int = 50, *statuses: str) -> list[CaseRow]:
        """The latest cases, or the latest of these statuses."""
        where = f"WHERE status IN ({marks(statuses)})" if statuses else ""
        return [
            _row(row)
            for row in self.db.rows(
                f"SELECT * FROM cases {where} ORDER BY opened DESC LIMIT ?", *statuses, limit
            )
        ]

    # -- what the engine notes -------------------------------------------------------------------------

    def legs(self, id_: str) -> Legs:
        """How far the engine is with a case."""
        rows = self.db.rows("SELECT * FROM legs WHERE id = ?", id_)
        return Legs.model_validate(dict(rows[0])) if rows else Legs(id=id_)

    def queue_leg(self, id_: str, n: int) -> None:
        """Leg n waits in the queue."""
        self.db.write(
            "INSERT INTO legs VALUES (?, ?, ?, 0, '', '') ON CONFLICT (id) DO UPDATE SET queued = ?",
            *(id_, n - 1, n, n),
        )

    def hold(self, id_: str, worker: str) -> None:
        """A worker begins a leg of this case."""
        self.db.write(
            "INSERT INTO holds VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET worker = ?", id_, worker, worker
        )

    def holder(self, id_: str) -> str:
        """The worker that began the last leg of this case, unless the leg has ended."""
        rows = self.db.rows("SELECT worker FROM holds WHERE id = ?", id_)
        return rows[0]["worker"] if rows else ""

    def taken(self, id_: str, lease: float) -> str:
        """The living worker that runs a case, or any that will take it from the queue; empty if none."""
        alive = self.alive(lease)
        if (worker := self.holder(id_)) in alive:
            return worker
        due = id_ in self.in_queue() or self.db.rows("SELECT 1 FROM waits WHERE id = ?", id_)
        return min(alive, default="") if due else ""

    def end_leg(self, id_: str, n: int, why: str = "", approvals: Iterable[str] = ()) -> None:
        """Leg n has ended, and the case now waits for these approvals."""
        with self.db.alone(id_):
            self.db.write(
                "INSERT INTO legs VALUES (?, ?, ?, 0, '', ?) "
                "ON CONFLICT (id) DO UPDATE SET ended = ?, step = '', why = ?",
                *(id_, n, n, why, n, why),
            )
            self.db.write("DELETE FROM holds WHERE id = ?", id_)
            self._wait(id_, approvals)

    def wait(self, id_: str, approvals: Iterable[str]) -> None:
        """The case now waits for these approvals, and goes on in any engine once one is decided."""
        with self.db.alone(id_):
            self._wait(id_, approvals)

    def _wait(self, id_: str, approvals: Iterable[str]) -> None:
        self.db.write("DELETE FROM waits WHERE id = ?", id_)
        for approval in approvals:
            self.db.write("INSERT INTO waits VALUES (?, ?)", id_, approval)

    def try_again(self, id_: str, step: str) -> None:
        """The next leg goes from this step, or from what was not finished, and makes its calls anew."""
        with self.db.alone(id_):
            self.db.write("INSERT INTO legs VALUES (?, 0, 0, 0, '', '') ON CONFLICT (id) DO NOTHING", id_)
            self.db.write("UPDATE legs SET attempt = attempt + 1, step = ?, why = '' WHERE id = ?", step, id_)

    def unqueued(self, before: datetime) -> list[str]:
        """Cases that should be in the queue since before a moment and are not."""
        rows = self.db.rows(
            "SELECT c.id FROM cases c LEFT JOIN legs l ON l.id = c.id WHERE c.status = 'queued' "
            "AND c.updated < ? AND (l.id IS NULL OR l.queued <= l.ended) ORDER BY c.opened",
            before.isoformat(),
        )
        return [row["id"] for row in rows]

    def in_queue(self) -> set[str]:
        """The cases of which a leg is queued or runs."""
        return {row["id"] for row in self.db.rows("SELECT id FROM legs WHERE queued > ended")}

    def waiting(self) -> dict[str, frozenset[str]]:
        """The approvals that each waiting case waits for."""
        found: dict[str, set[str]] = {}
        rows = self.db.rows(
            "SELECT c.id, w.approval FROM cases c JOIN waits w ON w.id = c.id WHERE c.status = 'waiting'"
        )
        for row in rows:
            found.setdefault(row["id"], set()).add(row["approval"])
        return {case: frozenset(approvals) for case, approvals in found.items()}

    def wish(self, id_: str, wish: str, person: str, reason: str) -> None:
        """Leave word for whoever runs the case."""
        self.db.write("INSERT INTO wishes VALUES (?, ?, ?, ?, ?)", id_, _now(), wish, person, reason)

    def wishes(self) -> list[Wish]:
        """What persons want and nobody has done yet, the oldest first."""
        rows = self.db.rows("SELECT id, at, wish, person, reason FROM wishes ORDER BY at")
        return [Wish.model_validate(dict(row)) for row in rows]

    def wished(self, id_: str) -> bool:
        """Whether something is wanted of a case that nobody has done yet."""
        return bool(self.db.rows("SELECT 1 FROM wishes WHERE id = ?", id_))

    def done(self, wish: Wish) -> None:
        """A wish is fulfilled."""
        self.db.write("DELETE FROM wishes WHERE id = ? AND at = ?", wish.id, wish.at)

    def beat(self, worker: str) -> None:
        """A worker is alive now."""
        self.db.write(
            "INSERT INTO workers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seen = ?",
            *(worker, now := _now(), now),
        )

    def gone(self, worker: str) -> None:
        """A worker has ended, or is taken for dead."""
        self.db.write("DELETE FROM workers WHERE name = ?", worker)

    def alive(self, seconds: float) -> set[str]:
        """The workers that gave a sign of life in so many seconds."""
        since = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        return {row["name"] for row in self.db.rows("SELECT name FROM workers WHERE seen >= ?", since)}

    def ticked(self, schedule: str, now: datetime) -> datetime:
        """The last tick of a schedule that was dealt with; now for one that is new."""
        self.db.write(
            "INSERT INTO ticks VALUES (?, ?) ON CONFLICT (schedule) DO NOTHING", schedule, now.isoformat()
        )
        [row] = self.db.rows("SELECT at FROM ticks WHERE schedule = ?", schedule)
        return datetime.fromisoformat(row["at"])

    def tick(self, schedule: str, at: datetime) -> None:
        """All ticks up to this one are dealt with."""
        self.db.write(
            "UPDATE ticks SET at = ? WHERE schedule = ? AND at < ?", at.isoformat(), schedule, at.isoformat()
        )

    # -- reports and citations -------------------------------------------------------------------------

    def report(self, id_: str) -> Report | None:
        """The latest report of a case, if one was delivered."""
        body = self.report_text(id_, "json")
        return Report.model_validate_json(body) if body else None

    def report_text(self, id_: str, kind: str) -> str:
        """The latest report of a case as `md` or `json`; empty when there is none."""
        rows = self.db.rows("SELECT body FROM reports WHERE id = ? AND kind = ?", id_, kind)
        path = self.report_path(id_, kind)
        return rows[0]["body"] if rows else path.read_text(encoding="utf-8") if path.is_file() else ""

    def keep_report(self, id_: str, **texts: str) -> None:
        """Keep a report, `md` and `json`: as files in HOME, and for every other process of this database."""
        folder = self.report_path(id_, "md").parent
        folder.mkdir(parents=True, exist_ok=True)
        for kind, text in texts.items():
            self.report_path(id_, kind).write_text(text, encoding="utf-8")
        rows = ", ".join(["(?, ?, ?)"] * len(texts))
        self.db.write(
            f"INSERT INTO reports VALUES {rows} ON CONFLICT (id, kind) DO UPDATE SET body = excluded.body",
            *(value for kind, text in texts.items() for value in (id_, kind, text)),
        )

    def report_path(self, id_: str, kind: str) -> Path:
        """Where a case's report is, as `md` or `json`."""
        return self.home / "cases" / id_ / f"report.{kind}"

    def citation(self, id_: str, n: int) -> Citation | None:
        """The citation [En] of a case: of its report, or of an answer given since."""
        rows = self.db.rows("SELECT citation FROM citations WHERE id = ? AND n = ?", id_, n)
        return Citation.model_validate_json(rows[0]["citation"]) if rows else None

    def numbers(self, id_: str) -> dict[tuple[str, str], int]:
        """The numbers that the case's citations have, by call and words."""
        return {key: citation.n for key, citation in self._citations(id_).items()}

    def keep_citations(self, id_: str, citations: Iterable[Citation]) -> None:
        """Keep the citations of a report under the numbers it gave them."""
        known = tuple(citations)
        if not known:
            return
        with self.db.alone(id_):
            for citation in known:
                self._keep(id_, citation)

    def add_citations(self, id_: str, citations: list[Citation]) -> list[Citation]:
        """Number new citations after those the case has; one that it has keeps its number."""
        with self.db.alone(id_):
            known = self._citations(id_)
            last = max((c.n for c in known.values()), default=0)
            numbered = []
            for citation in citations:
                if (key := (citation.call, citation.quote)) not in known:
                    last += 1
                    known[key] = citation.model_copy(update={"n": last})
                    self._keep(id_, known[key])
                numbered.append(known[key])
        return numbered

    def _citations(self, id_: str) -> dict[tuple[str, str], Citation]:
        rows = self.db.rows("SELECT citation FROM citations WHERE id = ? ORDER BY n", id_)
        found = (Citation.model_validate_json(row["citation"]) for row in rows)
        return {(c.call, c.quote): c for c in found}

    def _keep(self, id_: str, citation: Citation) -> None:
        text = citation.model_dump_json()
        self.db.write(
            "INSERT INTO citations VALUES (?, ?, ?) ON CONFLICT (id, n) DO UPDATE SET citation = ?",
            *(id_, citation.n, text, text),
        )


_NOTHING: Any = nullcontext()


def _new_id() -> str:
    return f"INC-{''.join(secrets.choice(ALPHABET) for _ in range(6))}"


def _row(row: Any) -> CaseRow:
    return CaseRow.model_validate({name: row[name] for name in CaseRow.model_fields})


def _now() -> str:
    return datetime.now(UTC).isoformat()


def open_index(config: str | None = None) -> CaseIndex:
    """The index that the settings name."""
    return CaseIndex(home(), CoordinatorSettings.load(config).database)
