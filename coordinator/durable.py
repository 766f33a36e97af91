"""DBOS behind a small interface: a queue of jobs that each reach an end, once, over crashes and processes.

A job is a case's leg: the whole LangGraph run up to the next wait is one step of one DBOS workflow, since
LangGraph's checkpoints know where inside the run it is. Everything that DBOS is asked for stands here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

NAME = "pointsman"
VERSION = "1"  # of what a job's arguments mean: workers of another version leave it alone
JOB = "case_leg"
POLL_SECONDS = 0.25
NOTE_SECONDS = 1.0  # between looks for DBOS's streams and events, which we have none of
CONNECTIONS = 5
log = logging.getLogger("coordinator.durable")

Run = Callable[[str, int], Awaitable[str]]


class DurableQueue:
    """Jobs of this database; `run(case, leg)` does one. A process has one."""

    def __init__(self, database: str, home: Path, executor: str, at_once: int, run: Run) -> None:
        self.executor, self._at_once, self._run = executor, at_once, run
        self._url = database or f"sqlite:///{home / 'engine.db'}"
        self._queues: dict[str, tuple[int | None, int | None]] = {}
        self._making = asyncio.Lock()
        self._dbos: Any = None

    def start(self) -> None:
        """Connect and begin to work; called in the loop that the jobs run in."""
        from dbos import DBOS, DBOSPortableJSONSerializer

        logging.getLogger("dbos").handlers = [logging.NullHandler()]  # it prints by itself otherwise
        logging.getLogger("dbos").propagate = True
        self._dbos = DBOS
        DBOS(
            config={
                "name": NAME,
                "system_database_url": _dialect(self._url),
                "application_version": VERSION,
                "executor_id": self.executor,
                "serializer": DBOSPortableJSONSerializer(),
                "sys_db_pool_size": CONNECTIONS,
                "notification_coalesce_sec": NOTE_SECONDS,
                "log_level": "WARNING",
            }
        )

        @DBOS.step(name=f"{JOB}_run")
        async def run(case: str, leg: int) -> str:
            return await self._run(case, leg)

        @DBOS.workflow(name=JOB, max_recovery_attempts=None)
        async def job(case: str, leg: int) -> str:
            return await run(case, leg)

        if not self._at_once:
            DBOS.listen_queues([])
        DBOS.launch()

    async def queue(self, name: str, *, at_once: int | None, tenant_at_once: int | None) -> None:
        """Make sure there is a queue, with limits over all workers: altogether, and for each tenant."""
        async with self._making:
            if self._queues.get(name) == (at_once, tenant_at_once):
                return
            mine = self._at_once or 1
            await self._dbos.register_queue_async(
                name,
                worker_concurrency=min(mine, at_once or mine),
                global_concurrency=at_once,
                partition_concurrency=tenant_at_once,
                polling_interval_sec=POLL_SECONDS,
                on_conflict="always_update" if self._at_once else "never_update",
            )
            self._queues[name] = (at_once, tenant_at_once)

    async def put(
        self, queue: str, case: str, leg: int, *, priority: int, tenant: str, delay: float = 0
    ) -> None:
        """Queue a leg; the same leg again is the same job. The smaller the priority, the earlier."""
        options: dict[str, Any] = {
            "workflow_name": JOB,
            "queue_name": queue,
            "workflow_id": job_id(case, leg),
            "app_version": VERSION,
            "priority": priority,
            "queue_partition_key": tenant,
        }
        if delay:
            options["delay_seconds"] = delay
        await self._dbos.enqueue_workflow_with_options_async(options, case, leg)

    async def take_over(self, alive: set[str]) -> list[str]:
        """Put back into the queue what workers had that are not alive any more; those workers."""
        running = await self._dbos.list_workflows_async(status="PENDING", load_input=False, load_output=False)
        dead = sorted({w.executor_id for w in running if w.executor_id} - alive)
        await self.put_back(dead)
        return dead

    async def put_back(self, workers: list[str]) -> None:
        """Put back what these workers had and nobody has taken over (DBOS's public resume does not look)."""
        if workers:
            await asyncio.to_thread(self._dbos._recover_pending_workflows, workers)

    async def stop(self) -> None:
        """Take no further job and let go of the database."""
        if self._dbos is not None:
            await asyncio.to_thread(self._dbos.destroy, workflow_completion_timeout_sec=0)


def job_id(case: str, leg: int) -> str:
    """What a leg is known by: the first is named like the case."""
    return case if leg == 1 else f"{case}/{leg}"


def _dialect(url: str) -> str:
    """The URL as SQLAlchemy spells it."""
    _, _, rest = url.partition("://")
    return url if url.startswith("sqlite") else f"postgresql+psycopg://{rest}"
