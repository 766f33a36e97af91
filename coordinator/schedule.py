"""The schedule trigger: cron with a time zone opens a case at each tick, once over all processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from croniter import croniter

from coordinator.case_index import CaseIndex
from coordinator.errors import CoordinatorError
from coordinator.types import Trigger
from coordinator.workflows import cron
from coordinator.workflows.library import Library

log = logging.getLogger("coordinator.schedule")
LATE = timedelta(seconds=60)  # a tick older than this was missed
MOST_SECONDS = 5.0  # how long at most it sleeps
MOST_TICKS = 1000  # opened at once for ticks that were missed
Missed = Literal["skip", "once", "all"]

KINDS = {"event": "any", "now": "time"}


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a workflow runs by itself, and what becomes of ticks at which no process was there."""

    workflow: str
    cron: str
    timezone: str = "UTC"
    missed: Missed = "once"
    title: Any = None  # in CEL over `event`, as the workflow file has it
    inputs: Mapping[str, Any] = field(default_factory=dict)  # likewise
    tenant: Any = None  # likewise

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The ticks after a moment, up to and with another."""
        zone, at_an_hour = cron.zone(self.timezone), "*" not in self.cron.split()[-4]
        times = croniter(self.cron, after.astimezone(zone), second_at_beginning=True)
        while (tick := times.get_next(datetime).astimezone(UTC)) <= until:
            if not (at_an_hour and tick.astimezone(zone).fold):  # the hour that comes twice in autumn
                yield tick

    def next(self, after: datetime) -> datetime:
        """The first tick after a moment."""
        times = croniter(self.cron, after.astimezone(cron.zone(self.timezone)), second_at_beginning=True)
        return times.get_next(datetime).astimezone(UTC)

    def trigger(self, tick: datetime) -> Trigger:
        """What opens the case of a tick."""
        from coordinator.workflows.expressions import to_json, value_of

        local = tick.astimezone(cron.zone(self.timezone))
        known = {"event": {"tick": tick.isoformat(), "date": f"{local:%Y-%m-%d}"}, "now": tick.isoformat()}
        given = value_of(self.title, KINDS, known) if self.title is not None else self.workflow
        title = f"{given}, {local:%Y-%m-%d %H:%M} {self.timezone}"
        return Trigger(
            kind="schedule",
            title=title,
            question=title,
            fingerprint=f"schedule {self.workflow}",
            workflow=self.workflow,
            inputs={name: to_json(value_of(told, KINDS, known)) for name, told in self.inputs.items()},
            tenant=str(value_of(self.tenant, KINDS, known) or "") if self.tenant is not None else "",
            payload={"tick": tick.isoformat(), "cron": self.cron, "timezone": self.timezone},
        )


def schedules_in(library: Library) -> list[Schedule]:
    """The schedules of the workflows there are; UsageError says what is wrong with one."""
    from coordinator.workflows.model import ScheduleTrigger

    workflows = [source.workflow for source in library.all()]
    return [
        checked(Schedule(w.id, t.schedule, t.timezone, t.missed, t.title, t.inputs, t.tenant))
        for w in workflows
        for t in w.triggers
        if isinstance(t, ScheduleTrigger)
    ]


def checked(schedule: Schedule) -> Schedule:
    """The schedule, if its expression and its time zone can be read; UsageError says what is wrong."""
    cron.zone(schedule.timezone)
    cron.checked(schedule.cron)
    return schedule


class Scheduler:
    """Opens cases at the ticks of schedules; every process of a database may have one."""

    def __init__(
        self, schedules: Sequence[Schedule], index: CaseIndex, submit: Callable[[str], None]
    ) -> None:
        self._schedules = [checked(schedule) for schedule in schedules]
        self._index, self._submit = index, submit

    async def run(self) -> None:
        """Go on opening what is due."""
        while self._schedules:
            try:
                self.fire(datetime.now(UTC))
            except CoordinatorError as error:
                log.warning("cannot open what is due, and tried again: %s", error)
                await asyncio.sleep(MOST_SECONDS)
            now = datetime.now(UTC)
            due = min(schedule.next(now) for schedule in self._schedules)
            await asyncio.sleep(min((due - now).total_seconds(), MOST_SECONDS))

    def fire(self, now: datetime) -> list[str]:
        """Open the cases of all ticks up to now that nobody has dealt with; those that are new."""
        return [case for schedule in self._schedules for case in self._fire(schedule, now)]

    def _fire(self, schedule: Schedule, now: datetime) -> list[str]:
        name = f"schedule {schedule.workflow} {schedule.cron} {schedule.timezone}"
        dealt = self._index.ticked(name, now)
        ticks = []
        for tick in schedule.ticks(dealt, now):
            ticks = [*ticks, tick][-MOST_TICKS:]
        due = _wanted(ticks, schedule.missed, now)
        if len(due) < len(ticks):
            log.warning("%s: %d missed ticks are left out", schedule.workflow, len(ticks) - len(due))
        new = open_ticks(schedule, due, self._index)
        for case in new:
            self._submit(case)
        if ticks:
            self._index.tick(name, ticks[-1])
        return new


def open_ticks(schedule: Schedule, ticks: Sequence[datetime], index: CaseIndex) -> list[str]:
    """Open a case for each tick that has none yet; the new ones. Backfill is this over past ticks."""
    opened = (
        index.open_once(schedule.trigger(tick), f"schedule {schedule.workflow} {tick.isoformat()}")
        for tick in ticks
    )
    return [case for case, new in opened if new]


def _wanted(ticks: list[datetime], missed: Missed, now: datetime) -> list[datetime]:
    """The ticks to open cases for: those that are due now, and of the missed ones what the setting says."""
    late = [tick for tick in ticks if now - tick > LATE]
    due = ticks[len(late) :]
    if missed == "all":
        return ticks
    return [*late[-1:], *due] if missed == "once" and not due else due
