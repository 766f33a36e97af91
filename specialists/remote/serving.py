"""Serves specialists over A2A: `pointsman specialists serve NAME`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import a2a_pb2 as a2a
from google.protobuf.struct_pb2 import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from specialists import tracing
from specialists.errors import SettingsError
from specialists.link import Pool
from specialists.remote import wire
from specialists.remote.access import AllowedGateways
from specialists.remote.door import Door
from specialists.remote.executor import CallerHeaders, Executor
from specialists.remote.tokens import AccessTokens, Issuer
from specialists.types import Card, Specialist

log = logging.getLogger(__name__)

CARD = "/.well-known/agent-card.json"
HEALTH = "/health"
MOST_KEPT = 500  # tasks remembered, for callers that come back for a finding
PARKED_SECONDS = 3600.0  # how long a task waits for a person
IDLE_SECONDS = 75
MOST_CONNECTIONS = 256
STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Serving:
    """How to serve: where, for whom, and with which way to tools."""

    host: str
    port: int
    allowed: AllowedGateways
    token: str = field(default="", repr=False)  # with no issuer either: anybody on this machine
    issuer: Issuer | None = None  # whose access tokens are taken too
    url: str = ""  # how callers reach it, where that is not http://HOST:PORT
    ready_fd: int | None = None


def serve(specialists: Iterable[Specialist], serving: Serving) -> None:
    """Serve until stopped."""
    tracing.begin("pointsman-specialists")
    bound = _bind(serving.host, serving.port)
    host, port = bound.getsockname()[:2]
    shown = serving.url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
    tokens = AccessTokens(serving.issuer) if serving.issuer else None
    app = build(list(specialists), shown.rstrip("/"), serving.allowed, serving.token, tokens)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    log.info("serving at %s", shown)
    if serving.ready_fd is not None:
        with os.fdopen(serving.ready_fd, "w") as ready:
            ready.write(json.dumps({"url": shown, "pid": os.getpid()}) + "\n")
    _Quiet(config).run(sockets=[bound])


def build(
    specialists: list[Specialist],
    url: str,
    allowed: AllowedGateways,
    token: str = "",
    tokens: AccessTokens | None = None,
) -> Any:
    """The ASGI application: each specialist at /NAME, and a single one's card also at the root."""
    pool = Pool()
    routes: list[Any] = []
    executors: dict[str, Executor] = {}
    public = {HEALTH}
    handlers: list[DefaultRequestHandler] = []
    for specialist in specialists:
        name = specialist.card.name
        card = agent_card(specialist.card, f"{url}/{name}", bool(token or tokens))
        executors[name] = Executor(specialist, allowed, pool)
        handler = DefaultRequestHandler(
            agent_executor=executors[name],
            task_store=_LatestTasks(),
            agent_card=card,
            interrupted_task_timeout=PARKED_SECONDS,
        )
        handlers.append(handler)
        routes += create_jsonrpc_routes(handler, f"/{name}", context_builder=CallerHeaders())
        for path in [f"/{name}{CARD}", *([CARD] if len(specialists) == 1 else [])]:
            routes += create_agent_card_routes(card, card_url=path)
            public.add(path)

    async def health(_: Request) -> JSONResponse:
        return JSONResponse(
            {"status": "ok", "specialists": {name: each.running for name, each in executors.items()}}
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pool:
            yield
            for handler in handlers:
                await handler.aclose()

    app = Starlette(routes=[*routes, Route(HEALTH, health)], lifespan=lifespan)
    return Door(app, token, public, tokens)


def agent_card(card: Card, url: str, guarded: bool) -> a2a.AgentCard:
    """What a specialist says of itself, as A2A says it."""
    params = Struct()
    params.update({"specialist": card.name, "tools": list(card.tools)})
    extension = a2a.AgentExtension(
        uri=wire.EXTENSION,
        description="Reaches tools only through the Pointsman gateway that the caller names in headers.",
        required=True,
        params=params,
    )
    skill = a2a.AgentSkill(
        id=card.name,
        name=card.name,
        description=card.description,
        tags=["incident", "triage", card.name],
        input_modes=[wire.TASK_TYPE, "text/plain"],
        output_modes=[wire.FINDING_TYPE, "text/plain"],
    )
    made = a2a.AgentCard(
        name=card.name,
        description=card.description,
        version=card.version,
        supported_interfaces=[
            a2a.AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")
        ],
        capabilities=a2a.AgentCapabilities(streaming=True, extensions=[extension]),
        default_input_modes=[wire.TASK_TYPE, "text/plain"],
        default_output_modes=[wire.FINDING_TYPE, "text/plain"],
        skills=[skill],
    )
    if guarded:
        bearer = a2a.HTTPAuthSecurityScheme(scheme="bearer")
        made.security_schemes["bearer"].http_auth_security_scheme.CopyFrom(bearer)
        made.security_requirements.add().schemes["bearer"].SetInParent()
    return made


class _Quiet(uvicorn.Server):
    """Uvicorn that ends normally at SIGTERM and SIGINT."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, at once at the second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


class _LatestTasks(InMemoryTaskStore):
    """A task store that forgets the oldest."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: OrderedDict[str, None] = OrderedDict()

    async def save(self, task: a2a.Task, context: ServerCallContext) -> None:
        """Keep a task, and let go of the one that was touched longest ago."""
        await super().save(task, context)
        self._latest[task.id] = None
        self._latest.move_to_end(task.id)
        while len(self._latest) > MOST_KEPT:
            oldest, _ = self._latest.popitem(last=False)
            await super().delete(oldest, context)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: TCP_NODELAY is set
    with suppress(OSError):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --port"
        ) from error
    bound.listen(128)
    return bound
