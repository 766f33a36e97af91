"""How servers are served: one on stdio or HTTP, or all in one process behind one address."""

from __future__ import annotations

import ctypes
import hmac
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tool_servers.errors import Unavailable
from tool_servers.toolkit import ToolServer
from tool_servers.world import World

NAMES = ("kubernetes", "metrics", "logs", "traces", "changes", "runbooks", "tickets", "actions", "delivery")
log = logging.getLogger(__name__)
TOKEN = "TOOL_SERVERS_TOKEN"


def build(name: str, world: World) -> ToolServer:
    """Build one server by its name."""
    from tool_servers.answers import Replay

    server = import_module(f"tool_servers.{name}").build(world)
    server.replay = Replay(name, world)
    return server


class Bundle:
    """Several servers behind one address: server NAME answers at /NAME/mcp, with the token if one is set."""

    def __init__(self, servers: dict[str, ToolServer], token: str = "") -> None:
        self._servers = servers
        self._token = token
        self._apps: dict[str, ASGIApp] = {
            f"/{name}/mcp": server.streamable_http_app(
                streamable_http_path=f"/{name}/mcp", json_response=True
            )
            for name, server in servers.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._token and not self._allowed(scope):
            await _say(send, 401, "a bearer token is required: send the one of TOOL_SERVERS_TOKEN")
        elif app := self._apps.get(scope["path"].rstrip("/")):
            await app(scope, receive, send)
        else:
            await _say(send, 404, f"no such path; known: {', '.join(self._apps)}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            for server in self._servers.values():
                await stack.enter_async_context(server.session_manager.run())
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _allowed(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, b"Bearer " + self._token.encode())


async def _say(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


class _Announcing(uvicorn.Server):
    """A uvicorn server that says when it accepts requests."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()


def serve_http(
    servers: dict[str, ToolServer], port: int = 0, ready_fd: int | None = None, with_parent: bool = False
) -> None:
    """Serve over HTTP on loopback until stopped; one JSON line with the address goes to `ready_fd`."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so: TCP_NODELAY
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise Unavailable(f"port {port} cannot be used: {error.strerror}; choose another, or 0") from error
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        Bundle(servers, os.environ.get(TOKEN, "")),
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )

    def ready() -> None:
        _announce({"url": url}, ready_fd)
        for each in servers.values():
            if each.warm is not None:
                threading.Thread(target=_warm, args=(each,), name=f"warm-{each.name}", daemon=True).start()

    server = _Announcing(config, ready)
    if with_parent:
        die_with_parent()
    server.run(sockets=[listener])


def _warm(server: ToolServer) -> None:
    """Make a server ready for its first call; if that fails, the call itself will say why."""
    try:
        assert server.warm is not None
        server.warm()
    except Exception as error:
        log.debug("%s could not be made ready beforehand: %s", server.name, error)


def serve_stdio(server: ToolServer) -> None:
    """Serve one server on stdin and stdout until they close."""
    server.run("stdio")


def _announce(ready: dict[str, Any], ready_fd: int | None) -> None:
    line = json.dumps(ready) + "\n"
    if ready_fd is None:
        print(line, end="", flush=True)
        return
    with os.fdopen(ready_fd, "w") as pipe:
        pipe.write(line)


def die_with_parent() -> None:
    """Stop when the process that started this one ends, however it ends."""
    parent = os.getppid()
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
