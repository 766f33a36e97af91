"""The ledger: append-only, chained by hash, durable before a call goes out and before its result does."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from gateway.canonical import canonical
from gateway.checkpoints import Checkpoints
from gateway.errors import ApprovalSpent, KeyTaken, LedgerError, LedgerUnavailable
from gateway.redaction import Redactor
from gateway.store import Store
from gateway.types import Call, Decision, Replay, Subject
from gateway.verification import Verification, contradiction, pruned_through, verify
from gateway.writing import Connection, Writing, before

log = logging.getLogger("gateway.ledger")
Also = Callable[[Writing], None]


class Written(dict[str, Any]):
    """The result of a call that only writes: made by `make` in the transaction of the call's outcome."""

    def __init__(self, make: Callable[[Writing], Mapping[str, Any]]) -> None:
        super().__init__()
        self.make = make


TABLES = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, kind TEXT NOT NULL, call TEXT NOT NULL, time TEXT NOT NULL,
    subject TEXT NOT NULL, case_id TEXT NOT NULL, tool TEXT NOT NULL, verdict TEXT NOT NULL,
    record TEXT NOT NULL, body BLOB);
CREATE INDEX IF NOT EXISTS records_call ON records (call) WHERE call <> '';
CREATE INDEX IF NOT EXISTS records_case ON records (case_id, seq) WHERE case_id <> '';
CREATE TABLE IF NOT EXISTS blobs (
    digest BLOB PRIMARY KEY, packed INTEGER NOT NULL, last INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS open_calls (
    call TEXT PRIMARY KEY, seq INTEGER NOT NULL, owner INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    scope TEXT NOT NULL, key TEXT NOT NULL, call TEXT NOT NULL, tool TEXT NOT NULL, digest TEXT NOT NULL,
    status TEXT NOT NULL, result BLOB, PRIMARY KEY (scope, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

ADDED = (
    ("records", "body", "BLOB"),
    ("open_calls", "owner", "INTEGER NOT NULL DEFAULT 0"),
    ("blobs", "last", f"INTEGER NOT NULL DEFAULT {2**62}"),  # the last record that names it: not known
)

# What stands at the top of a record; whatever else is told about an event goes into its body.
FIELDS = frozenset(
    """call subject chain roles run case task token verb tool server key arguments_digest arguments_blob
    result_digest verdict rules policy approval control status ms step code versions about""".split()  # noqa: SIM905
)
# What an outcome that a crash has cut off takes from its intent.
INHERITED = "subject chain roles run case task token verb tool server key".split()  # noqa: SIM905
INLINE = 1_000  # a body up to so many bytes lies beside its record, a larger one among the blobs, packed
# Written out, so that the indexes of steps, of a case and of a call are used: a parameter might be anything.
STEPS = "kind = 'step'"
OF_CASE = "case_id = ? AND case_id <> ''"
OF_CALL = "call = ? AND call <> ''"
FINAL = ("running", "ok", "error")  # under these a key belongs to its call for good
NOTHING = ("", None, [], ())  # what a record leaves out
PAGE = 500
LONG = 30.0  # seconds a statement may take that looks through the ledger
PRUNED = 5_000  # records whose bodies go in one transaction, so that calls come between
PAY_SECONDS = 0.5
LOOK_SECONDS = 5.0
OWED = 10_000  # outcomes kept in memory while they cannot be written
BODIES = {"arguments": "arguments_blob", "result": "result_digest"}


def now() -> str:
    """This moment as the ledger writes it: RFC 3339, UTC, microseconds."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000:06d}Z"


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


class Ledger:
    """Writes what happens, finds it again, and proves that nobody changed it since."""

    def __init__(self, store: Store, redactor: Redactor, checkpoints: Checkpoints | None = None) -> None:
        self.store = store
        self.redactor = redactor
        self._checkpoints = checkpoints
        self._owed: deque[Callable[[Writing], Any]] = deque()
        self._gone: set[int] = set()  # the owners of open calls that had ended when last looked for
        self._look = 0.0
        self.id = ""

    async def prepare(self) -> Ledger:
        """Create the tables, learn the ledger's identity, and start signing checkpoints of its head."""
        await self.store.prepare(TABLES)

        def identify(connection: Writing) -> tuple[str, bool]:
            for table, column, kind in ADDED:  # begun by an earlier version
                if column not in connection.columns(table):
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            about = self.store.database.member("record", "about")
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS records_about ON records ({about}, seq) WHERE {STEPS}"
            )
            row = connection.execute("SELECT value FROM facts WHERE name = 'ledger'").fetchone()
            if row:
                return row[0], False
            fresh = secrets.token_hex(16)
            connection.execute("INSERT INTO facts VALUES ('ledger', ?)", (fresh,))
            return fresh, True

        self.id, created = await self.store.write(identify)
        if self._checkpoints is not None:
            if created:
                self._checkpoints.note(self.id, 0, "")
            elif trouble := await self.store.read(lambda c: contradiction(c, self._checkpoints)):
                log.error("%s; see `pointsman audit verify`", trouble)
            self.store.after_writing.append(self._checkpoint)
        return self

    async def secret(self, name: str) -> bytes:
        """A random key of 32 bytes that every gateway on this database shares."""

        def job(connection: Writing) -> bytes:
            fresh = secrets.token_hex(32)
            connection.execute("INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, fresh))
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
            return bytes.fromhex(row[0])

        return await self.store.write(job)

    # -- writing -----------------------------------------------------------------------------------

    async def intent(
        self, call: Call, decision: Decision, approval: str = "", also: Iterable[Also] = ()
    ) -> int:
        """Record that the call is about to run, spending its approval; only then may it be dispatched.

        `also` is done in the same transaction, and may forbid it by raising a LedgerError.
        """
        body, kept = self.redactor.pack(call.arguments)
        as_given = kept is call.arguments  # then they are the bytes that were hashed when it was accepted
        record = {
            **_about(call),
            **decision.told,
            "arguments_digest": call.digest,
            "arguments_blob": call.digest if as_given else hashlib.sha256(body).hexdigest(),
            "control": "enforced",
        }
        if approval:
            record["approval"] = approval

        def job(connection: Writing) -> int:
            for other in also:
                other(connection)
            if call.key:
                _claim_key(connection, call)
            if approval:
                _spend(connection, approval, call)
            seq = _chain(connection, "intent", record, body)
            connection.add("open_calls", (call.id, seq, connection.owner))
            return seq

        try:
            return await self.store.write(job)
        except asyncio.CancelledError:
            # It may be written although nobody waits for it any more, and it will never be dispatched.
            self.store.write_soon(lambda c: self._abandon(c, call))
            raise
        except LedgerUnavailable:
            self._owe(lambda c: self._abandon(c, call))  # it may be written, and will not be dispatched
            raise

    def _abandon(self, connection: Writing, call: Call) -> None:
        connection.flush()
        if connection.execute("SELECT 1 FROM open_calls WHERE call = ?", (call.id,)).fetchone():
            self._close(connection, _about(call), call.id, "cancelled", None)

    async def outcome(
        self,
        call: Call,
        result: Mapping[str, Any],
        *,
        status: str,
        ms: float = 0.0,
        packed: bytes | None = None,
        also: Also | None = None,
    ) -> int:
        """Record how the call ended, with its result (`packed`: as redacted); only then release it.

        `also` is done in the same transaction, and so is what makes a result that is `Written`.
        """
        record = {**_about(call), "control": "enforced", "ms": round(ms, 3)}
        if call.tool.labels:
            record["labels"] = call.tool.labels  # what the run has seen from here on

        body = packed if packed is not None else self.redactor.pack(result)[0]

        def close(connection: Writing, record: dict[str, Any]) -> int:
            told = body
            if isinstance(result, Written):
                result.clear()  # of what a transaction had given that was undone
                result.update(result.make(connection))
                told = self.redactor.pack(result)[0]
            return self._close(connection, record, call.id, status, told)

        def job(connection: Writing) -> int:
            if also is not None:
                also(connection)
            return close(connection, record)

        try:
            return await self.store.write(job)
        except LedgerUnavailable:
            held = {**record, "body": {"held": "it could not be recorded when it came, and was not released"}}
            self._owe(lambda c: close(c, held))
            raise

    def _owe(self, job: Callable[[Writing], Any]) -> None:
        """Keep what could not be written, until it can; a process that ends before leaves it `unknown`."""
        if len(self._owed) < OWED:
            self._owed.append(job)

    async def pay(self) -> None:
        """Write what could not be written when it happened."""
        while self._owed:
            try:
                await self.store.write(self._owed[0])
            except LedgerUnavailable:
                return
            except LedgerError as error:
                log.debug("%s", error)  # it was written after all, before the connection broke
            self._owed.popleft()

    async def keep(self) -> None:
        """Go on paying what is owed, and closing what other gateways left open when they ended."""
        while True:
            await asyncio.sleep(PAY_SECONDS)
            await self.pay()
            if self.store.database.shared and time.monotonic() >= self._look:
                self._look = time.monotonic() + LOOK_SECONDS
                try:
                    await self.recover(again=True)
                except LedgerUnavailable as error:
                    log.debug("%s", error)

    def _close(
        self, connection: Writing, record: dict[str, Any], call: str, status: str, body: bytes | None
    ) -> int:
        connection.remove("open_calls.call", call)
        result = b""
        facts = {**record, "status": status}
        if body is not None:
            result = hashlib.sha256(body).digest()
            facts["result_digest"] = result.hex()
        seq = _chain(connection, "outcome", facts, body)
        if record.get("key"):
            connection.execute(
                "UPDATE keys SET status = ?, result = ? WHERE scope = ? AND key = ? AND call = ?",
                (status, result or None, _scope(record), record["key"], call),
            )
        return seq

    async def refusal(
        self, subject: Subject | None, refusal: Any, call: Call | None = None, **facts: Any
    ) -> int:
        """Record that something was refused: by which code, which rules, with which words."""
        record: dict[str, Any] = {"verdict": "deny", "control": "refused", "code": refusal.code}
        record |= _who(subject) if subject else {}
        if call is not None:
            record |= {**_about(call), "arguments_digest": call.digest}
        rules = tuple(getattr(refusal, "rules", ()) or ())
        record["rules"] = [getattr(rule, "id", rule) for rule in rules]
        record["approval"] = getattr(refusal, "approval", "") or ""
        message = getattr(refusal, "message", "") or str(refusal)
        body = None if call is None else self.redactor.pack(call.arguments)[0]
        record = self._shape({**record, **facts, "message": message})
        if body is not None:
            record["arguments_blob"] = hashlib.sha256(body).hexdigest()
        return await self.store.write(lambda c: append_record(c, "refusal", record, body))

    async def append(self, kind: str, subject: Subject | None, **facts: Any) -> int:
        """Record anything else: a registration, a policy, a token, an approval, a step of a case."""
        record = self._shape({**(_who(subject) if subject else {}), **facts})
        return await self.store.write(lambda c: append_record(c, kind, record))

    def shaped(self, subject: Subject | None, **facts: Any) -> dict[str, Any]:
        """The record `append` would write, for a job that writes it together with its own rows."""
        return self._shape({**(_who(subject) if subject else {}), **facts})

    def _shape(self, facts: dict[str, Any]) -> dict[str, Any]:
        body = dict(facts.pop("body", None) or {})
        body |= {name: facts[name] for name in facts if name not in FIELDS}
        record = {name: value for name, value in facts.items() if name in FIELDS}
        if body:
            record["body"] = self.redactor.clean(body)
        return record

    async def recover(self, *, again: bool = False) -> list[str]:
        """Close every call that was cut off by a crash as `unknown`: it may have run.

        With `again`, only those whose gateway has been gone since the last time: a connection to
        the database that breaks for a moment is no crash.
        """

        def job(connection: Writing) -> list[str]:
            owners = connection.execute(
                "SELECT DISTINCT owner FROM open_calls WHERE owner <> ?", (connection.owner,)
            ).fetchall()
            gone = {owner for (owner,) in owners if connection.gone(owner)}
            ended = gone & self._gone if again else gone
            self._gone = gone
            return [call for owner in sorted(ended) for call in self._close_all(connection, owner)]

        return await self.store.write(job)

    def _close_all(self, connection: Writing, owner: int) -> list[str]:
        rows = connection.execute(
            "SELECT o.call, r.record FROM open_calls o JOIN records r ON r.seq = o.seq "
            "WHERE o.owner = ? ORDER BY o.seq",
            (owner,),
        ).fetchall()
        for call, text in rows:
            intent = orjson.loads(text)
            record = {name: intent[name] for name in INHERITED if name in intent}
            self._close(connection, {**record, "control": "enforced", "call": call}, call, "unknown", None)
        return [call for call, _ in rows]

    async def prune(self, seconds: float, by: Subject | None = None) -> dict[str, Any]:
        """Remove arguments and results older than this; what is removed is recorded before it goes."""
        limit = datetime.now(UTC) - timedelta(seconds=seconds)

        def mark(connection: Writing) -> tuple[int, int]:
            last = before(connection, limit.timestamp())
            done = pruned_through(connection)
            if last > done:
                told = self.shaped(by, body={"through": last, "before": _time(limit)})
                seq = append_record(connection, "retention", told)
                connection.execute(
                    "INSERT INTO facts VALUES ('retention', ?) "
                    "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    (str(seq),),
                )
            return done, max(done, last)

        done, through = await self.store.write(mark)
        for start in range(done, through, PRUNED):
            end = min(start + PRUNED, through)
            await self.store.write(lambda c, start=start, end=end: _remove_bodies(c, start, end))
        while await self.store.write(lambda c: _remove_blobs(c, through)):
            pass
        return {"through": through, "before": _time(limit)}

    # -- reading -----------------------------------------------------------------------------------

    async def find_key(self, subject: Subject, key: str) -> Replay | None:
        """What happened under this idempotency key of this subject and case, if anything did."""

        def job(connection: Connection) -> Replay | None:
            row = connection.execute(
                "SELECT call, tool, digest, status, result FROM keys WHERE scope = ? AND key = ?",
                (_scope(subject.told), key),
            ).fetchone()
            if row is None:
                return None
            call, tool, arguments, status, result = row
            body = _result_of(connection, call, result) if result else None
            return Replay(call, tool, arguments, status, orjson.loads(body) if body else None)

        return await self.store.read(job)

    async def search(
        self,
        *,
        case: str = "",
        subject: str = "",
        tool: str = "",
        kind: str = "",
        verdict: str = "",
        call: str = "",
        code: str = "",
        status: str = "",
        control: str = "",
        about: str = "",
        since: str = "",
        until: str = "",
        after: int = 0,
        limit: int = 100,
        newest: bool = False,
    ) -> dict[str, Any]:
        """Records that match, oldest first, and where to go on; `newest` starts from the end instead."""
        wanted = {
            "subject": subject,
            "tool": tool,
            "kind": kind,
            "verdict": verdict,
        }
        member = self.store.database.member
        inside = {"code": code, "status": status, "control": control, "about": about}
        conditions = {OF_CASE: case, OF_CALL: call}
        conditions |= {f"{column} = ?": value for column, value in wanted.items()}
        conditions |= {f"{member('record', name)} = ?": value for name, value in inside.items()}
        conditions |= {"time >= ?": since, "time < ?": until}
        clauses = [condition for condition, value in conditions.items() if value]
        clauses += [STEPS] if kind == "step" else []
        values = [value for value in conditions.values() if value]
        limit = max(1, min(int(limit), 1000))
        query = (
            f"SELECT seq, hash, record FROM records WHERE {' AND '.join(['seq > ?', *clauses])} "
            f"ORDER BY seq {'DESC' if newest else 'ASC'} LIMIT ?"
        )
        values = [int(after), *values, limit + 1]
        rows = await self.store.read(lambda c: c.execute(query, values).fetchall(), LONG)
        page = rows[:limit]
        if newest:
            page.reverse()
        more = len(rows) > limit and not newest
        return {"records": [_record(row) for row in page], "next": page[-1][0] if more else None}

    async def show(self, call: str) -> dict[str, Any] | None:
        """Everything about one call: its records, the arguments it was given, the result it released."""

        def job(connection: Connection) -> dict[str, Any] | None:
            rows = connection.execute(
                f"SELECT seq, hash, record FROM records WHERE {OF_CALL} ORDER BY seq", (call,)
            ).fetchall()
            if not rows:
                return None
            records = [_record(row) for row in rows]
            arguments = _first_body(connection, records, "arguments_blob")
            result = _first_body(connection, records, "result_digest")
            return {"records": records, "arguments": arguments, "result": result, "text": text_of(result)}

        return await self.store.read(job)

    async def verify(self) -> dict[str, Any]:
        """Whether every record is as it was written; names those that are not."""

        def job() -> Verification:
            with self.store.reading() as connection:
                return verify(connection, self._checkpoints)

        return (await asyncio.to_thread(job)).as_dict()

    async def export(
        self, *, after: int = 0, bodies: tuple[str, ...] = (), case: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        """Every record (of a case) in order, with its `arguments` and its `result` where asked for."""
        fields = [(name, BODIES[name]) for name in bodies]

        def page(connection: Connection, start: int) -> list[dict[str, Any]]:
            of, values = (f" AND {OF_CASE}", (case,)) if case else ("", ())
            rows = connection.execute(
                f"SELECT seq, hash, record FROM records WHERE seq > ?{of} ORDER BY seq LIMIT ?",
                (start, *values, PAGE),
            ).fetchall()
            records = [_record(row) for row in rows]
            for record in records:
                for name, field in fields:
                    if record.get(field):
                        record[name] = _first_body(connection, [record], field)
            return records

        while records := await self.store.read(lambda c, start=after: page(c, start), LONG):
            for record in records:
                yield record
            after = records[-1]["seq"]

    def _checkpoint(self, connection: Connection) -> None:
        row = connection.execute("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        if row and self._checkpoints is not None:
            self._checkpoints.note(self.id, row[0], row[1].hex())


# -- jobs of the writer thread -----------------------------------------------------------------------


def append_record(connection: Writing, kind: str, facts: Mapping[str, Any], body: bytes | None = None) -> int:
    """Write one record at the end of the chain; the caller's transaction makes it durable."""
    return _chain(connection, kind, {k: v for k, v in facts.items() if v or v not in NOTHING}, body)


def _chain(connection: Writing, kind: str, record: dict[str, Any], body: bytes | None) -> int:
    """Write this record, which is ours to complete, and in which nothing is empty."""
    last, prev = connection.head or _head(connection)
    record["seq"] = seq = last + 1
    record["kind"], record["time"], record["prev"] = kind, now(), prev
    text = canonical(record)
    hashed = hashlib.sha256(text).digest()
    if body is not None and len(body) > INLINE:
        _keep(connection, seq, body)
        body = None
    get = record.get
    call, subject, case, tool = get("call", ""), get("subject", ""), get("case", ""), get("tool", "")
    verdict, moment = get("verdict", ""), record["time"]
    row = (seq, hashed, kind, call, moment, subject, case, tool, verdict, text.decode(), body)
    connection.add("records", row)
    connection.head = (seq, hashed.hex())
    return seq


def _head(connection: Writing) -> tuple[int, str]:
    row = connection.execute("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0], row[1].hex()) if row else (0, "")


def _scope(record: Mapping[str, Any]) -> str:
    """Whose keys these are: one subject's in one case never meet those of another case."""
    return f"{record['subject']} {record.get('case') or record.get('run') or ''}"


def _claim_key(connection: Connection, call: Call) -> None:
    scope = _scope(call.subject.told)
    row = connection.execute(
        "SELECT call, digest, tool, status FROM keys WHERE scope = ? AND key = ?", (scope, call.key)
    ).fetchone()
    if row and (row[3] in FINAL or row[1:3] != (call.digest, call.tool.public)):
        raise KeyTaken(f"key {call.key!r} belongs to call {row[0]}: use another key for another call")
    connection.execute(
        "INSERT INTO keys VALUES (?, ?, ?, ?, ?, 'running', NULL) ON CONFLICT (scope, key) DO UPDATE SET "
        "call = excluded.call, tool = excluded.tool, digest = excluded.digest, status = 'running', "
        "result = NULL",
        (scope, call.key, call.id, call.tool.public, call.digest),
    )


def _spend(connection: Connection, approval: str, call: Call) -> None:
    spent = connection.execute(
        "UPDATE approvals SET status = 'used', call = ? WHERE id = ? AND status = 'granted' AND expires > ? "
        "AND subject = ? AND tool = ? AND tool_digest = ? AND digest = ? AND scope = ?",
        (
            call.id,
            approval,
            now(),
            call.subject.id,
            call.tool.public,
            call.tool.digest,
            call.digest,
            call.subject.work,
        ),
    ).rowcount
    if spent != 1:
        raise ApprovalSpent(
            f"approval {approval} serves one run of exactly the call it was given for, and is spent, expired "
            "or given for another call: make the call again to ask anew"
        )


def _keep(connection: Connection, seq: int, body: bytes) -> None:
    connection.execute(
        "INSERT INTO blobs (digest, packed, last, body) VALUES (?, 1, ?, ?) "
        "ON CONFLICT (digest) DO UPDATE SET last = excluded.last",
        (hashlib.sha256(body).digest(), seq, zlib.compress(body, 1)),
    )


def _remove_bodies(connection: Connection, start: int, end: int) -> None:
    connection.execute(
        "UPDATE records SET body = NULL WHERE seq > ? AND seq <= ? AND body IS NOT NULL", (start, end)
    )


def _remove_blobs(connection: Connection, through: int) -> int:
    return connection.execute(
        "DELETE FROM blobs WHERE digest IN (SELECT digest FROM blobs WHERE last <= ? LIMIT ?)",
        (through, PAGE),
    ).rowcount


def read_body(connection: Connection, seq: int, name: bytes) -> bytes | None:
    """The body of this record, which has this digest: beside it or among the blobs; None when it is gone."""
    row = connection.execute("SELECT body FROM records WHERE seq = ?", (seq,)).fetchone()
    if row is not None and row[0] is not None:
        return row[0]
    row = connection.execute("SELECT packed, body FROM blobs WHERE digest = ?", (name,)).fetchone()
    if row is None:
        return None
    return zlib.decompress(row[1]) if row[0] else row[1]


def _result_of(connection: Connection, call: str, name: bytes) -> bytes | None:
    row = connection.execute(
        f"SELECT seq FROM records WHERE {OF_CALL} AND kind = 'outcome' ORDER BY seq DESC LIMIT 1", (call,)
    ).fetchone()
    return read_body(connection, row[0], name) if row else None


def _first_body(connection: Connection, records: list[dict[str, Any]], field: str) -> Any:
    for record in records:
        if record.get(field):
            body = read_body(connection, record["seq"], bytes.fromhex(record[field]))
            return orjson.loads(body) if body is not None else None
    return None


def _record(row: tuple[int, bytes, str]) -> dict[str, Any]:
    return {**orjson.loads(row[2]), "hash": row[1].hex()}


def _who(subject: Subject) -> dict[str, Any]:
    return dict(subject.told)


def _about(call: Call) -> dict[str, Any]:
    """What every record of a call starts from; nothing in it is empty."""
    tool = call.tool
    record = {**call.subject.told, "call": call.id, "verb": call.verb, "tool": tool.public}
    if tool.server:
        record["server"] = tool.server
    if call.key:
        record["key"] = call.key
    return record


def text_of(result: Any) -> str:
    """The text parts of a tool result, one after the other: what a quotation is checked against."""
    content = result.get("content") if isinstance(result, dict) else None
    parts = content if isinstance(content, list) else []
    return "\n".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))
