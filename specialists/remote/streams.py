"""Streams of server-sent events to A2A callers, which end with the task, the caller or the server.

`sse_starlette`, which the A2A SDK answers with, costs more for a short stream than all that is told in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from a2a.server.jsonrpc_models import InternalError
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from starlette.responses import Response

log = logging.getLogger(__name__)

PING_SECONDS = 15.0  # between comments in a stream; callers take a longer silence for a dead connection
PING = b": ping\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # has a proxy pass on each event as it comes
]


class Streams:
    """The streams that are open, so that a server that stops need not wait for their ends."""

    def __init__(self) -> None:
        self._open: set[asyncio.Event] = set()

    def end(self) -> None:
        """End them all; the tasks go on until the server ends, and callers take them up elsewhere."""
        for over in self._open:
            over.set()

    def of(self, told: AsyncGenerator[dict[str, Any]], request: str | int | None) -> Response:
        """The answer to a request that streams JSON-RPC messages."""
        return _Stream(told, request, self._open)


class Dispatcher(JsonRpcDispatcher):
    """The SDK's JSON-RPC, but for how a stream is sent."""

    def __init__(self, streams: Streams, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._streams = streams

    def _create_response(self, context: Any, handler_result: Any) -> Response:
        if isinstance(handler_result, AsyncGenerator):
            return self._streams.of(handler_result, context.state.get("request_id"))
        return super()._create_response(context, handler_result)


class _Stream(Response):
    """Server-sent events from one task, while others look out for the caller's leaving and a long silence."""

    def __init__(
        self, told: AsyncGenerator[dict[str, Any]], request: str | int | None, opened: set[asyncio.Event]
    ) -> None:
        self._told, self._request, self._opened = told, request, opened

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send all that is told, or until nobody listens."""
        over = asyncio.Event()
        self._opened.add(over)
        works = (self._tell(send, over), _left(receive, over), _ping(send))
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await over.wait()
        finally:
            self._opened.discard(over)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _tell(self, send: Any, over: asyncio.Event) -> None:
        """All messages, each as an event; what goes wrong meanwhile is the last."""
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        try:
            async with aclosing(self._told) as told:
                async for message in told:
                    await send({"type": "http.response.body", "body": _event(message), "more_body": True})
            last = b""
        except Exception as error:
            log.exception("a stream broke off")
            last = _event(build_error_response(self._request, InternalError(message=str(error))))
        await send({"type": "http.response.body", "body": last, "more_body": False})
        over.set()


def _event(message: dict[str, Any]) -> bytes:
    kind = b"event: error\n" if "error" in message else b""
    return b"%sdata: %s\n\n" % (kind, json.dumps(message, ensure_ascii=False).encode())


async def _left(receive: Any, over: asyncio.Event) -> None:
    """Wait until the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    over.set()


async def _ping(send: Any) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await send({"type": "http.response.body", "body": PING, "more_body": True})
