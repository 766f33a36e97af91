"""The door of a served specialist: who may ask, how much they may send, how long they may take to send it.

The A2A SDK declares security schemes in the card and enforces none; this does, before a body is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Collection
from typing import Any

from specialists.remote.tokens import AccessTokens, BadToken

MOST_BODY = 4 * 1024 * 1024  # a task with all its leads is some hundred kilobytes at most
BODY_SECONDS = 10.0
CHALLENGES = {401: b"Bearer", 403: b'Bearer error="insufficient_scope"'}

Scope = Any
Receive = Any
Send = Any


class Door:
    """ASGI middleware: bearer token, size and time of a request's body."""

    def __init__(
        self, app: Any, token: str, public: Collection[str], tokens: AccessTokens | None = None
    ) -> None:
        self._app = app
        self._digest = _digest(f"Bearer {token}".encode()) if token else b""
        self._tokens = tokens
        self._public = frozenset(public)  # paths that need no token: cards, health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if scope["path"] not in self._public:
            try:
                await self._check(headers.get(b"authorization", b""))
            except BadToken as why:
                await _refuse(send, why.status, f"unauthorized: {why}")
                return
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > MOST_BODY:
            await _refuse(send, 413, f"the body may have {MOST_BODY} bytes at most")
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(receive)
        except TimeoutError:
            await _refuse(send, 408, f"the body did not arrive within {BODY_SECONDS:g} s")
            return
        if body is None:
            await _refuse(send, 413, f"the body may have {MOST_BODY} bytes at most")
            return
        await self._app(scope, _again(body, receive), send)

    async def _check(self, given: bytes) -> None:
        """BadToken unless this is the token, compared in constant time, or an access token that is taken."""
        if hmac.compare_digest(_digest(given), self._digest) or not (self._digest or self._tokens):
            return
        kind, _, token = given.decode("latin-1").partition(" ")
        if self._tokens is None or kind.lower() != "bearer" or token.count(".") != 2:
            raise BadToken("give the token in Authorization: Bearer …")
        await self._tokens.check(token.strip())


def _digest(given: bytes) -> bytes:
    return hashlib.sha256(given).digest()


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too long."""
    pieces, size = [], 0
    while True:
        message = await receive()
        piece = message.get("body", b"")
        size += len(piece)
        if size > MOST_BODY:
            return None
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body that was read, then whatever comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Any:
        return waiting.pop() if waiting else await receive()

    return given


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in CHALLENGES:
        headers.append((b"www-authenticate", CHALLENGES[status]))
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
