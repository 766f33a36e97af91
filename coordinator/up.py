"""`pointsman up`: gateway and coordinator together; alerts open cases, and cases run by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from coordinator import deliveries, outbox
from coordinator.commands import with_clock_of
from coordinator.engine import LOCAL, Engine, forever, worker_name
from coordinator.errors import CoordinatorError, GatewayRefused
from coordinator.gateway_client import GatewayClient
from coordinator.hooks.door import door
from coordinator.hooks.inbox import Inbox
from coordinator.hooks.reception import Reception
from coordinator.progress import silent
from coordinator.schedule import Scheduler, schedules_in
from coordinator.session import Session, open_session
from coordinator.settings import CoordinatorSettings
from coordinator.triggers.events import routes
from coordinator.triggers.watching import watch
from coordinator.types import Trigger
from specialists.errors import SpecialistsError

log = logging.getLogger("coordinator.up")
GRACE_SECONDS = 5


class PortTaken(CoordinatorError):
    """Something else listens where `pointsman up` wants to."""

    code = "port_taken"
    exit_code = 5


def run_up(*, host: str | None, port: int | None, as_json: bool, config: str | None) -> int:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    settings = CoordinatorSettings.load(config)
    for name, hook in settings.hooks.items():  # a hook nobody could use is an error now, not at night
        hook.kind_of(name)
        hook.secret()
    with contextlib.closing(_listen(host or settings.host, settings.port if port is None else port)) as sock:
        asyncio.run(_up(settings, sock, as_json, config))
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # with the protocol named asyncio sets TCP_NODELAY; else every answer waits 40 ms for an ACK
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise PortTaken(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what listens there, or choose another "
            "port with --port (0 takes a free one)"
        ) from None
    sock.listen(1024)
    return sock


async def _up(settings: CoordinatorSettings, sock: socket.socket, as_json: bool, config: str | None) -> None:
    async with open_session(config, tell=silent, heavy=("dbos",)) as session:
        host, port = sock.getsockname()[:2]
        base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        async with contextlib.aclosing(Inbox(session.home)) as inbox:
            await _serve(settings, session, inbox, sock, base, _teller(session, base, as_json))


def _teller(session: Session, base: str, as_json: bool) -> Callable[[Reception, list[str]], None]:
    def tell(reception: Reception, left: list[str]) -> None:
        hooks = {name: f"{base}/hooks/{name}" for name in reception.hooks}
        facts = {"url": base, "gateway": session.found.url, "hooks": hooks, "resumed": left}
        if as_json:
            print(json.dumps(facts), flush=True)
            return
        print(f"gateway   {session.found.url}\ncases     {base}/cases/ID")
        for name, url in hooks.items():
            print(f"alerts    {url}   (try: pointsman hooks send {name})")
        if not hooks:
            print("alerts    from nobody yet: add [coordinator.hooks.alertmanager] to pointsman.toml")
        if left:
            print(f"goes on   {', '.join(left)}")
        sys.stdout.flush()

    return tell


async def _serve(
    settings: CoordinatorSettings,
    session: Session,
    inbox: Inbox,
    sock: socket.socket,
    base: str,
    tell: Callable[[Reception, list[str]], None],
) -> None:
    name = worker_name() if settings.database else LOCAL
    engine = Engine(
        session.runner, settings.workers, name=name, lease=settings.lease_seconds, limits=settings.limits
    )

    def finish(opened: Trigger) -> Trigger:
        return with_clock_of(opened, session.recording) if session.recording else opened

    def plan(case: str) -> tuple[float, Callable[[], None]]:
        def prepare() -> None:
            if (gathered := reception.gathered(case)) is not None:
                session.runner.index.retitle(case, gathered)

        return settings.gather_seconds, prepare

    def opened(case: str) -> None:
        after, prepare = plan(case)
        engine.submit(case, after=after, prepare=prepare)

    async def closing(case: str) -> None:
        async with session.runner.gateway(case) as gateway:
            await deliveries.close(case, gateway)

    scheduler = Scheduler(schedules_in(session.runner.workflows), session.runner.index, engine.submit)
    reception = Reception(
        settings.hooks, inbox, session.runner.index, opened, finish, closing, routes(session.runner.workflows)
    )
    server = uvicorn.Server(
        uvicorn.Config(
            door(reception, base, lambda token, case: _may_see(session, token, case)),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    background = asyncio.create_task(
        forever(
            engine.watch(),
            scheduler.run(),
            reception.tell(lambda case, kind, body: _record(session, case, kind, body)),
            reception.learn(lambda: _dependencies(session)),
            watch(session.runner, engine.submit),
            outbox.go_on(session.runner),
        )
    )
    try:
        engine.start()
        tell(reception, engine.recover(plan))
        await _until_told(server, sock, background)
    finally:
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)
        await engine.stop()


async def _dependencies(session: Session) -> dict[str, Any]:
    """Which services call which, as a person may see it now."""
    access = session.runner.access
    async with GatewayClient(access, access.person or access.coordinator) as person:
        return await person.read("traces__dependencies", {})


async def _until_told(server: uvicorn.Server, sock: socket.socket, background: asyncio.Task[None]) -> None:
    """Serve until SIGTERM or SIGINT; what breaks in the background ends the serving and is raised."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    background.add_done_callback(lambda _: stop())
    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    await server.serve(sockets=[sock])
    if background.done():
        background.result()


async def _record(session: Session, case: str, kind: str, body: dict[str, Any]) -> None:
    async with session.runner.gateway(case) as gateway:
        await gateway.record_step(kind, body)


async def _may_see(session: Session, token: str, case: str) -> bool:
    """Whether the gateway lets the holder of this token look at the case in the ledger."""
    access = session.runner.access
    try:
        async with GatewayClient(access, token) as client:
            await client.read("gateway__search_ledger", {"case": case, "limit": 1})
        return True
    except (GatewayRefused, SpecialistsError):
        return False
