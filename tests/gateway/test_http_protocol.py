"""The server side of HTTP, by its bytes: answers in one piece and in many, and connections that rest."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from gateway.http_protocol import AT_ONCE, Protocol, keep_deadlines
from gateway.timers import Deadline, Timers

pytestmark = pytest.mark.anyio


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers as the path says."""
    body, kind = b"", scope["path"]
    while (part := await receive())["type"] == "http.request":
        body += part["body"]
        if not part["more_body"]:
            break
    headers = [(b"x-path", kind.encode()), (b"content-length", b"%d" % len(body))]
    if kind == "/pieces":
        headers = headers[:1]
    if kind == "/split":
        headers.append((b"x-bad", b"1\r\nset-cookie: stolen"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if kind == "/pieces":
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b"end"
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(app, http=Protocol, loop="none", lifespan="off", log_config=None, **options)
    config.server_header = config.date_header = False
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        tasks = [
            asyncio.create_task(server._serve([sock])),
            asyncio.create_task(keep_deadlines(server.server_state)),
        ]
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await tasks[0]
            tasks[1].cancel()


async def ask(port: int, path: str, body: bytes = b"", verb: str = "POST", more: str = "") -> bytes:
    """Everything that comes back on a connection that is closed after one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"{verb} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    writer.write(head.encode() + body)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_an_answer_has_the_same_bytes_whole_or_in_pieces() -> None:
    async with served() as port:
        whole = b"HTTP/1.1 200 OK\r\nx-path: /a b\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
        assert await ask(port, "/a%20b?c=d", b"hello") == whole
        large = b"x" * (AT_ONCE + 1)
        assert (await ask(port, "/large", large)).partition(b"\r\n\r\n")[2] == large
        pieces = await ask(port, "/pieces", b"hello")
        assert pieces.endswith(b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nend\r\n0\r\n\r\n")
        assert (await ask(port, "/head", verb="HEAD")).endswith(
            b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        waited = await ask(port, "/wait", b"hello", more="Expect: 100-continue\r\n")
        assert waited.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


async def test_a_head_that_is_not_as_it_should_be_does_not_go_out() -> None:
    async with served() as port:
        split = await ask(port, "/split", b"hello")
        assert split.startswith(b"HTTP/1.1 500") or split == b"", split
        assert b"stolen" not in split


async def test_a_connection_may_rest_for_so_long_and_no_longer() -> None:
    async with served(timeout_keep_alive=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = b"POST /rest HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
        for _ in range(3):
            writer.write(request)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nhi"), 5)).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert time.monotonic() - began > 0.9
        writer.close()


async def test_a_deadline_ends_what_takes_longer_and_nothing_else() -> None:
    timers = Timers()
    with pytest.raises(TimeoutError), Deadline(timers, 0.05):
        await asyncio.sleep(10)
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    with Deadline(timers, 10):
        await asyncio.sleep(0)

    async def waits() -> None:
        with Deadline(timers, 10):
            await asyncio.sleep(10)

    other = asyncio.create_task(waits())
    await asyncio.sleep(0)
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    with pytest.raises(TimeoutError), Deadline(timers, 0.05), Deadline(timers, 10):
        await asyncio.sleep(10)
