"""Runs cases by themselves, once each, over restarts and on many workers; goes on when a person has decided.

A case is run in legs: from its start, or from a person's decision, to its end or its next wait. Only a leg
holds a worker. The leg that is due is known by its number, so whoever queues it twice queues it once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from coordinator.cases import CaseRunner, Go
from coordinator.durable import DurableQueue
from coordinator.errors import CoordinatorError, UsageError
from coordinator.settings import Limits
from coordinator.types import Trigger
from specialists.errors import SpecialistsError

if TYPE_CHECKING:
    from langgraph.runtime import RunControl

    from coordinator.case_index import Legs, Wish
    from coordinator.workflows.model import Workflow

log = logging.getLogger("coordinator.engine")
LOCAL = "local"  # the one worker of a SQLite file: what it left is its own after a restart
LOOK_SECONDS = 5.0  # for decided approvals, and for cases that nobody queued
WISH_SECONDS = 0.5
AGAIN_SECONDS = 15.0
DRAIN_SECONDS = 25.0  # what a running step has to end in before it is cut off
MOST_KEPT = 10_000  # cases looked through after a restart
# by what a workflow file says, else by the severity of what opened the case; 1 is taken first
PRIORITIES = {
    "critical": 1, "page": 1, "high": 2, "error": 2, "warning": 3, "medium": 3, "normal": 4, "low": 5,
}  # fmt: skip
USUAL_PRIORITY = PRIORITIES["normal"]


@dataclass
class Running:
    """A leg that this process has in hand."""

    task: asyncio.Task[Any]
    control: RunControl
    wish: Literal["", "cancel", "pause", "drain"] = ""


class Engine:
    """One process's share of running cases. Waiting for a person holds no worker anywhere."""

    def __init__(
        self,
        runner: CaseRunner,
        workers: int,
        *,
        name: str,
        lease: float = 15.0,
        limits: Limits | None = None,
    ) -> None:
        self.name, self._runner, self._index = name, runner, runner.index
        self._lease, self._limits = lease, limits or Limits()
        self._shared = bool(runner.database)
        self._room = Room(max(workers, 1))
        self._queue = DurableQueue(runner.database, runner.home, name, workers, self._leg)
        self._submitting: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, Running] = {}
        self._claimed: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._beaten = time.monotonic()

    def start(self) -> None:
        """Give a sign of life and begin to take cases; called in the loop that they run in."""
        self._index.beat(self.name)
        self._queue.start()

    # -- queueing --------------------------------------------------------------------------------------

    def submit(self, case: str, *, after: float = 0.0, prepare: Callable[[], None] = lambda: None) -> None:
        """Queue a case after so many seconds, `prepare` being called just before; once, however often."""
        if case not in self._submitting and not self._stopping:
            task = asyncio.create_task(self._submit(case, after, prepare), name=f"submit {case}")
            self._submitting[case] = task
            task.add_done_callback(lambda _: self._submitting.pop(case, None))

    async def _submit(self, case: str, after: float, prepare: Callable[[], None]) -> None:
        try:
            await asyncio.sleep(after)
            prepare()
            await self._put(case)
        except (CoordinatorError, SpecialistsError) as error:
            log.warning("%s: not queued yet, and tried again: %s", case, error)

    async def _put(self, case: str, delay: float = 0.0) -> None:
        """Put the leg that is due into the queue of the case's workflow."""
        opened, legs = self._index.trigger(case), self._index.legs(case)
        if legs.queued > legs.ended:
            return
        leg = legs.ended + 1
        self._index.change(case, ("running", "stopped", "waiting"), "queued")
        told, name = self._told(opened), f"cases-{opened.workflow}"
        at_once = least(told and told.limits.at_once, self._limits.workflow.get(opened.workflow))
        tenant_at_once = least(told and told.limits.tenant, self._limits.tenant)
        await self._queue.queue(name, at_once=at_once, tenant_at_once=least(tenant_at_once, at_once))
        await self._queue.put(
            name, case, leg, priority=_priority(opened, told), tenant=opened.tenant or "none", delay=delay
        )
        self._index.queue_leg(case, leg)

    def _told(self, opened: Trigger) -> Workflow | None:
        """The workflow as its file is now; a case goes on without, since it carries the one it began with."""
        try:
            return self._runner.workflows.get(opened.workflow).workflow
        except UsageError:
            return None

    def recover(self, delay: Callable[[str], tuple[float, Callable[[], None]]]) -> list[str]:
        """Submit what an earlier process left; `delay` says after how long, and what to prepare."""
        left = [row.id for row in self._index.list(MOST_KEPT, "queued", "running", "stopped")]
        queued = self._index.in_queue()
        for case in left:
            if case not in queued:
                after, prepare = delay(case)
                self.submit(case, after=after, prepare=prepare)
        return left

    @property
    def under_way(self) -> list[str]:
        """The cases that run here, or are about to be queued."""
        return [*self._running, *(case for case in self._submitting if case not in self._running)]

    # -- running ---------------------------------------------------------------------------------------

    async def _leg(self, case: str, leg: int) -> str:
        """Take a case to its end or its next wait; how it stands then. What DBOS runs."""
        here = asyncio.current_task()
        assert here is not None
        self._claimed.add(here)
        try:
            opened = self._index.trigger(case)
            async with self._room.place(_priority(opened, self._told(opened))):
                return await self._begin(case, leg)
        finally:
            self._claimed.discard(here)

    async def _begin(self, case: str, leg: int) -> str:
        from langgraph.runtime import RunControl

        legs = self._index.legs(case)
        if legs.ended >= leg:
            return "ended before"
        if self._stopping or self._index.get(case).status in ("cancelled", "paused"):
            self._index.end_leg(case, leg)
            if self._stopping:
                await self._put(case)
            return "not begun"
        self._index.hold(case, self.name)
        task = asyncio.create_task(self._take(case, leg, legs, control := RunControl()), name=f"case {case}")
        self._running[case] = Running(task, control)
        try:
            return await task
        finally:
            self._running.pop(case, None)

    async def _take(self, case: str, leg: int, legs: Legs, control: RunControl) -> str:
        from langgraph.errors import GraphDrained

        try:
            result = await self._runner.resume(case, Go(control, legs.attempt, legs.step))
        except (GraphDrained, asyncio.CancelledError) as error:
            return await self._cut(case, leg, error)
        except (CoordinatorError, SpecialistsError) as error:
            return await self._failed(case, leg, error)
        except Exception as error:
            log.exception("%s: unexpected", case)
            return await self._failed(case, leg, error)
        self._index.end_leg(case, leg, approvals=result.awaited)
        status = "waiting" if result.waiting else "delivered"
        log.info("%s: %s", case, "waits for a person" if result.waiting else status)
        return status

    async def _cut(self, case: str, leg: int, error: BaseException) -> str:
        """A leg that was told to stop: by a person, or because this process ends."""
        wish = self._running[case].wish
        if not wish:
            raise error
        status = {"cancel": "cancelled", "pause": "paused", "drain": "queued"}[wish]
        self._index.end_leg(case, leg)
        self._index.update(case, status)
        if wish == "drain":
            await self._put(case)
        log.info("%s: %s", case, status if status != "queued" else "left to the next worker")
        return status

    async def _failed(self, case: str, leg: int, error: Exception) -> str:
        log.warning("%s: %s", case, error)
        again = (
            getattr(error, "exit_code", 1) == 5
        )  # something it needs is down; else it would end the same way
        self._index.end_leg(case, leg, why=" ".join(str(error).split()))
        self._index.update(case, "queued" if again else "failed")
        if again:
            await self._put(case, delay=AGAIN_SECONDS)
        return "tried again" if again else "failed"

    # -- looking ---------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Go on looking: who lives, what persons decided and want, and what nobody queued."""
        looked = 0.0
        while True:
            await asyncio.sleep(WISH_SECONDS)
            try:
                await self._beat()
                await self._fulfil_all()
                if time.monotonic() - looked >= LOOK_SECONDS:
                    await self._look()
                    looked = time.monotonic()
            except (CoordinatorError, SpecialistsError) as error:
                log.warning("cannot see what is due, and look again: %s", error)

    async def _look(self) -> None:
        """Queue what was decided and what nobody queued; one process of all is enough to look."""
        if self.name != min(self._index.alive(self._lease), default=self.name):
            return
        waits = self._index.waiting()
        pending = await self._runner.pending() if waits else frozenset()
        for case, approvals in waits.items():
            if approvals - pending:
                self.submit(case)
        for case in self._index.unqueued(datetime.now(UTC) - timedelta(seconds=self._lease)):
            self.submit(case)

    async def _beat(self) -> None:
        """Give a sign of life; whoever gave none for too long has lost its cases, and leaves them."""
        if (quiet := time.monotonic() - self._beaten) < self._lease / 5:
            return
        if self._shared and quiet > self._lease:
            await self._let_go()
        self._index.beat(self.name)
        self._beaten = time.monotonic()
        if self._shared and (
            dead := await self._queue.take_over(self._index.alive(self._lease) | {self.name})
        ):
            log.warning("took over what these workers had: %s", ", ".join(dead))
            for worker in dead:
                self._index.gone(worker)

    async def _let_go(self) -> None:
        log.warning("gave no sign of life for %g s: what ran here is left to others", self._lease)
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._queue.put_back([self.name])

    async def _fulfil_all(self) -> None:
        for wish in self._index.wishes():
            try:
                await self._fulfil(wish)
            except (CoordinatorError, SpecialistsError) as error:
                log.warning("%s: %s by %s is not recorded yet: %s", wish.id, wish.wish, wish.person, error)

    async def _fulfil(self, wish: Wish) -> None:
        running = self._running.get(wish.id)
        if running is None and self._index.get(wish.id).status == "running":
            return  # another process has it, or had it and will be missed
        if running is not None and wish.wish in ("cancel", "pause"):
            running.wish = "cancel" if wish.wish == "cancel" else "pause"
            running.control.request_drain(wish.wish)
            if wish.wish == "cancel":
                running.task.cancel()
                await asyncio.wait({running.task}, timeout=self._lease / 5)  # until it says so itself
        if wish.wish in ("retry", "resume"):
            self.submit(wish.id)
        body = {"wish": wish.wish, "person": wish.person, "reason": wish.reason, "at": wish.at}
        async with self._runner.gateway(wish.id) as gateway:
            await gateway.record_step("wish", body)
        self._index.done(wish)

    async def stop(self) -> None:
        """Take nothing more, let what runs come to the end of its step, and leave the rest to others."""
        self._stopping = True
        submitting = list(self._submitting.values())
        for task in submitting:
            task.cancel()
        for running in self._running.values():
            running.wish = running.wish or "drain"
            running.control.request_drain("shutdown")
        if claimed := list(self._claimed):
            await asyncio.wait(claimed, timeout=DRAIN_SECONDS)
            for running in self._running.values():
                running.task.cancel()
        await asyncio.gather(*submitting, *claimed, return_exceptions=True)
        await self._queue.stop()
        self._index.gone(self.name)


def _priority(opened: Trigger, told: Workflow | None) -> int:
    """From 1, taken first."""
    named = told.priority if told and told.priority else opened.severity.lower()
    return PRIORITIES.get(named, USUAL_PRIORITY)


def least(*limits: int | None) -> int | None:
    """The strictest of these limits; 0 and None are none."""
    return min((limit for limit in limits if limit), default=None)


class Room:
    """Places for legs, of all queues together: the next goes to the most urgent, then the oldest."""

    def __init__(self, places: int) -> None:
        self._free, self._order = places, itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, priority: int) -> AsyncIterator[None]:
        """Wait for a place and hold it; 1 is the most urgent."""
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (priority, next(self._order), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def worker_name() -> str:
    """A name for this process that no other worker of the database has, nor had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


async def forever(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of this until cancelled; the first that fails ends the others and is raised."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
