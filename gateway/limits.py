"""How much one subject may do: at once, in a minute, of one tool, and in a case."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import orjson

from gateway.errors import Refusal
from gateway.labels import DAY, before
from gateway.ledger import Ledger
from gateway.remembered import Remembered
from gateway.settings import Settings
from gateway.types import Call, Subject, Tool
from gateway.writing import Connection

REMEMBERED = 10_000
FREELY: AbstractContextManager[None] = nullcontext()


class Flow:
    """Calls of somebody or of something: how many are under way, and how many the minute has room for."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._minute: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who → (left, when)

    @contextmanager
    def admit(self, who: str, at_once: int, a_minute: int) -> Iterator[None]:
        """Let a call in for as long as it takes, or refuse it and say when to come back; 0 is no limit."""
        running = self._running.get(who, 0)
        if at_once and running >= at_once:
            raise Refusal(
                "limit_exceeded",
                f"{who} has {running} calls in flight, as many as it may: wait for one to end",
                retry_after=1,
            )
        if a_minute:
            self._rate(who, a_minute)
        self._running[who] = running + 1
        try:
            yield
        finally:
            left = self._running[who] - 1
            if left:
                self._running[who] = left
            else:
                del self._running[who]

    def _rate(self, who: str, a_minute: int) -> None:
        moment = time.monotonic()
        left, then = self._minute.pop(who, (float(a_minute), moment))
        left = min(float(a_minute), left + (moment - then) * a_minute / 60)
        self._minute[who] = (left - 1 if left >= 1 else left, moment)
        if len(self._minute) > REMEMBERED:
            self._minute.popitem(last=False)
        if left < 1:
            wait = math.ceil((1 - left) * 600 / a_minute) / 10  # not sooner than there is room
            raise Refusal(
                "limit_exceeded",
                f"{who} has made its {a_minute} calls of this minute: wait {wait} s",
                retry_after=wait,
            )


class Spent:
    """How many calls a case has made."""

    __slots__ = ("__weakref__", "calls")

    def __init__(self, calls: int) -> None:
        self.calls = calls


class Limits:
    """Rates begin anew with the gateway; the budget of a case is what the ledger has of it."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._ledger = ledger
        self._at_once = settings.max_concurrent
        self._a_minute = settings.max_per_minute
        self._a_case = settings.max_per_case
        self._flow = Flow()
        self._cases: Remembered[Spent] = Remembered()

    def admit(self, subject: Subject) -> AbstractContextManager[None]:
        """Let a call of this subject in, or refuse it because of what it has under way or behind it."""
        return self._flow.admit(subject.id, self._at_once, self._a_minute)

    def use(self, subject: Subject, tool: Tool) -> AbstractContextManager[None]:
        """The same for this subject and tool, where the operator set limits for the tool."""
        if not (tool.at_once or tool.per_minute):
            return FREELY
        return self._flow.admit(f"{subject.id} on {tool.public}", tool.at_once, tool.per_minute)

    async def spend(self, call: Call) -> None:
        """Take one call out of the budget of its case, else of its run."""
        case = call.subject.case or call.subject.run
        if not self._a_case or not case:
            return
        spent = await self._cases.get(case, lambda: self._read(call.subject))
        if spent.calls >= self._a_case:
            raise Refusal(
                "limit_exceeded",
                f"case {case} has made its {self._a_case} calls, and gets no more: finish with what is known",
            )
        spent.calls += 1

    async def _read(self, subject: Subject) -> Spent:
        return await self._ledger.store.read(lambda connection: _past(connection, subject))


def _past(connection: Connection, subject: Subject) -> Spent:
    """The calls that stand in the ledger: all of a case, else of the last day's part of a run."""
    if subject.case:
        query = "SELECT COUNT(*) FROM records WHERE case_id = ? AND kind = 'intent'"
        return Spent(connection.execute(query, (subject.case,)).fetchone()[0])
    rows = connection.execute(
        "SELECT record FROM records WHERE seq > ? AND case_id = '' AND kind = 'intent'",
        (before(connection, time.time() - DAY),),
    ).fetchall()
    return Spent(sum(orjson.loads(text).get("run") == subject.run for (text,) in rows))
