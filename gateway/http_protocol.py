"""The server side of HTTP/1.1: uvicorn's protocol, with the deadlines and limits it does not have.

Uvicorn waits for ever for a head, a body, and a client that does not read. One pass a second over the open
connections ends those that are late, so that a request on time pays nothing for it.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.unread import LARGE

HEAD_SECONDS = 10  # from the connection, or from the head's first byte, until the head is complete
BODY_SECONDS = 20  # from the head until the body is complete
WRITE_SECONDS = 20  # how long a client may take for the next PROGRESS bytes of an answer
PROGRESS = 65_536
MOST_HEAD = 65_536  # bytes of a request's first line and headers
MOST_HEADERS = 100
MOST_CONNECTIONS = 10_000
SPARE_FILES = 200  # descriptors kept for the ledger, tool servers and children
AT_ONCE = 65_536  # bytes of a body up to which it is copied behind its head


class Refused(Exception):
    """Raised inside the parser to stop it."""


class Exchange(RequestResponseCycle):
    """One request and its answer; what is whole is taken and given in one piece."""

    _start: dict[str, Any] | None = None  # the head of the answer, until there is something of its body
    _taken = False

    async def receive(self) -> Any:
        """The body at once where all of it is here; after that, the end of the connection."""
        if self._taken or self.more_body or self.waiting_for_100_continue or self.disconnected:
            return await super().receive()
        self._taken = True
        self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        """Send the head with the first of the body."""
        if not self.response_started and self._start is None and message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if self._sent_whole(start, message):
                return
            await super().send(start)  # type: ignore[arg-type]
        await super().send(message)

    def _sent_whole(self, start: dict[str, Any], message: dict[str, Any]) -> bool:
        """Send an answer of one piece, if it is one and nothing stands in the way."""
        body = message.get("body", b"")
        busy = self.flow.write_paused or self.disconnected or self.scope["method"] == "HEAD"
        if busy or message.get("more_body") or len(body) > AT_ONCE:
            return False
        size, lines = -1, [STATUS_LINE[start["status"]]]
        for name, value in start["headers"]:
            lines += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                size = int(value)
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        breaks = 1 + len(start["headers"]) + (not self.keep_alive)
        if size != len(body) or head.count(b"\n") != breaks or head.count(b"\r") != breaks:
            return False  # a head that is not as it should be: there it is told
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(b"".join((head, b"\r\n", body)))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._read = 0  # bytes since the last message was complete
        self._late = 0  # seconds this connection has kept us waiting
        self._unsent = 0  # bytes that waited to be taken a second ago
        self._stalled = 0
        self._resting = False  # between two requests
        self._refusal = (400, "Invalid HTTP request received.")
        self._deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; when there are too many, one that does nothing makes room."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            idle = (c for c in self.connections if isinstance(c, Protocol) and c is not self and c.idle)
            (next(idle, self)).transport.abort()

    @property
    def idle(self) -> bool:
        """Whether no request runs on it."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def unread(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def data_received(self, data: bytes) -> None:
        """Read on, but no more than a head may hold."""
        if self._deaf:
            return
        self._read += len(data)
        if self._resting:
            self._resting, self._late = False, 0
        super().data_received(data)
        if self._read > MOST_HEAD and self._in_head() and not self.transport.is_closing():
            self._refusal = (431, "The head of the request is too large.")
            self.send_400_response("")

    def _in_head(self) -> bool:
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is too large or another one still runs on this connection."""
        if not self.idle:
            self.cycle.keep_alive = False  # a client that does not wait for the answer sends it again
            self._deaf = True
            raise Refused
        if len(self.headers) > MOST_HEADERS or (self._read > MOST_HEAD and self._size() > MOST_HEAD):
            self._refusal = (431, "The head of the request is too large.")
            raise Refused
        self._late = 0
        parser: Any = self.parser
        url, version = httptools.parse_url(self.url), parser.get_http_version()
        path = url.path.decode("ascii")
        self.scope["method"] = parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = url.path
        self.scope["query_string"] = url.query or b""
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        """The answer is out; the next request may come."""
        self.server_state.total_requests += 1
        self._resting, self._late = True, 0
        if self.unread > LARGE:
            state: Any = self.scope.get("state") or {}
            if "subject" in state:
                state["unread"].add(state["subject"], self)
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._read = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say what was wrong with the request and close; nothing is said into another request's answer."""
        if self._deaf:
            return
        self._deaf = True
        if not self.idle:  # a broken body: whoever reads it learns that the client has gone
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        status, words = self._refusal
        self.transport.write(
            f"HTTP/1.1 {status} Refused\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(words)}\r\nconnection: close\r\n\r\n{words}".encode()
        )
        self.transport.close()

    def resume_writing(self) -> None:
        """The client has taken most of what waited for it."""
        self._stalled = self._unsent = 0
        super().resume_writing()

    def check(self) -> None:
        """Once a second: end the connection if it is late with its head, its body, or taking an answer."""
        self._check_writing()
        if self.idle:
            waited_for = True
            allowed = self.timeout_keep_alive if self._resting else HEAD_SECONDS
        else:
            waited_for = self.cycle.more_body and not self._deaf
            allowed = BODY_SECONDS
        self._late = self._late + 1 if waited_for else 0
        if self._late <= allowed:
            return
        if self._resting:
            self.transport.close()
        else:
            self.transport.abort()

    def _check_writing(self) -> None:
        left = self.transport.get_write_buffer_size()
        stuck = left > 0 and left > self._unsent - PROGRESS and (self.flow.write_paused or self.idle)
        self._stalled = self._stalled + 1 if stuck else 0
        if not self._stalled:
            self._unsent = left
        if self._stalled > WRITE_SECONDS:
            self.transport.abort()


async def keep_deadlines(state: ServerState) -> None:
    """End the connections that are late, for as long as the server runs."""
    while True:
        await asyncio.sleep(1)
        for connection in list(state.connections):
            if isinstance(connection, Protocol):
                connection.check()


def most_connections() -> int:
    """How many clients may be connected at once: as many as the process may have files, less a few."""
    return min(MOST_CONNECTIONS, max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES))


def raise_file_limit() -> None:
    """Take as many file descriptors as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
