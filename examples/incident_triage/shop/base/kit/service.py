"""A service process: routes, health, metrics, draining."""

import argparse
import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from kit.calls import Caller, CallFailed
from kit.db import Database, PoolExhausted
from kit.flags import Flags
from kit.telemetry import Telemetry

Handler = Callable[["Service", web.Request], Awaitable[dict]]


class Problem(Exception):
    """A request that cannot be served, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """One running service and what its handlers may use."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self.version = options.version
        self.run_dir = Path(options.run)
        self.telemetry = Telemetry(name, self.run_dir, options.sample)
        self.calls = Caller(self.telemetry, self.run_dir)
        self.flags = Flags(self.run_dir / "flags.json")
        self.db = Database(self.telemetry, options.database) if options.database else None
        self.background: list[Callable[[Service], Awaitable[None]]] = []
        self.in_flight = 0
        self.app = web.Application()
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/metrics", self._metrics)

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Serve a path with a handler."""
        name = f"{method} {path}"

        async def serve(request: web.Request) -> web.Response:
            return await self._serve(name, handler, request)

        self.app.router.add_route(method, path, serve)

    async def _serve(self, name: str, handler: Handler, request: web.Request) -> web.Response:
        begin = time.perf_counter()
        self.in_flight += 1
        status, body = 200, {}
        parent = request.headers.get("traceparent", "")
        try:
            with self.telemetry.span(name, parent, kind="server") as span:
                try:
                    body = await handler(self, request)
                except Problem as problem:
                    status, body = problem.status, {"error": str(problem)}
                except PoolExhausted as problem:
                    status, body = 503, {"error": str(problem)}
                except CallFailed as problem:
                    status, body = 502, {"error": str(problem)}
                except Exception as problem:
                    status, body = 500, {"error": f"{type(problem).__name__}: {problem}".splitlines()[0]}
                span.attributes["status_code"] = status
                if status >= 500:
                    span.fail(body["error"])
                    self.telemetry.log("ERROR", f"{name} answered {status}: {body['error']}", status=status)
        finally:
            self.in_flight -= 1
            self._count(status, (time.perf_counter() - begin) * 1000)
        return web.json_response(body, status=status)

    def _count(self, status: int, milliseconds: float) -> None:
        self.telemetry.counters["http_requests_total"] += 1
        self.telemetry.counters["http_errors_total"] += status >= 500
        self.telemetry.observe("http_request_duration_ms", milliseconds)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"service": self.name, "version": self.version})

    async def _metrics(self, request: web.Request) -> web.Response:
        self.telemetry.gauges["http_in_flight"] = self.in_flight
        if self.db is not None:
            self.db.measure()
        return web.Response(text=self.telemetry.exposition())

    async def run(self) -> None:
        """Serve until told to stop, then finish what is in flight."""
        if self.db is not None:
            await self.db.open()
        runner = web.AppRunner(self.app, shutdown_timeout=5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        tasks = [asyncio.create_task(job(self)) for job in self.background]
        self.telemetry.log("INFO", f"{self.name} {self.version} is ready")
        print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
        await stop.wait()
        self.telemetry.log("INFO", f"{self.name} {self.version} is draining")
        for task in tasks:
            task.cancel()
        await runner.cleanup()
        await self.calls.close()
        if self.db is not None:
            await self.db.close()


def main(name: str, build: Callable[[Service], None]) -> None:
    """Start a service from the command line."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--version", required=True)
    parser.add_argument("--run", required=True, help="directory for logs, spans, flags and discovery")
    parser.add_argument("--database", default="")
    parser.add_argument("--sample", type=float, default=0.05)
    service = Service(name, parser.parse_args())
    build(service)
    asyncio.run(service.run())
