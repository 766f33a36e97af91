"""How much one subject may do: at once, in a minute, of one tool, and in a case."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import orjson

from gateway.errors import BudgetSpent, Refusal
from gateway.labels import DAY
from gateway.ledger import OF_CASE, Ledger
from gateway.remembered import Remembered
from gateway.settings import Settings
from gateway.types import Call, Subject, Tool
from gateway.writing import Connection, Writing, before

REMEMBERED = 10_000
FREELY: AbstractContextManager[None] = nullcontext()


class Held:
    """One call that is under way, for as long as this is entered."""

    __slots__ = ("_running", "_who")

    def __init__(self, running: dict[str, int], who: str) -> None:
        self._running = running
        self._who = who

    def __enter__(self) -> None:
        self._running[self._who] = self._running.get(self._who, 0) + 1

    def __exit__(self, *failure: object) -> None:
        left = self._running[self._who] - 1
        if left:
            self._running[self._who] = left
        else:
            del self._running[self._who]


class Flow:
    """Calls of somebody or of something: how many are under way, and how many the minute has room for."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._minute: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who → (left, when)

    async def prepare(self) -> None:
        """Get ready to count."""

    async def admit(self, who: str, at_once: int, a_minute: int) -> AbstractContextManager[None]:
        """Let a call in for as long as it takes, or refuse it and say when to come back; 0 is no limit."""
        if at_once and self._running.get(who, 0) >= at_once:
            raise crowded(who, at_once)
        if a_minute:
            self._rate(who, a_minute)
        return Held(self._running, who)

    def _rate(self, who: str, a_minute: int) -> None:
        moment = time.monotonic()
        left, then = self._minute.pop(who, (float(a_minute), moment))
        left = min(float(a_minute), left + (moment - then) * a_minute / 60)
        self._minute[who] = (left - 1 if left >= 1 else left, moment)
        if len(self._minute) > REMEMBERED:
            self._minute.popitem(last=False)
        if left < 1:
            raise hurried(who, a_minute, (1 - left) * 60 / a_minute)


def crowded(who: str, at_once: int) -> Refusal:
    """There are as many calls in flight as there may be."""
    message = f"{who} has {at_once} calls in flight, as many as it may: wait for one to end"
    return Refusal("limit_exceeded", message, retry_after=1)


def hurried(who: str, a_minute: int, seconds: float) -> Refusal:
    """The minute has no room for another call until so many seconds have passed."""
    wait = math.ceil(seconds * 10) / 10  # not sooner than there is room
    message = f"{who} has made its {a_minute} calls of this minute: wait {wait} s"
    return Refusal("limit_exceeded", message, retry_after=wait)


class Spent:
    """How many calls a case has made."""

    __slots__ = ("__weakref__", "calls")

    def __init__(self, calls: int) -> None:
        self.calls = calls


BUDGETS = "CREATE TABLE IF NOT EXISTS budgets (name TEXT PRIMARY KEY, calls INTEGER NOT NULL)"


class Limits:
    """Rates begin anew with the gateway; the budget of a case is what the ledger has of it.

    Where gateways share a database, rates and calls at once go through `flow`, and budgets through `charge`.
    """

    def __init__(self, settings: Settings, ledger: Ledger, flow: Flow | None = None) -> None:
        self._ledger = ledger
        self._shared = flow is not None
        self._at_once = settings.max_concurrent
        self._a_minute = settings.max_per_minute
        self._a_case = settings.max_per_case
        self._flow = flow or Flow()
        self._cases: Remembered[Spent] = Remembered()

    async def prepare(self) -> None:
        """Create the tables that are shared with other gateways."""
        if self._shared:
            await self._ledger.store.prepare(BUDGETS)
            await self._flow.prepare()

    async def admit(self, subject: Subject) -> AbstractContextManager[None]:
        """Let a call of this subject in, or refuse it because of what it has under way or behind it."""
        return await self._flow.admit(subject.id, self._at_once, self._a_minute)

    async def use(self, subject: Subject, tool: Tool) -> AbstractContextManager[None]:
        """The same for this subject and tool, where the operator set limits for the tool."""
        if not (tool.at_once or tool.per_minute):
            return FREELY
        return await self._flow.admit(f"{subject.id} on {tool.public}", tool.at_once, tool.per_minute)

    async def spend(self, call: Call) -> None:
        """Take one call out of the budget of its case, else of its run."""
        case = call.subject.case or call.subject.run
        if not self._a_case or not case:
            return
        spent = await self._cases.get(case, lambda: self._read(call.subject))
        if spent.calls >= self._a_case:
            raise self._exhausted(case)
        if not self._shared:  # else it is counted in the database, with the intent
            spent.calls += 1

    def charge(self, call: Call) -> Callable[[Writing], None] | None:
        """What counts the call in the budget all gateways share, in the transaction of its intent."""
        case = call.subject.case or call.subject.run
        if not self._shared or not self._a_case or not case:
            return None
        return lambda connection: _charge(connection, call.subject, self._a_case)

    async def refuse(self, call: Call) -> Refusal:
        """What to say of a call whose budget other gateways have used up; later ones are told sooner."""
        case = call.subject.case or call.subject.run
        (await self._cases.get(case, lambda: self._read(call.subject))).calls = self._a_case
        return self._exhausted(case)

    def _exhausted(self, case: str) -> Refusal:
        told = f"case {case} has made its {self._a_case} calls, and gets no more: finish with what is known"
        return Refusal("limit_exceeded", told)

    async def _read(self, subject: Subject) -> Spent:
        return await self._ledger.store.read(lambda connection: _past(connection, subject))


def _charge(connection: Writing, subject: Subject, most: int) -> None:
    name = f"case {subject.case}" if subject.case else f"run {subject.run}"
    counted = connection.execute(
        "UPDATE budgets SET calls = calls + 1 WHERE name = ? AND calls < ?", (name, most)
    )
    if counted.rowcount:
        return
    if not connection.execute("SELECT 1 FROM budgets WHERE name = ?", (name,)).fetchone():
        calls = _past(connection, subject).calls  # made before there was a budget
        if calls < most:
            connection.execute("INSERT INTO budgets VALUES (?, ?)", (name, calls + 1))
            return
    raise BudgetSpent(f"the {most} calls of {name} have been made")


def _past(connection: Connection, subject: Subject) -> Spent:
    """The calls that stand in the ledger: all of a case, else of the last day's part of a run."""
    if subject.case:
        query = f"SELECT COUNT(*) FROM records WHERE {OF_CASE} AND kind = 'intent'"
        return Spent(connection.execute(query, (subject.case,)).fetchone()[0])
    rows = connection.execute(
        "SELECT record FROM records WHERE seq > ? AND case_id = '' AND kind = 'intent'",
        (before(connection, time.time() - DAY),),
    ).fetchall()
    return Spent(sum(orjson.loads(text).get("run") == subject.run for (text,) in rows))
