"""Bearer tokens: random, shown once, kept as SHA-256 only, revoked with all that was issued under them."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.errors import MintRefused, UsageError
from gateway.store import Store
from gateway.types import ROLE_NAME, SUBJECT_NAME, Subject
from gateway.writing import Connection, Writing

TABLES = """
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, roles TEXT NOT NULL,
    chain TEXT NOT NULL, case_id TEXT NOT NULL, run TEXT NOT NULL, task TEXT NOT NULL,
    issued REAL NOT NULL, expires REAL, issued_by TEXT NOT NULL, revoked REAL);
CREATE INDEX IF NOT EXISTS tokens_expires ON tokens (expires);
"""

SHORT_SECONDS = 900.0  # of a token that an agent issues without saying for how long
LONGEST_SECONDS = 3600.0  # of any token that an agent issues
KEPT_SECONDS = 7 * 86_400  # after its expiry, in the list of all tokens; the ledger keeps it for good
_NAME = re.compile(r"[\x21-\x7e]{0,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wish:
    """A token somebody asks for: for whom, with what roles, for how long and for which case, run and task."""

    subject: str
    roles: tuple[str, ...] = ()
    expires_seconds: float | None = None
    case: str = ""
    run: str = ""
    task: str = ""


def within(by: Subject, wish: Wish) -> Wish:
    """The wish as this subject may have it fulfilled, whatever policy says; raises MintRefused.

    What an agent was given by an agent issues nothing, an agent issues to agents only and briefly, a token
    fixed to a case, run or task issues for no other, and none outlives the one it was issued under.
    """
    if by.task or any(link.startswith("agent:") for link in by.chain):
        raise MintRefused(f"the token of {by.id} is for one task and issues no others: have its issuer do it")
    if by.kind == "agent" and not wish.subject.startswith("agent:"):
        raise MintRefused(
            f"{by.id} issues tokens to agents only: have a person issue one to {wish.subject!r}"
        )
    for word in ("case", "run"):
        own, wanted = getattr(by, word), getattr(wish, word)
        if own and wanted and own != wanted:
            raise MintRefused(f"the token of {by.id} is for {word} {own} and issues none for {wanted}")
    seconds = wish.expires_seconds
    if by.kind == "agent":
        seconds = min(seconds or SHORT_SECONDS, LONGEST_SECONDS)
    if by.expires != float("inf"):
        seconds = min(seconds or float("inf"), max(by.expires - time.time(), 0.001))
    return replace(wish, expires_seconds=seconds, case=by.case or wish.case, run=by.run or wish.run)


class Tokens:
    """Issues tokens and says whose a token is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Subject] = {}
        self._changes = 0
        self._look_again = 1_000  # among so many, those that have expired are forgotten

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
        self._known = {row[0]: _subject(row) for row in rows}

    def verify(self, bearer: str) -> Subject | None:
        """Whose token this is; None when it is unknown, revoked or expired."""
        if not bearer.startswith("pm_") or len(bearer) > 200:
            return None
        hashed = hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).hexdigest()
        # What is compared is a hash the caller cannot steer, and once more in constant time.
        found = self._known.get(hashed)
        if found is None or not hmac.compare_digest(found.token, hashed[:16]):
            return None
        if found.expires <= time.time():
            del self._known[hashed]
            return None
        return found

    async def look(self, bearer: str) -> Subject | None:
        """Whose token this is, where another process may have issued it a moment ago and not told us yet."""
        if not self._store.database.shared or not bearer.startswith("pm_") or len(bearer) > 200:
            return None
        hashed = hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).hexdigest()

        def job(connection: Connection) -> Any:
            return connection.execute(
                "SELECT hash, subject, roles, chain, case_id, run, task, expires FROM tokens "
                "WHERE hash = ? AND revoked IS NULL AND (expires IS NULL OR expires > ?)",
                (hashed, time.time()),
            ).fetchone()

        changes = self._changes
        row = await self._store.read(job)
        if row is not None and changes == self._changes:  # else the next request finds it
            self._known[hashed] = _subject(row)
        return self.verify(bearer)

    async def issue(
        self,
        subject: str,
        roles: tuple[str, ...] | list[str] = (),
        expires_seconds: float | None = None,
        chain: tuple[str, ...] | list[str] = (),
        case: str = "",
        run: str = "",
        task: str = "",
        under: str = "",
    ) -> dict[str, Any]:
        """A new token for this subject; the token itself is in this answer and nowhere else.

        `chain` ends with who asks for it. An agent acts for those; a person acts for nobody. With the token
        it was issued `under` (its short hash), it is revoked together.
        """
        _check(subject, roles, expires_seconds, (case, run, task))
        by = f"{chain[-1]}#{under}" if under else chain[-1] if chain else ""
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
            connection.execute("DELETE FROM tokens WHERE expires < ?", (issued - KEPT_SECONDS,))
            connection.tell("tokens")

        await self._store.write(job)
        self._changes += 1
        told = (hashed, subject, row[3], row[4], case, run, task, expires)
        self._known[hashed] = _subject(told)
        if len(self._known) > self._look_again:
            self._forget_expired()
        return {"token": token, "id": row[0], "subject": subject, "expires": _time(expires), "hash": hashed}

    def _forget_expired(self) -> None:
        now = time.time()
        self._known = {hashed: who for hashed, who in self._known.items() if who.expires > now}
        self._look_again = max(1_000, 2 * len(self._known))

    async def revoke(self, token_id: str) -> dict[str, Any]:
        """End a token at once, and those that were issued under it; says whose it was."""

        def job(connection: Writing) -> list[tuple[str, str, str]]:
            found = connection.execute(
                "SELECT id, hash, subject FROM tokens WHERE id = ?", (token_id,)
            ).fetchall()
            ended, look_at = list(found), list(found)
            while look_at:
                _, hashed, subject = look_at.pop()
                under = connection.execute(
                    "SELECT id, hash, subject FROM tokens WHERE issued_by = ? AND revoked IS NULL",
                    (f"{subject}#{hashed[:16]}",),
                ).fetchall()
                ended += under
                look_at += under
            for one, _, _ in ended:
                connection.execute(
                    "UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL", (time.time(), one)
                )
            connection.tell("tokens")
            return ended

        ended = await self._store.write(job)
        if not ended:
            raise UsageError(f"no token {token_id!r}: see `pointsman tokens list` for the ids")
        self._changes += 1
        for _, hashed, _ in ended:
            self._known.pop(hashed, None)
        return {"id": token_id, "subject": ended[0][2], "revoked": True, "with": [e[0] for e in ended[1:]]}

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
    hashed, subject, roles, chain, case, run, task, expires = row
    held, behind = tuple(orjson.loads(roles)), tuple(orjson.loads(chain))
    return Subject(subject, held, behind, case, run, task, hashed[:16], expires or float("inf"))


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
