"""Approvals: persons' consent to one exact call, durable, decided once, used once."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import orjson

from gateway.canonical import canonical, digest
from gateway.errors import ApprovalError
from gateway.ledger import Ledger, append_record, now
from gateway.store import Store
from gateway.types import Approval, Call, Decision, Grant, Rule, Subject
from gateway.writing import Connection, Writing

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
CLAIM = "pointsman/claim"  # the `_meta` key under which a requester says why
CLAIM_BYTES = 16_384
REASON = 2_000  # characters
MOST = 1_000  # approvals of one list
CHECKPOINT = "gateway__pass_checkpoint"  # says itself how long it waits, and what may be edited
LONGEST = timedelta(days=366)
EDITABLE: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "time": (str,),
    "list": (list,),
    "object": (dict,),
    "any": (object,),
}


ALLOWED = Decision("call")  # where no policy was asked whether somebody may decide


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
        subject = call.subject
        binding = (subject.id, call.tool.public, call.digest, subject.work, call.tool.digest)

        def find(connection: Connection) -> Approval | None:
            row = connection.execute(
                f"SELECT {COLUMNS} FROM approvals WHERE subject = ? AND tool = ? AND digest = ? "
                "AND scope = ? AND tool_digest = ? AND status IN ('pending', 'granted', 'denied') "
                "AND expires > ? ORDER BY requested DESC LIMIT 1",
                (*binding, now()),
            ).fetchone()
            return _approval(row) if row else None

        def ask(connection: Writing) -> Approval:
            asked = find(connection)  # again, since another call may have asked in the meantime
            if asked is None:
                asked = self._new(call, decision)
                _insert(connection, asked, binding)
            elif _enough(asked, decision):
                return asked
            else:  # the policy asks for more persons now than when this was asked for
                status = "pending" if len(asked.grants) < decision.approvals else asked.status
                asked = replace(asked, status=status, needed=decision.approvals, rules=decision.rules)
                _update(connection, asked)
            append_record(connection, "approval", self._facts(subject, asked))
            return asked

        found = await self._store.read(find)
        return found if found and _enough(found, decision) else await self._store.write(ask)

    def _new(self, call: Call, decision: Decision) -> Approval:
        moment = datetime.now(UTC)
        clean = self._ledger.redactor.clean
        return Approval(
            id="a_" + secrets.token_hex(6),
            status="pending",
            subject=call.subject.id,
            roles=call.subject.roles,
            chain=call.subject.chain,
            case=call.subject.case,
            run=call.subject.run,
            tool=call.tool.public,
            arguments=clean(call.arguments),
            digest=call.digest,
            rules=decision.rules,
            requested=_time(moment),
            expires=_time(moment + self._lifetime(call.tool.public, call.arguments)),
            needed=decision.approvals,
            claim=clean(read_claim(call.meta.get(CLAIM))),
        )

    def _lifetime(self, tool: str, arguments: dict[str, Any]) -> timedelta:
        asked = arguments.get("expires_seconds") if tool == CHECKPOINT else None
        return min(timedelta(seconds=asked), LONGEST) if asked else self._expiry

    async def grant(
        self,
        approval: str,
        by: Subject,
        reason: str,
        edit: dict[str, Any] | None = None,
        allowed: Decision = ALLOWED,
    ) -> Approval:
        """Consent, under the approver's own name; the call itself still has to be made.

        With a checkpoint's consent may come the fields that the person changes; ApprovalError for any other.
        `allowed` is by which rules of which policy the approver may decide.
        """
        clean = self._ledger.redactor.clean(edit or {})
        return await self._decide(approval, by, "granted", reason, allowed, clean)

    async def deny(self, approval: str, by: Subject, reason: str, allowed: Decision = ALLOWED) -> Approval:
        """Refuse consent; the same call stays refused until this denial expires."""
        return await self._decide(approval, by, "denied", reason, allowed)

    async def _decide(
        self,
        approval: str,
        by: Subject,
        status: str,
        reason: str,
        allowed: Decision,
        edit: dict[str, Any] | None = None,
    ) -> Approval:
        reason = " ".join(reason.split())
        if not reason or len(reason) > REASON:
            raise ApprovalError(
                f"approval {approval} is decided with a reason of 1 to {REASON} characters, which the ledger "
                "keeps: say why"
            )
        reason = self._ledger.redactor.clean(reason)

        def job(connection: Writing) -> Approval:
            asked = _get(connection, approval)
            if status == "granted":
                _may_grant(asked, by)
            if asked.status != "pending":
                raise ApprovalError(
                    f"approval {approval} is {asked.status}: only a pending one can be {status}; "
                    "if it is still needed, the call has to be made again"
                )
            _check_edit(asked, edit or {})
            decided = self._decided(asked, by, status, reason, allowed)
            decided = replace(decided, edit={**asked.edit, **(edit or {})})
            _update(connection, decided)
            kind = "grant" if status == "granted" else "approval"
            append_record(connection, kind, self._facts(by, decided, allowed))
            return decided

        return await self._store.write(job)

    def _decided(self, asked: Approval, by: Subject, status: str, reason: str, allowed: Decision) -> Approval:
        """The approval after this person's word; it waits on while more persons have to agree."""
        moment = datetime.now(UTC)
        decided = replace(asked, decided_by=by.id, reason=reason)
        if status == "granted":
            decided = replace(
                decided,
                grants=(*asked.grants, Grant(by.id, reason, _time(moment), allowed.told.get("rules", ()))),
            )
            if len(decided.grants) < asked.needed:
                return decided
        expires = max(asked.expires, _time(moment + self._expiry))
        return replace(decided, status=status, expires=expires)

    def withdraw(self, connection: Writing, case: str, by: Subject) -> list[str]:
        """End everything that still waits in a case, as when the case is closed; their ids."""
        query = f"SELECT {COLUMNS} FROM approvals WHERE status IN ('pending', 'granted') AND expires > ?"
        waiting = [_approval(row) for row in connection.execute(query, (now(),)).fetchall()]
        gone = [replace(asked, status="withdrawn") for asked in waiting if asked.case == case]
        for asked in gone:
            _update(connection, asked)
            append_record(connection, "approval", self._facts(by, asked))
        return [asked.id for asked in gone]

    async def show(self, approval: str) -> Approval:
        """One approval, whole."""
        return await self._store.read(lambda c: _get(c, approval))

    async def ids(self, status: str = "", case: str = "") -> tuple[str, ...]:
        """The ids of all approvals of a status and a case."""
        chosen = {clause: value for clause, value in _having(status).items() if value}
        where = f"WHERE {' AND '.join(chosen)}" if chosen else ""
        query = f"SELECT id, detail FROM approvals {where} ORDER BY id"

        def job(connection: Connection) -> tuple[str, ...]:
            found = connection.execute(query, [*chosen.values()])
            return tuple(id_ for id_, detail in found if not case or orjson.loads(detail)["case"] == case)

        return await self._store.read(job)

    async def list(self, status: str = "", case: str = "") -> list[Approval]:
        """Approvals, newest first, at most a thousand."""

        chosen = {clause: value for clause, value in _having(status).items() if value}
        where = f"WHERE {' AND '.join(chosen)}" if chosen else ""
        query = f"SELECT {COLUMNS} FROM approvals {where} ORDER BY requested DESC"

        def job(connection: Connection) -> list[Approval]:
            found = (_approval(row) for row in connection.execute(query, list(chosen.values())))
            return list(islice((asked for asked in found if case in ("", asked.case)), MOST))

        return await self._store.read(job)

    def _facts(self, by: Subject, approval: Approval, allowed: Decision = ALLOWED) -> dict[str, Any]:
        return self._ledger.shaped(
            by,
            case=approval.case,
            run=approval.run,
            approval=approval.id,
            status=approval.status,
            tool=approval.tool,
            arguments_digest=approval.digest,
            rules=[rule.id for rule in approval.rules],
            requester=approval.subject,
            reason=approval.reason,
            agreed=[grant.by for grant in approval.grants],
            needed=approval.needed,
            policy=allowed.policy,
            **({"allowed_by": allowed.told["rules"]} if allowed.rules else {}),
            **({"edit": approval.edit} if approval.edit else {}),
        )


