"""A caller over HTTP: answered with JSON, or with events once something comes before the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from gateway.caller import Caller
from gateway.errors import MethodNotFound
from gateway.types import Subject
from gateway.wire import SSE_HEADERS, STATUS, event

JSON = (b"content-type", b"application/json")


class HttpCaller(Caller):
    """The client behind one POST."""

    __slots__ = ("_finished", "_send", "_streaming")

    def __init__(
        self, send: Callable[[dict[str, Any]], Awaitable[None]], subject: Subject, *args: Any, **kw: Any
    ) -> None:
        super().__init__(subject, *args, **kw)
        self._send = send
        self._streaming = False
        self._finished = False

    async def notify(self, message: dict[str, Any]) -> None:
        """Send it before the answer, from now on a stream; what comes after the answer is dropped."""
        if not self._finished:
            await self._write(event(message))

    async def ask(self, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        """Ask on this response's stream; only a legacy client can be asked."""
        if self.session is None:
            raise MethodNotFound(
                f"{method} refused: a client of this version is asked by input_required only"
            )
        if self._finished:
            raise MethodNotFound(f"{method} refused: the call it belongs to has ended")
        return await self.session.ask(method, params, self.notify)

    async def ping(self) -> None:
        """Keep the connection from looking dead."""
        await self._write(b": ping\r\n\r\n")

    async def stream(self) -> None:
        """Make the response a stream now."""
        if not self._streaming:
            self._streaming = True
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": self._session_header(SSE_HEADERS)}
            )

    async def _write(self, body: bytes) -> None:
        await self.stream()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self, answer: dict[str, Any]) -> None:
        """Send the answer and end the response."""
        self._finished = True
        if self._streaming:
            await self._send({"type": "http.response.body", "body": event(answer), "more_body": False})
            return
        body = orjson.dumps(answer)
        error = answer.get("error")
        status = STATUS.get(error["code"], 200) if error is not None and self.era == "modern" else 200
        headers = self._session_header([JSON, (b"content-length", str(len(body)).encode())])
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _session_header(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if self.session is None:
            return headers
        return [*headers, (b"mcp-session-id", self.session.id.encode())]
