"""Takes deliveries in: verified, told apart, put to a case, and written down before anybody is answered."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from coordinator import trigger
from coordinator.case_index import CaseIndex
from coordinator.errors import CoordinatorError, TriggerUnreadable
from coordinator.hooks import sources
from coordinator.hooks.correlation import JOINS, Correlator, neighbours_of, utc_now
from coordinator.hooks.inbox import Inbox, Member
from coordinator.hooks.types import Alert, Delivery
from coordinator.settings import Hook
from coordinator.triggers.events import Route, unrouted
from coordinator.types import Trigger
from specialists.errors import SpecialistsError

log = logging.getLogger("coordinator.hooks")
MOST_BYTES = 1_048_576
TELL_SECONDS = 2.0
GRAPH_SECONDS = 60.0
CLOSES = timedelta(days=1)  # a case that was over for so long is left as it is
MOST_TOLD = 200  # alerts named in one record
Record = Callable[[str, str, dict[str, Any]], Any]  # case, kind, body


class HookRefused(CoordinatorError):
    """A delivery that is not taken: unknown source, wrong proof, too large, not readable."""

    code = "hook_refused"
    exit_code = 3

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Reception:
    """Everything between a request and a case; `opened` is told of every case that alerts have opened."""

    def __init__(
        self,
        hooks: Mapping[str, Hook],
        inbox: Inbox,
        index: CaseIndex,
        opened: Callable[[str], None],
        finish: Callable[[Trigger], Trigger] = lambda one: one,
        closing: Callable[[str], Awaitable[None]] | None = None,
        route: Route = unrouted,
    ) -> None:
        self._route = route
        self._closing = closing  # what is done before a case is closed
        self.hooks, self.inbox, self.index, self.opened, self._finish = hooks, inbox, index, opened, finish
        day = timedelta(days=1)
        self.correlator = Correlator(lambda name: inbox.fired(name, utc_now() - day))
        self._refused: Counter[tuple[str, str]] = Counter()  # by source and reason
        self._repeated: Counter[tuple[str, str]] = Counter()  # by case and source
        self._closed: set[str] = set()
        for member in inbox.since(utc_now() - JOINS):
            alert = member.alert.model_copy(update={"status": member.status})
            self.correlator.join(member.case, alert, member.last)

    async def take(self, source: str, headers: Mapping[str, str], raw: bytes) -> list[str]:
        """One delivery; the cases it belongs to. HookRefused says why it is not taken."""
        delivery = self._read(source, headers, raw)
        before = await self.inbox.again(delivery)
        if before is not None:
            self._repeated[before[0] if before else "", source] += 1
            return before
        now = utc_now()
        placed = [(self._place(alert, now, source), alert) for alert in delivery.alerts]
        return await self.inbox.take(
            delivery, raw, [(case, alert, why) for (case, why), alert in placed if case]
        )

    def refused(self, source: str, why: HookRefused) -> None:
        """Count a delivery that was not taken; the ledger is told of them together."""
        self._refused[source[:100], str(why)] += 1

    def _read(self, source: str, headers: Mapping[str, str], raw: bytes) -> Delivery:
        hook = self.hooks.get(source)
        if hook is None:
            known = ", ".join(self.hooks) or "none: add [coordinator.hooks.NAME] to pointsman.toml"
            raise HookRefused(f"no hook of that name; configured are {known}", 404)
        if len(raw) > MOST_BYTES:
            raise HookRefused(f"{len(raw)} bytes are more than the {MOST_BYTES} taken", 413)
        kind = hook.kind_of(source)
        if not sources.PROOFS[kind](headers, raw, hook.secret()):
            raise HookRefused("the signature or token is wrong or missing", 401)
        try:
            return sources.read(kind, source, headers, raw, hook.mapping)
        except TriggerUnreadable as error:
            raise HookRefused(str(error), 400) from None

    def _place(self, alert: Alert, now: datetime, source: str) -> tuple[str, str]:
        held = self.correlator.holding(alert.fingerprint) or self.inbox.holding(alert.fingerprint)
        case, why = (held, "the same alert") if held else self.correlator.place(alert, now)
        fresh = not case and alert.status == "firing"
        if fresh:
            opened = self._route(self._finish(trigger_of([alert])), source, alert.body)
            case = self.index.open_case(opened, "queued")
        if case:
            self.correlator.join(case, alert, now)
        if fresh:
            self.opened(case)
        return case, why

    def gathered(self, case: str) -> Trigger | None:
        """What opens the run of a case: all its alerts so far; None for a case no alert has opened."""
        members = self.inbox.members(case)
        if not members:
            return None
        before, gathered = self.index.trigger(case), self._finish(trigger_of([m.alert for m in members]))
        if before.workflow == gathered.workflow:
            return gathered
        kept = {"workflow": before.workflow, "inputs": before.inputs, "title": before.title}
        return gathered.model_copy(update=kept)

    async def tell(self, record: Record) -> None:
        """Go on writing into the ledger what came, and closing cases whose alerts are all over."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            try:
                await self._tell(record)
                await self._close()
            except (CoordinatorError, SpecialistsError) as error:
                log.warning("not recorded yet, and tried again: %s", error)

    async def _tell(self, record: Record) -> None:
        await self.inbox.count()
        for (source, why), times in tuple(self._refused.items()):
            body = {"source": source, "refused": why, "times": times, "until": utc_now().isoformat()}
            await record("", "hook", body)
            self._refused -= Counter({(source, why): times})
        for (case, source), times in tuple(self._repeated.items()):
            body = {"source": source, "repeated": times, "until": utc_now().isoformat()}
            await record(case, "hook", body)
            self._repeated -= Counter({(case, source): times})
        while untold := self.inbox.untold(MOST_TOLD):
            by_case: dict[str, list[Member]] = {}
            for member in untold:
                by_case.setdefault(member.case, []).append(member)
            for case, members in by_case.items():
                await record(case, "alert", {"alerts": [_short(m) for m in members]})
                await self.inbox.tell(members)

    async def _close(self) -> None:
        """Close what is over, once its report is there; a case that fires again is open again."""
        over = set(self.inbox.over(utc_now() - CLOSES))
        for case in over:
            if self.index.get(case).status == "delivered":
                if self._closing is not None:
                    await self._closing(case)
                self.index.update(case, "closed")
                log.info("%s: closed, every alert of it is resolved", case)
        for case in self._closed - over:
            if self.index.get(case).status == "closed":
                self.index.update(case, "delivered")
        self._closed = over

    async def learn(self, read: Callable[[], Any]) -> None:
        """Go on learning who calls whom from what `read` answers; without it only time tells alerts apart."""
        while True:
            try:
                answer = await read()
                self.correlator.neighbours = neighbours_of(answer.get("edges", ()))
            except (CoordinatorError, SpecialistsError) as error:
                log.info("no call graph to correlate by: %s", error)
            await asyncio.sleep(GRAPH_SECONDS)


def trigger_of(alerts: list[Alert]) -> Trigger:
    """The trigger of a case that these alerts have opened, first come first."""
    bodies = [alert.body for alert in alerts]
    opened = trigger.from_alert({"version": "4", "status": "firing", "alerts": bodies})
    more = {alert.service for alert in alerts if alert.service} - {alerts[0].service}
    title = alerts[0].title + (f" (and {len(more)} more services)" if len(more) > 1 else "")
    return opened.model_copy(update={"title": title, "fingerprint": alerts[0].fingerprint})


def _short(member: Member) -> dict[str, Any]:
    alert = member.alert
    return {
        "fingerprint": alert.fingerprint,
        "status": member.status,
        "title": alert.title[:200],
        "service": alert.service,
        "times": member.times,
        "joined": member.joined,
    }
