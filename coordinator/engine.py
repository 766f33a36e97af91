"""Runs cases by themselves: so many at a time, again after a restart, and on when a person has decided."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from coordinator.cases import CaseRunner
from coordinator.errors import CoordinatorError
from specialists.errors import SpecialistsError

log = logging.getLogger("coordinator.engine")
LOOK_SECONDS = 5.0
AGAIN_SECONDS = 15.0
MOST_KEPT = 10_000  # cases looked through after a restart
UNFINISHED = ("running", "stopped")


class Engine:
    """One process's worth of running cases. Waiting for a person holds no worker: such a case is looked at
    now and then, and goes on when its approvals are decided."""

    def __init__(self, runner: CaseRunner, workers: int) -> None:
        self._runner = runner
        self._workers = asyncio.Semaphore(workers)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    def submit(self, case: str, *, after: float = 0.0, prepare: Callable[[], None] = lambda: None) -> None:
        """Run a case `after` so many seconds, `prepare` being called just before; once at a time."""
        if case not in self._tasks and not self._stopping:
            task = asyncio.create_task(self._run(case, after, prepare), name=f"case {case}")
            self._tasks[case] = task
            task.add_done_callback(lambda _: self._tasks.pop(case, None))

    def recover(self, delay: Callable[[str], tuple[float, Callable[[], None]]]) -> list[str]:
        """Submit what an earlier process left; `delay` says after how long, and what to prepare."""
        left = [row.id for row in self._runner.index.list(MOST_KEPT) if row.status in UNFINISHED]
        for case in left:
            after, prepare = delay(case)
            self.submit(case, after=after, prepare=prepare)
        return left

    @property
    def under_way(self) -> list[str]:
        """The cases that run, or wait for their turn."""
        return list(self._tasks)

    async def watch(self) -> None:
        """Go on looking whether what cases wait for was decided: one call for all of them."""
        awaited: dict[str, tuple[datetime, frozenset[str]]] = {}
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                awaited = await self._awaited(awaited)
                pending = await self._runner.pending() if awaited else frozenset()
                for case, (_, approvals) in awaited.items():
                    if approvals - pending:
                        self.submit(case)
            except (CoordinatorError, SpecialistsError) as error:
                log.warning("cannot see what was decided, and look again: %s", error)

    async def _awaited(
        self, known: dict[str, tuple[datetime, frozenset[str]]]
    ) -> dict[str, tuple[datetime, frozenset[str]]]:
        """The approvals that each waiting case waits for; looked up again only where a case has moved."""
        found = {}
        for row in self._runner.index.list(MOST_KEPT):
            if row.status == "waiting" and row.id not in self._tasks:
                before = known.get(row.id)
                fresh = before is None or before[0] != row.updated
                found[row.id] = (row.updated, await self._runner.awaited(row.id)) if fresh else before
        return found

    async def _run(self, case: str, after: float, prepare: Callable[[], None]) -> None:
        await asyncio.sleep(after)
        prepare()
        while True:
            async with self._workers:
                try:
                    result = await self._runner.resume(case)
                    log.info("%s: %s", case, "waits for a person" if result.waiting else "delivered")
                    return
                except (CoordinatorError, SpecialistsError) as error:
                    log.warning("%s: %s", case, error)
                    if getattr(error, "exit_code", 1) != 5:  # trying again would end the same way
                        return
            await asyncio.sleep(AGAIN_SECONDS)

    async def stop(self) -> None:
        """Stop where the cases are; each goes on from there when there is an engine again."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def forever(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of this until cancelled; the first that fails ends the others and is raised."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
