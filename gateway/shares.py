"""Limits that hold for all gateways of one database together: each takes its share in blocks.

A rate is one bucket in a table, of which a gateway takes a fiftieth at a time; slots for calls at once are
counted in a table, and a fortieth of them is free to each gateway. So a limit is kept to within 2 or 3 % for
each gateway, and most calls ask nobody. Limits too small to be cut up are asked for call by call: exact.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from gateway.errors import LedgerError
from gateway.limits import REMEMBERED, Flow, Held, crowded, hurried
from gateway.store import Store
from gateway.writing import Writing

TABLES = """
CREATE TABLE IF NOT EXISTS rates (who TEXT PRIMARY KEY, room REAL NOT NULL, moment REAL NOT NULL);
CREATE TABLE IF NOT EXISTS slots (
    who TEXT NOT NULL, owner INTEGER NOT NULL, held INTEGER NOT NULL, PRIMARY KEY (who, owner));
"""
BLOCKS = 50  # a rate is taken in so many parts
FREE = 40  # so many gateways may each use a part of the slots without asking, before they are doubled
KEPT_SECONDS = 60.0  # how long a block of a rate may be used: until it would have grown again
IDLE_SECONDS = 1.0  # how long slots that nobody uses are kept


class SharedFlow(Flow):
    """Calls of somebody or of something, at this gateway and at all others on the same database."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._asking: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._blocks: OrderedDict[str, tuple[int, float]] = OrderedDict()  # who → (calls left, until)
        self._empty: OrderedDict[str, float] = OrderedDict()  # who → when there is room again
        self._held: dict[str, int] = {}  # slots taken from the table
        self._waiting: dict[str, int] = {}  # calls that wait for one
        self._tidying: set[str] = set()
        self._unsure: set[str] = set()  # whose slots in the table may be others than we think

    async def prepare(self) -> None:
        """Create the tables, and forget the slots of gateways that have ended."""
        await self._store.prepare(TABLES)

        def job(connection: Writing) -> None:
            for (owner,) in connection.execute("SELECT DISTINCT owner FROM slots").fetchall():
                _forget_gone(connection, owner)

        await self._store.write(job)

    async def admit(self, who: str, at_once: int, a_minute: int) -> AbstractContextManager[None]:
        """Let a call in for as long as it takes, or refuse it and say when to come back; 0 is no limit."""
        if a_minute:
            await self._take(who, a_minute)
        if at_once:
            try:
                await self._find_slot(who, at_once)
            except BaseException:
                self._put_back(who)
                raise
        return self._hold_slot(who, at_once)

    # -- rates -------------------------------------------------------------------------------------

    async def _take(self, who: str, a_minute: int) -> None:
        while True:
            left, until = self._blocks.get(who, (0, 0.0))
            moment = time.monotonic()
            if left and moment < until:
                self._blocks[who] = (left - 1, until)
                return
            if (wait := self._empty.get(who, 0.0) - moment) > 0:
                raise hurried(who, a_minute, wait)
            await self._ask((who, "rate"), lambda c: _block(c, who, a_minute), self._got_block)

    def _put_back(self, who: str) -> None:
        if who in self._blocks:
            left, until = self._blocks[who]
            self._blocks[who] = (left + 1, until)

    def _got_block(self, got: tuple[str, int, float]) -> None:
        who, calls, wait = got
        moment = time.monotonic()
        _latest(self._blocks, who, (calls, moment + KEPT_SECONDS))
        _latest(self._empty, who, moment + wait)

    # -- slots -------------------------------------------------------------------------------------

    async def _find_slot(self, who: str, at_once: int) -> None:
        free = at_once // FREE
        while self._running.get(who, 0) >= free + (held := self._held.get(who, 0)):
            self._waiting[who] = self._waiting.get(who, 0) + 1
            try:
                got = await self._ask((who, "slots"), self._slots_job(who, at_once, held), self._got_slots)
            finally:
                self._waiting[who] -= 1
            if got == (who, held):
                raise crowded(who, at_once)

    def _slots_job(self, who: str, at_once: int, held: int) -> Callable[[Writing], tuple[str, int]]:
        return lambda c: _slots(c, who, at_once, held, self._waiting.get(who, 0))

    def _got_slots(self, got: tuple[str, int]) -> None:
        who, held = got
        self._held[who] = held
        self._tidy_later(who)

    @contextmanager
    def _hold_slot(self, who: str, at_once: int) -> Iterator[None]:
        try:
            with Held(self._running, who):
                yield
        finally:
            free = at_once // FREE
            used = max(0, self._running.get(who, 0) - free)
            if self._held.get(who, 0) - used > 2 * free:
                self._give_back(who, used + free)

    def _give_back(self, who: str, keep: int) -> None:
        self._tidy_later(who)
        if (who, "slots") in self._asking or (who, "back") in self._asking:
            return
        self._held[who] = keep  # what is asked for after this is written after it
        self._begin((who, "back"), lambda c: _hold(c, who, keep), lambda held: None)

    def _tidy_later(self, who: str) -> None:
        if who not in self._tidying:
            self._tidying.add(who)
            asyncio.get_running_loop().call_later(IDLE_SECONDS, self._tidy, who)

    def _tidy(self, who: str) -> None:
        """Give back what is held and not used, and again if it is not sure to have been written."""
        self._tidying.discard(who)
        if self._running.get(who) or self._waiting.get(who):
            self._tidy_later(who)
        elif self._held.get(who) or who in self._unsure:
            self._unsure.discard(who)
            self._give_back(who, 0)
        else:
            self._held.pop(who, None)
            self._waiting.pop(who, None)

    # -- asking the database, one question of a kind at a time ---------------------------------------

    async def _ask(
        self, key: tuple[str, str], job: Callable[[Writing], Any], got: Callable[[Any], None]
    ) -> Any:
        asking = self._asking.get(key) or self._begin(key, job, got)
        return await asyncio.shield(asking)

    def _begin(
        self, key: tuple[str, str], job: Callable[[Writing], Any], got: Callable[[Any], None]
    ) -> asyncio.Task[Any]:
        written = self._store.write_soon(job)  # in this order, whatever is waited for first
        asking = self._asking[key] = asyncio.create_task(self._answered(key, written, got))
        asking.add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )  # somebody may wait or not
        return asking

    async def _answered(
        self, key: tuple[str, str], written: asyncio.Future[Any], got: Callable[[Any], None]
    ) -> Any:
        """The answer, once it is taken in: nobody goes on who would not find it."""
        try:
            answer = await written
            got(answer)
            return answer
        except LedgerError:
            self._unsure.add(key[0])
            self._tidy_later(key[0])
            raise
        finally:
            del self._asking[key]


