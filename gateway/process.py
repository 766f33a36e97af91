"""The gateway as a process: one per home, ready when it listens, gone without a trace of its children."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn

from gateway.app import open_app
from gateway.catalogue import OPERATOR
from gateway.errors import GatewayError, GatewayRunning
from gateway.http_protocol import Protocol, keep_deadlines, raise_file_limit
from gateway.remote import only_one
from gateway.settings import Settings

log = logging.getLogger("gateway")
GRACE_SECONDS = 5


def listen(settings: Settings) -> socket.socket:
    """The listening socket; says plainly when the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: asyncio sets TCP_NODELAY
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        raise GatewayRunning(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "stop what listens there, or choose another port with --port (0 takes a free one)"
        ) from None
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def die_with_parent() -> None:
    """Have the system end us when the process that started us ends; elsewhere stdin tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Quiet(uvicorn.Server):
    """Uvicorn that ends normally at SIGTERM and SIGINT, so that everything else is let go of in order."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.on_stop: Callable[[], None] = lambda: None
        self._told = False  # by a signal

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, at once at the second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """End once what is under way has ended."""
        self.on_stop()
        self.should_exit = True

    def _signalled(self) -> None:
        self.force_exit = self._told
        self._told = True
        self.stop()


async def serve(settings: Settings, home: Path, ready: Ready, *, with_parent: bool = False) -> None:
    """Run the gateway until it is told to stop."""
    with only_one(home), contextlib.closing(listen(settings)) as sock:
        await _serve(settings, home, sock, ready, with_parent)


async def _serve(
    settings: Settings, home: Path, sock: socket.socket, ready: Ready, with_parent: bool
) -> None:
    about_file = home / "gateway.json"
    async with open_app(settings, home) as app:
        host, port = sock.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        app.identity.listens(host, port)
        # Handed to this process's own commands only, and ended with it.
        operator = await app.tokens.issue(OPERATOR.id, OPERATOR.roles)
        config = uvicorn.Config(
            app.front,
            loop="none",
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = Quiet(config)

        def ending() -> None:
            about_file.unlink(missing_ok=True)  # nobody is to join a gateway that ends
            app.front.end_streams()

        server.on_stop = ending
        tasks = [
            asyncio.create_task(work)
            for work in (
                app.reader.watch(),
                app.policies.watch(),
                _sweep(app),
                keep_deadlines(server.server_state),
            )
        ]
        if app.identity.jwts is not None:
            tasks.append(asyncio.create_task(app.identity.jwts.keys.watch()))
        if with_parent:
            tasks.append(asyncio.create_task(_until_stdin_closes(server)))
        app.start()
        _calm_collector()
        _return_large_blocks()
        raise_file_limit()
        about = {"url": url, "pid": os.getpid(), "started": datetime.now(UTC).isoformat(timespec="seconds")}
        told = {**about, "operator_token": operator["token"]}
        if "${recording}" in app.reader.path.read_text(encoding="utf-8"):
            told["recording"] = str(Path(settings.recording).resolve()) if settings.recording else ""
        _write_private(about_file, told)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            await asyncio.wait(
                (asyncio.create_task(server.listening.wait()), serving), return_when="FIRST_COMPLETED"
            )
            ready.tell({"url": url, "pid": os.getpid(), "home": str(home)})
            log.info("gateway on %s, home %s", url, home)
            await serving
        finally:
            for task in tasks:
                task.cancel()
            about_file.unlink(missing_ok=True)
            await app.tokens.revoke(operator["id"])


def _return_large_blocks() -> None:
    """Have the system take back blocks of a megabyte and more at once, where the C library is glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 1_048_576)  # M_MMAP_THRESHOLD, which else grows with the first large block that is freed


def _calm_collector() -> None:
    """Have cycles looked for less often, and never among what was loaded at the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _sweep(app: Any) -> None:
    while True:
        await asyncio.sleep(30)
        await app.front.sessions.sweep()


async def _until_stdin_closes(server: Quiet) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (ValueError, OSError):
        return  # stdin is no pipe: the signal is what we have
    while await reader.read(4096):
        pass
    log.info("the parent has gone; stopping")
    server.stop()


def _write_private(path: Path, value: dict[str, Any]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(value, file)
    fresh.replace(path)


class Ready:
    """The starter's end of the start: told once, that the gateway is ready or why it will not be."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def tell(self, value: dict[str, Any]) -> None:
        """Write one JSON line and close the descriptor."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with os.fdopen(fd, "w") as out:
                out.write(json.dumps(value) + "\n")

    def __enter__(self) -> Ready:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GatewayError):
            facts = {"code": error.code, "message": str(error), "exit_code": error.exit_code}
            self.tell({"error": facts})
