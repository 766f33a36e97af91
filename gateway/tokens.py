"""Bearer tokens: random, shown once, kept as SHA-256 only, revoked at once."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.errors import UsageError
from gateway.store import Store
from gateway.types import ROLE_NAME, SUBJECT_NAME, Subject
from gateway.writing import Connection, Writing

TABLES = """
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, roles TEXT NOT NULL,
    chain TEXT NOT NULL, case_id TEXT NOT NULL, run TEXT NOT NULL, task TEXT NOT NULL,
    issued REAL NOT NULL, expires REAL, issued_by TEXT NOT NULL, revoked REAL);
"""

_NAME = re.compile(r"[\x21-\x7e]{0,200}", re.ASCII)


class Tokens:
    """Issues tokens and says whose a token is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[Subject, float]] = {}
        self._changes = 0

    async def prepare(self) -> Tokens:
        """Create the table and read the tokens that are valid."""
        await self._store.prepare(TABLES)
        self._store.on("tokens", self.reload)
        await self.reload()
        return self

    async def reload(self) -> None:
        """Read the valid tokens again, as after another process has issued or revoked some."""

        def job(connection: Connection) -> list[Any]:
            return connection.execute(
                "SELECT hash, subject, roles, chain, case_id, run, task, expires FROM tokens "
                "WHERE revoked IS NULL AND (expires IS NULL OR expires > ?)",
                (time.time(),),
            ).fetchall()

        while True:
            changes = self._changes
            rows = await self._store.read(job)
            if changes == self._changes:  # else one was issued or revoked here since it was read
                break
        self._known = {row[0]: (_subject(row), row[7] or float("inf")) for row in rows}

    def verify(self, bearer: str) -> Subject | None:
        """Whose token this is; None when it is unknown, revoked or expired."""
        if not bearer.startswith("pm_") or len(bearer) > 200:
            return None
        hashed = hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).hexdigest()
        # What is compared is a hash the caller cannot steer, and once more in constant time.
        found = self._known.get(hashed)
        if found is None or not hmac.compare_digest(found[0].token, hashed[:16]):
            return None
        if found[1] <= time.time():
            del self._known[hashed]
            return None
        return found[0]

    async def issue(
        self,
        subject: str,
        roles: tuple[str, ...] | list[str] = (),
        expires_seconds: float | None = None,
        chain: tuple[str, ...] | list[str] = (),
        case: str = "",
        run: str = "",
        task: str = "",
    ) -> dict[str, Any]:
        """A new token for this subject; the token itself is in this answer and nowhere else.

        `chain` ends with who asks for it. An agent acts for those; a person acts for nobody.
        """
        _check(subject, roles, expires_seconds, (case, run, task))
        by = chain[-1] if chain else ""
        chain = () if subject.startswith("user:") else chain
        token = "pm_" + secrets.token_urlsafe(32)
        hashed = hashlib.sha256(token.encode()).hexdigest()
        issued = time.time()
        expires = issued + expires_seconds if expires_seconds else None
        row = (
            "t_" + hashed[:12],
            hashed,
            subject,
            orjson.dumps(list(roles)).decode(),
            orjson.dumps(list(chain)).decode(),
            case,
            run,
            task,
            issued,
            expires,
            by,
        )

        def job(connection: Writing) -> None:
            connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
            connection.tell("tokens")

        await self._store.write(job)
        who = Subject(subject, tuple(roles), tuple(chain), case, run, task, hashed[:16])
        self._changes += 1
        self._known[hashed] = (who, expires or float("inf"))
        return {"token": token, "id": row[0], "subject": subject, "expires": _time(expires), "hash": hashed}

    async def revoke(self, token_id: str) -> dict[str, Any]:
        """End a token at once; says whose it was."""

        def job(connection: Writing) -> tuple[str, str] | None:
            row = connection.execute("SELECT hash, subject FROM tokens WHERE id = ?", (token_id,)).fetchone()
            if row:
                connection.execute(
                    "UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL", (time.time(), token_id)
                )
                connection.tell("tokens")
            return row

        row = await self._store.write(job)
        if row is None:
            raise UsageError(f"no token {token_id!r}: see `pointsman tokens list` for the ids")
        self._changes += 1
        self._known.pop(row[0], None)
        return {"id": token_id, "subject": row[1], "revoked": True}

    async def list(self, *, all: bool = False) -> list[dict[str, Any]]:
        """The tokens that are valid, or all there ever were; never the tokens themselves."""

        def job(connection: Connection) -> list[Any]:
            return connection.execute(
                "SELECT id, subject, roles, chain, case_id, run, task, issued, expires, revoked FROM tokens "
                "ORDER BY issued"
            ).fetchall()

        rows = [_row(row) for row in await self._store.read(job)]
        return [row for row in rows if all or row["status"] == "valid"]


def _check(subject: str, roles: Any, expires: float | None, names: tuple[str, ...]) -> None:
    if not SUBJECT_NAME.fullmatch(subject):
        raise UsageError(
            f"subject {subject!r} is not a name: write agent:NAME or user:NAME (letters, digits, . _ @ -)"
        )
    for role in roles:
        if not isinstance(role, str) or not ROLE_NAME.fullmatch(role):
            raise UsageError(f"role {role!r} is not a name: use letters, digits and . _ -")
    if expires is not None and not 0 < expires <= 10 * 366 * 86_400:
        raise UsageError(f"expiry of {expires} s is out of range: give seconds between 1 and ten years")
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be a case, run or task: use up to 200 visible ASCII characters"
            )


def _subject(row: Any) -> Subject:
    hashed, subject, roles, chain, case, run, task, _ = row
    return Subject(
        subject, tuple(orjson.loads(roles)), tuple(orjson.loads(chain)), case, run, task, hashed[:16]
    )


def _row(row: Any) -> dict[str, Any]:
    token_id, subject, roles, chain, case, run, task, issued, expires, revoked = row
    status = "revoked" if revoked else "expired" if expires and expires <= time.time() else "valid"
    return {
        "id": token_id,
        "subject": subject,
        "roles": orjson.loads(roles),
        "chain": orjson.loads(chain),
        "case": case,
        "run": run,
        "task": task,
        "issued": _time(issued),
        "expires": _time(expires),
        "status": status,
    }


def _time(moment: float | None) -> str | None:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