def _having(status: str) -> dict[str, str]:
    """The clauses that choose a status, given that what is past its expiry is kept under its last one."""
    if status == "expired":
        return {"status IN ('pending', 'granted', 'denied', ?)": "expired", "expires <= ?": now()}
    return {"status = ?": status, "expires > ?": now() if status in LIVE else ""}


def as_dict(approval: Approval) -> dict[str, Any]:
    """The approval as the admin tools and the command line show it."""
    told = orjson.loads(orjson.dumps(asdict(approval)))
    return {**told, "redacted": is_redacted(approval)}


def is_redacted(approval: Approval) -> bool:
    """Whether a secret was taken out of the arguments that are shown; the call is bound to the real ones."""
    return digest(approval.arguments) != approval.digest


def read_claim(told: Any) -> dict[str, Any]:
    """What a requester says for its call, in the form approvers see; what has no such form is left out.

    `reason`, `risk` and `undo` are text; `evidence` is a list of `{call, quote}`. It decides nothing.
    """
    if not isinstance(told, dict):
        return {}
    claim: dict[str, Any] = {
        name: told[name] for name in ("reason", "risk", "undo") if isinstance(told.get(name), str)
    }
    given = told.get("evidence")
    evidence = [
        {"call": each["call"], "quote": each["quote"]}
        for each in (given if isinstance(given, list) else [])
        if isinstance(each, dict) and isinstance(each.get("call"), str) and isinstance(each.get("quote"), str)
    ]
    if evidence:
        claim["evidence"] = evidence
    if len(canonical(claim)) > CLAIM_BYTES:
        return {"reason": f"(left out: the claim is larger than {CLAIM_BYTES} bytes)"}
    return claim


