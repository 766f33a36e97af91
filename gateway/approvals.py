"""Approvals: a person's consent to one exact call, durable, decided once, used once."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from gateway.canonical import canonical
from gateway.errors import ApprovalError
from gateway.ledger import Ledger, append_record, now
from gateway.store import Store
from gateway.types import Approval, Call, Decision, Rule, Subject
from gateway.writing import Writing

TABLES = """
CREATE TABLE IF NOT EXISTS approvals (
    id TEXT PRIMARY KEY, status TEXT NOT NULL, subject TEXT NOT NULL, scope TEXT NOT NULL, tool TEXT NOT NULL,
    tool_digest TEXT NOT NULL, digest TEXT NOT NULL, requested TEXT NOT NULL, expires TEXT NOT NULL,
    decided_by TEXT NOT NULL, reason TEXT NOT NULL, call TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS approvals_open ON approvals (subject, tool, digest)
    WHERE status IN ('pending', 'granted', 'denied');
"""

COLUMNS = "id, status, subject, tool, digest, requested, expires, decided_by, reason, call, detail"
EXPIRY = 15 * 60.0
LIVE = ("pending", "granted", "denied")


class Approvals:
    """Keeps what waits for a person, and what the person said."""

    def __init__(self, store: Store, ledger: Ledger, *, expiry_seconds: float = EXPIRY) -> None:
        self._store = store
        self._ledger = ledger
        self._expiry = timedelta(seconds=expiry_seconds)

    async def prepare(self) -> Approvals:
        """Create the table."""
        await self._store.prepare(TABLES)
        return self

    async def settle(self, call: Call, decision: Decision) -> Approval:
        """The live approval for exactly this call, or a new pending one."""
        binding = (
            call.subject.id,
            call.tool.public,
            call.digest,
            call.subject.case or call.subject.run,
            call.tool.digest,
        )

        def find(connection: sqlite3.Connection) -> Any:
            return connection.execute(
                f"SELECT {COLUMNS} FROM approvals WHERE subject = ? AND tool = ? AND digest = ? "
                "AND scope = ? AND tool_digest = ? AND status IN ('pending', 'granted', 'denied') "
                "AND expires > ? ORDER BY requested DESC LIMIT 1",
                (*binding, now()),
            ).fetchone()

        def ask(connection: Writing) -> Approval:
            row = find(connection)  # again, since another call may have asked in the meantime
            if row:
                return _approval(row)
            asked = self._new(call, decision)
            _insert(connection, asked, binding)
            append_record(connection, "approval", self._facts(call.subject, asked, "pending"))
            return asked

        row = await self._store.read(find)
        return _approval(row) if row else await self._store.write(ask)

    def _new(self, call: Call, decision: Decision) -> Approval:
        moment = datetime.now(UTC)
        return Approval(
            id="a_" + secrets.token_hex(6),
            status="pending",
            subject=call.subject.id,
            roles=call.subject.roles,
            chain=call.subject.chain,
            case=call.subject.case,
            run=call.subject.run,
            tool=call.tool.public,
            arguments=self._ledger.redactor.clean(call.arguments),
            digest=call.digest,
            rules=decision.rules,
            requested=_time(moment),
            expires=_time(moment + self._expiry),
        )

    async def grant(self, approval: str, by: Subject, reason: str = "") -> Approval:
        """Consent, under the approver's own name; the call itself still has to be made."""
        return await self._decide(approval, by, "granted", reason)

    async def deny(self, approval: str, by: Subject, reason: str = "") -> Approval:
        """Refuse consent; the same call stays refused until this denial expires."""
        return await self._decide(approval, by, "denied", reason)

    async def _decide(self, approval: str, by: Subject, status: str, reason: str) -> Approval:
        def job(connection: Writing) -> Approval:
            asked = _get(connection, approval)
            if status == "granted":
                _may_grant(asked, by)
            if asked.status != "pending":
                raise ApprovalError(
                    f"approval {approval} is {asked.status}: only a pending one can be {status}; "
                    "if it is still needed, the call has to be made again"
                )
            connection.execute(
                "UPDATE approvals SET status = ?, decided_by = ?, reason = ?, expires = MAX(expires, ?) "
                "WHERE id = ?",
                (status, by.id, reason, _time(datetime.now(UTC) + self._expiry), approval),
            )
            decided = _get(connection, approval)
            append_record(
                connection, "grant" if status == "granted" else "approval", self._facts(by, decided, status)
            )
            return decided

        return await self._store.write(job)

    async def withdraw(self, case: str, by: Subject) -> list[str]:
        """End everything that still waits in a case, as when the case is closed."""

        def job(connection: Writing) -> list[str]:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM approvals WHERE scope = ? AND status IN ('pending', 'granted')",
                (case,),
            ).fetchall()
            for row in rows:
                connection.execute("UPDATE approvals SET status = 'withdrawn' WHERE id = ?", (row[0],))
                append_record(connection, "approval", self._facts(by, _approval(row), "withdrawn"))
            return [row[0] for row in rows]

        return await self._store.write(job)

    async def show(self, approval: str) -> Approval:
        """One approval, whole."""
        return await self._store.read(lambda c: _get(c, approval))

    async def list(self, status: str = "", case: str = "") -> list[Approval]:
        """Approvals, newest first."""

        wanted = {"scope = ?": case, **_having(status)}
        chosen = {clause: value for clause, value in wanted.items() if value}
        where = f"WHERE {' AND '.join(chosen)}" if chosen else ""
        query = f"SELECT {COLUMNS} FROM approvals {where} ORDER BY requested DESC LIMIT 1000"
        rows = await self._store.read(lambda c: c.execute(query, list(chosen.values())).fetchall())
        return [_approval(row) for row in rows]

    def _facts(self, by: Subject, approval: Approval, status: str) -> dict[str, Any]:
        return self._ledger.shaped(
            by,
            case=approval.case,
            run=approval.run,
            approval=approval.id,
            status=status,
            tool=approval.tool,
            arguments_digest=approval.digest,
            rules=[rule.id for rule in approval.rules],
            requester=approval.subject,
            reason=approval.reason,
        )