def _latest(of: OrderedDict[str, Any], who: str, value: Any) -> None:
    of[who] = value
    of.move_to_end(who)
    if len(of) > REMEMBERED:
        of.popitem(last=False)


# -- jobs of the writer, who holds the head and so is the only one -----------------------------------


def _block(connection: Writing, who: str, a_minute: int) -> tuple[str, int, float]:
    """A block of calls out of this bucket, or none and the seconds until there is one."""
    block = max(1, a_minute // BLOCKS)
    now, room, moment = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp())::float8, (SELECT room FROM rates WHERE who = ?), "
        "(SELECT moment FROM rates WHERE who = ?)",
        (who, who),
    ).fetchone()
    room = a_minute if room is None else min(a_minute, room + max(0.0, now - moment) * a_minute / 60)
    if room < block:
        return who, 0, (block - room) * 60 / a_minute
    connection.execute(
        "INSERT INTO rates VALUES (?, ?, ?) ON CONFLICT (who) DO UPDATE SET room = excluded.room, "
        "moment = excluded.moment",
        (who, room - block, now),
    )
    connection.execute("DELETE FROM rates WHERE moment < ?", (now - 60,))  # which are full again
    return who, block, 0.0


def _slots(connection: Writing, who: str, at_once: int, held: int, wanted: int) -> tuple[str, int]:
    """How many slots this gateway holds now: more than before, where the others leave any."""
    free = at_once // FREE
    room = at_once - free - held - _others(connection, who)
    if room < 1:
        found = connection.execute("SELECT owner FROM slots WHERE who = ?", (who,)).fetchall()
        for (owner,) in found:
            _forget_gone(connection, owner)
        room = at_once - free - held - _others(connection, who)
    return who, _hold(connection, who, held + min(max(1, free, wanted), room)) if room > 0 else held


def _others(connection: Writing, who: str) -> int:
    query = "SELECT COALESCE(SUM(held), 0)::bigint FROM slots WHERE who = ? AND owner <> ?"
    return connection.execute(query, (who, connection.owner)).fetchone()[0]


def _hold(connection: Writing, who: str, held: int) -> int:
    if held:
        connection.execute(
            "INSERT INTO slots VALUES (?, ?, ?) ON CONFLICT (who, owner) DO UPDATE SET held = excluded.held",
            (who, connection.owner, held),
        )
    else:
        connection.execute("DELETE FROM slots WHERE who = ? AND owner = ?", (who, connection.owner))
    return held


def _forget_gone(connection: Writing, owner: int) -> None:
    if owner != connection.owner and connection.gone(owner):
        connection.execute("DELETE FROM slots WHERE owner = ?", (owner,))