def requester(approval: Approval) -> Subject:
    """Who asked, as a subject policy can judge the approver against."""
    return Subject(approval.subject, approval.roles, approval.chain, approval.case, approval.run)


def _may_grant(asked: Approval, by: Subject) -> None:
    if by.id == asked.subject:
        raise ApprovalError(f"approval {asked.id} was asked for by {by.id}: somebody else has to grant it")
    if by.kind != "user" or any(link.startswith("agent:") for link in by.chain):
        raise ApprovalError(f"approval {asked.id} needs a person: {by.id} acts for an agent, or is one")
    if by.id in (grant.by for grant in asked.grants):
        raise ApprovalError(
            f"approval {asked.id} has the consent of {by.id} already; it needs {asked.needed} persons: "
            "ask somebody else"
        )


def _check_edit(asked: Approval, edit: dict[str, Any]) -> None:
    """Refuse a change of what a checkpoint does not let a person change, or to a value of another type."""
    if edit and asked.needed > 1:
        raise ApprovalError(
            f"{asked.id} needs {asked.needed} persons, who have to agree to the same, so nothing is changed; "
            "deny it, and have it asked again with the other value"
        )
    allowed = asked.arguments.get("edit", {}) if asked.tool == CHECKPOINT else {}
    for name, value in edit.items():
        if name not in allowed:
            fields = ", ".join(sorted(allowed)) or "nothing"
            raise ApprovalError(f"{name!r} cannot be changed with {asked.id}: what can be is {fields}")
        wanted = EDITABLE[allowed[name]]
        if not isinstance(value, wanted) or (isinstance(value, bool) and int in wanted):
            raise ApprovalError(f"{name!r} is of type {allowed[name]}, and {str(value)[:80]!r} is not")


def _enough(asked: Approval, decision: Decision) -> bool:
    """Whether at least as many persons were asked as the policy in force wants."""
    return asked.status == "denied" or asked.needed >= decision.approvals


def _insert(connection: Connection, asked: Approval, binding: tuple[str, ...]) -> None:
    subject, tool, arguments, scope, tool_digest = binding
    bound = (asked.id, asked.status, subject, scope, tool, tool_digest, arguments)
    connection.execute(
        "INSERT INTO approvals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', '', ?)",
        (*bound, asked.requested, asked.expires, _detail(asked)),
    )


def _update(connection: Connection, asked: Approval) -> None:
    connection.execute(
        "UPDATE approvals SET status = ?, expires = ?, decided_by = ?, reason = ?, detail = ? WHERE id = ?",
        (asked.status, asked.expires, asked.decided_by, asked.reason, _detail(asked), asked.id),
    )


def _detail(asked: Approval) -> str:
    detail = {
        "roles": asked.roles,
        "chain": asked.chain,
        "case": asked.case,
        "run": asked.run,
        "arguments": asked.arguments,
        "rules": [[r.id, r.description, r.advice, r.where, r.approvals] for r in asked.rules],
        "needed": asked.needed,
        "grants": [[g.by, g.reason, g.time, g.rules] for g in asked.grants],
        "claim": asked.claim,
        "edit": asked.edit,
    }
    return canonical(detail).decode()


def _get(connection: Connection, approval: str) -> Approval:
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
        needed=more.get("needed", 1),
        grants=tuple(_grant(*told) for told in more.get("grants", ())),
        claim=more.get("claim", {}),
        edit=more.get("edit", {}),
        decided_by=by,
        reason=reason,
        call=call,
    )


def _grant(by: str, reason: str, moment: str, rules: Iterable[str] = ()) -> Grant:
    return Grant(by, reason, moment, tuple(rules))


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"