def _having(status: str) -> dict[str, str]:
    """The clauses that choose a status, given that what is past its expiry is kept under its last one."""
    if status == "expired":
        return {"status IN ('pending', 'granted', 'denied', ?)": "expired", "expires <= ?": now()}
    return {"status = ?": status, "expires > ?": now() if status in LIVE else ""}


def as_dict(approval: Approval) -> dict[str, Any]:
    """The approval as the admin tools and the command line show it."""
    return {**asdict(approval), "chain": list(approval.chain), "roles": list(approval.roles)}


def requester(approval: Approval) -> Subject:
    """Who asked, as a subject policy can judge the approver against."""
    return Subject(approval.subject, approval.roles, approval.chain, approval.case, approval.run)


def _may_grant(asked: Approval, by: Subject) -> None:
    if by.id == asked.subject:
        raise ApprovalError(f"approval {asked.id} was asked for by {by.id}: somebody else has to grant it")
    if by.kind != "user" or any(link.startswith("agent:") for link in by.chain):
        raise ApprovalError(f"approval {asked.id} needs a person: {by.id} acts for an agent, or is one")


def _insert(connection: sqlite3.Connection, asked: Approval, binding: tuple[str, ...]) -> None:
    subject, tool, digest, scope, tool_digest = binding
    detail = {
        "roles": list(asked.roles),
        "chain": list(asked.chain),
        "case": asked.case,
        "run": asked.run,
        "arguments": asked.arguments,
        "rules": [[r.id, r.description, r.advice, r.where] for r in asked.rules],
    }
    values = (
        asked.id,
        asked.status,
        subject,
        scope,
        tool,
        tool_digest,
        digest,
        asked.requested,
        asked.expires,
    )
    connection.execute(
        "INSERT INTO approvals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', '', ?)",
        (*values, canonical(detail).decode()),
    )


def _get(connection: sqlite3.Connection, approval: str) -> Approval:
    row = connection.execute(f"SELECT {COLUMNS} FROM approvals WHERE id = ?", (approval,)).fetchone()
    if row is None:
        raise ApprovalError(f"no approval {approval!r}: see `pointsman approvals list` for the ids")
    return _approval(row)


def _approval(row: Any) -> Approval:
    approval, status, subject, tool, digest, requested, expires, by, reason, call, detail = row
    more = orjson.loads(detail)
    if status in LIVE and expires <= now():
        status = "expired"
    return Approval(
        id=approval,
        status=status,
        subject=subject,
        roles=tuple(more["roles"]),
        chain=tuple(more["chain"]),
        case=more["case"],
        run=more["run"],
        tool=tool,
        arguments=more["arguments"],
        digest=digest,
        rules=tuple(Rule(*rule) for rule in more["rules"]),
        requested=requested,
        expires=expires,
        decided_by=by,
        reason=reason,
        call=call,
    )


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"
