"""Legacy sessions of callers: who holds one, what it waits for, and its own stream."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gateway.caller import Caller
from gateway.errors import MethodNotFound, Refusal, RpcError
from gateway.types import Subject

MOST_WAITING = 1_000
TOLD_SECONDS = 1


class Session:
    """One handshake of one caller on one endpoint."""

    def __init__(self, subject: Subject, endpoint: str, hello: dict[str, Any], version: str) -> None:
        self.id = secrets.token_hex(16)
        self.subject = subject
        self.endpoint = endpoint
        self.version = version
        told = hello.get("capabilities")
        self.capabilities: dict[str, Any] = told if isinstance(told, dict) else {}
        info = hello.get("clientInfo")
        self.info: dict[str, Any] | None = info if isinstance(info, dict) else None
        self.log_level = ""
        self.used = time.monotonic()
        self.busy = 0
        self.questions: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.running: dict[Any, Callable[[], None]] = {}  # request id → how to cancel it
        self.stream: asyncio.Event | None = None  # set when there is something for the GET stream
        self.waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._numbers = 0

    def push(self, message: dict[str, Any]) -> None:
        """Put a message on the session's own stream."""
        self.waiting.append(message)
        if self.stream is not None:
            self.stream.set()

    async def ask(
        self, method: str, params: Any, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> dict[str, Any]:
        """Send the client a request and wait for its answer."""
        self._numbers += 1
        number = f"pointsman-{self._numbers}"
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            message["params"] = params
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.questions[number] = future
        try:
            await send(message)
            answer = await future
        except asyncio.CancelledError:  # nobody waits for it any more
            words = {"requestId": number, "reason": "the call it belongs to has been given up"}
            with suppress(TimeoutError):
                async with asyncio.timeout(TOLD_SECONDS):
                    await send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": words})
            raise
        finally:
            self.questions.pop(number, None)
        error = answer.get("error")
        if isinstance(error, dict):
            raise RpcError(
                str(error.get("message", "")), number=error.get("code") or -32603, data=error.get("data")
            )
        result = answer.get("result")
        if not isinstance(result, dict):
            raise RpcError("the client's answer has no result object")
        return result

    def answered(self, message: dict[str, Any]) -> None:
        """The client answers one of our questions; answers to nothing are dropped."""
        future = self.questions.get(str(message.get("id")))
        if future is not None and not future.done():
            future.set_result(message)

    def caller(self) -> Caller | None:
        """The client behind the session's own stream; None while it has none open."""
        return _OnStream(self) if self.stream is not None else None


class _OnStream(Caller):
    """A caller reached by its session's own stream."""

    __slots__ = ()

    def __init__(self, session: Session) -> None:
        super().__init__(
            session.subject,
            "legacy",
            version=session.version,
            capabilities=session.capabilities,
            info=session.info,
            endpoint=session.endpoint,
            session=session,
        )

    async def notify(self, message: dict[str, Any]) -> None:
        """Put it on the stream."""
        assert self.session is not None
        self.session.push(message)

    async def ask(self, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        """Ask on the stream."""
        assert self.session is not None
        if self.session.stream is None:
            raise MethodNotFound(f"{method} refused: the client has no stream open")
        return await self.session.ask(method, params, self.notify)


class Sessions:
    """All sessions, by id and subject: a session is only ever found by the subject that opened it."""

    def __init__(self, most: int, idle_seconds: float, closed: Callable[[str], Awaitable[None]]) -> None:
        self._most = most
        self._idle = idle_seconds
        self._closed = closed
        self._open: dict[str, Session] = {}

    def __iter__(self) -> Any:
        return iter(list(self._open.values()))

    def __contains__(self, number: str) -> bool:
        return number in self._open

    def open(self, subject: Subject, endpoint: str, hello: dict[str, Any], version: str) -> Session:
        """A new session; refused when there are too many."""
        own = sum(s.subject.id == subject.id for s in self._open.values()) if len(self._open) > 100 else 0
        if len(self._open) >= self._most or own >= max(100, self._most // 4):
            raise Refusal(
                "limit_exceeded", "too many open sessions: close some with DELETE, or use the modern protocol"
            )
        session = Session(subject, endpoint, hello, version)
        self._open[session.id] = session
        return session

    def find(self, number: str, subject: Subject, endpoint: str) -> Session | None:
        """The subject's own session of this id on this endpoint."""
        session = self._open.get(number)
        if session is None or not _same(session.subject, subject) or session.endpoint != endpoint:
            return None
        session.used = time.monotonic()
        return session

    async def close(self, session: Session) -> None:
        """End a session: what runs in it is cancelled, what was opened for it is closed."""
        self._open.pop(session.id, None)
        for cancel in list(session.running.values()):
            cancel()
        if session.stream is not None:
            session.stream.set()
        for future in session.questions.values():
            future.cancel()
        await self._closed(session.id)

    async def sweep(self) -> None:
        """Close the sessions nobody has used for long."""
        oldest = time.monotonic() - self._idle
        for session in list(self._open.values()):
            if session.used < oldest and not session.busy:
                await self.close(session)

    async def close_all(self) -> None:
        """Close every session."""
        for session in list(self._open.values()):
            await self.close(session)


def _same(one: Subject, other: Subject) -> bool:
    """Whether two tokens are of one subject, in one name and for one run: a renewed token goes on."""
    return one is other or replace(one, token="") == replace(other, token="")
