"""Checks a ledger from its first record to its head, and against the checkpoints kept elsewhere."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.checkpoints import Checkpoints
from gateway.writing import Connection, Writing

SHOWN = 100  # problems reported in full; beyond that they are counted
COLUMNS = ("kind", "call", "time", "subject", "case", "tool", "verdict")
BODIES = ("arguments_blob", "result_digest")


@dataclass
class Verification:
    """What was found: how many records, which head, and every record that is not as it was written."""

    records: int = 0
    head: str = ""
    problems: list[dict[str, Any]] = field(default_factory=list)
    more: int = 0
    pruned: int = 0  # the last record whose bodies retention has removed
    notes: list[str] = field(default_factory=list)

    def wrong(self, seq: int, kind: str, message: str) -> None:
        """Note a problem at a record."""
        if len(self.problems) < SHOWN:
            self.problems.append({"seq": seq, "kind": kind, "message": message})
        else:
            self.more += 1

    def as_dict(self) -> dict[str, Any]:
        """As the admin tool and `audit verify` answer."""
        return {
            "ok": not self.problems,
            "records": self.records,
            "head": self.head,
            "problems": self.problems,
            "more_problems": self.more,
            "pruned_through": self.pruned,
            "notes": self.notes,
        }


def verify(connection: Writing, checkpoints: Checkpoints | None = None) -> Verification:
    """Read the whole ledger once, in constant memory."""
    found = Verification()
    connection.snapshot()  # one moment, whatever is written meanwhile
    heads = _heads(connection, checkpoints, found)
    found.pruned = pruned_through(connection)
    _chain(connection, heads, found)
    _bodies(connection, found)
    connection.execute("COMMIT")
    return found


def pruned_through(connection: Connection) -> int:
    """The last record whose bodies are gone by a retention that the ledger tells of."""
    # A fact only says where to look, so that nothing has to be read through: the record is what counts.
    where = connection.execute("SELECT value FROM facts WHERE name = 'retention'").fetchone()
    sought = "SELECT record FROM records WHERE seq = ? AND kind = 'retention'"
    row = connection.execute(sought, (int(where[0]),)).fetchone() if where else None
    record = _parse(row[0]) if row else None
    body = record.get("body") if record else None
    through = body.get("through") if isinstance(body, dict) else None
    return through if isinstance(through, int) else 0


def contradiction(connection: Connection, checkpoints: Checkpoints | None) -> str:
    """What the last checkpoint says against this ledger, without reading it through; empty for nothing."""
    found = Verification()
    heads = _heads(connection, checkpoints, found)
    if heads:
        seq = max(heads)
        row = connection.execute("SELECT hash FROM records WHERE seq = ?", (seq,)).fetchone()
        if row is None or row[0].hex() != heads[seq]:
            found.wrong(seq, "replaced", f"record {seq} is not the one the last checkpoint was signed for")
    return found.problems[0]["message"] if found.problems else ""


def _heads(connection: Connection, checkpoints: Checkpoints | None, found: Verification) -> dict[int, str]:
    if checkpoints is None:
        found.notes.append("no checkpoints were consulted: a cut tail or a swapped file would go unseen")
        return {}
    notes, unsigned = checkpoints.read()
    for message in unsigned:
        found.wrong(0, "checkpoint", message)
    row = connection.execute("SELECT value FROM facts WHERE name = 'ledger'").fetchone()
    ledger = row[0] if row else ""
    if not notes:
        found.notes.append(f"no checkpoint of this ledger in {checkpoints.path}")
        return {}
    first = next((n for n, note in enumerate(notes) if note["ledger"] == ledger), len(notes))
    if first and (first == len(notes) or notes[first]["seq"]):  # one begun here has a note of its beginning
        other = notes[first - 1]
        found.wrong(
            0,
            "replaced",
            f"this ledger did not begin here: another one, with {other['seq']} records, stood here",
        )
    heads: dict[int, str] = {}
    for note in notes:
        seq, head = note["seq"], note["head"]
        if note["ledger"] == ledger and seq and heads.setdefault(seq, head) != head:
            found.wrong(seq, "replaced", f"record {seq} was checkpointed with two contents")
    return heads


def _chain(connection: Writing, heads: dict[int, str], found: Verification) -> None:
    prev, last, highest = "", 0, max(heads, default=0)
    rows = connection.stream(
        "SELECT seq, hash, record, body, kind, call, time, subject, case_id, tool, verdict "
        "FROM records ORDER BY seq"
    )
    for seq, kept, text, body, *columns in rows:
        if seq != last + 1:
            gap = f"record {last + 1}" if seq == last + 2 else f"records {last + 1} to {seq - 1}"
            found.wrong(seq, "deleted", f"{gap} missing before record {seq}")
        record = _parse(text)
        real = hashlib.sha256(text.encode()).hexdigest()
        if record is None or real != kept.hex() or record.get("seq") != seq:
            found.wrong(seq, "edited", f"record {seq} is not the one that was written")
        elif [record.get(name, "") for name in COLUMNS] != columns:
            found.wrong(
                seq, "edited", f"record {seq}: its searchable columns do not say what the record says"
            )
        if record is not None and record.get("prev") != prev and seq == last + 1:
            found.wrong(
                seq,
                "broken",
                f"record {seq} does not follow record {last}: one of them was replaced or moved",
            )
        if seq in heads and heads[seq] != kept.hex():
            found.wrong(seq, "replaced", f"record {seq} is not the one the checkpoint was signed for")
        _body(connection, seq, record or {}, body, found)
        prev, last = kept.hex(), seq
        found.records += 1
        found.head = prev
    if highest > last:
        found.wrong(last, "truncated", f"records {last + 1} to {highest} are missing from the end")


def _body(
    connection: Writing, seq: int, record: dict[str, Any], body: bytes | None, found: Verification
) -> None:
    """Check that the body a record names is there, and is the one it names."""
    for name in BODIES:
        if not record.get(name):
            continue
        if body is None and seq > found.pruned and not _has_blob(connection, record[name]):
            found.wrong(seq, "body", f"record {seq}: the body behind its {name} is gone")
        elif body is not None and hashlib.sha256(body).hexdigest() != record[name]:
            found.wrong(
                seq, "body", f"record {seq}: the body behind its {name} is not the one that was written"
            )


def _has_blob(connection: Writing, name: str) -> bool:
    return (
        connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (bytes.fromhex(name),)).fetchone()
        is not None
    )


def _parse(text: str) -> dict[str, Any] | None:
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def _bodies(connection: Writing, found: Verification) -> None:
    for name, packed, body in connection.stream("SELECT digest, packed, body FROM blobs"):
        try:
            real = hashlib.sha256(zlib.decompress(body) if packed else body).digest()
        except zlib.error:
            real = b""
        if real != name:
            found.wrong(0, "body", f"body {name.hex()} is not what was kept under this digest")
