"""`pointsman worker`: one more process that runs cases, on the database and the gateway of the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal

from coordinator import outbox
from coordinator.engine import Engine, forever, worker_name
from coordinator.progress import silent
from coordinator.schedule import Scheduler, schedules_in
from coordinator.session import open_session
from coordinator.settings import CoordinatorSettings
from coordinator.triggers.condition import ConditionWatch
from coordinator.triggers.watching import watch
from specialists.errors import SettingsError

log = logging.getLogger("coordinator.worker")


def run_worker(*, workers: int | None, as_json: bool, config: str | None) -> int:
    """Run cases until told to stop; what runs then comes to the end of its step, and others go on with it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    settings = CoordinatorSettings.load(config)
    if not settings.database:
        raise SettingsError(
            'a worker needs the database of the others: set [coordinator] database = "postgres://…" for all '
            "of them; without it `pointsman up` runs its cases itself"
        )
    work = _work(settings, workers or settings.workers or 1, as_json, config)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
    return 0


async def _work(settings: CoordinatorSettings, workers: int, as_json: bool, config: str | None) -> None:
    async with open_session(config, tell=silent, heavy=("dbos",), own_gateway=False) as session:
        name = worker_name()
        engine = Engine(
            session.runner, workers, name=name, lease=settings.lease_seconds, limits=settings.limits
        )
        scheduler = Scheduler(schedules_in(session.runner.workflows), session.runner.index, engine.submit)
        conditions = watch(session.runner, engine.submit, (ConditionWatch,))
        watching = asyncio.create_task(
            forever(engine.watch(), scheduler.run(), conditions, outbox.go_on(session.runner))
        )
        try:
            engine.start()
            facts = {"worker": name, "gateway": session.found.url, "at_once": workers}
            told = f"{name} runs {workers} cases at once, through {session.found.url}"
            print(json.dumps(facts) if as_json else told, flush=True)
            await _told_to_stop(watching)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await engine.stop()
    log.info("ended")


async def _told_to_stop(watching: asyncio.Task[None]) -> None:
    """Until SIGTERM or SIGINT; what breaks in the background is raised."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
    watching.add_done_callback(lambda _: told.set())
    await told.wait()
    if watching.done():
        watching.result()
