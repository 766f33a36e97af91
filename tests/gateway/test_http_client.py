"""The HTTP client: every form of answer, connections used again, and servers that do it wrong."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway import http_client
from gateway.errors import UpstreamFailed
from gateway.http_client import MOST_HEAD, MOST_HELD, Address, Pool, forbidden_address

pytestmark = pytest.mark.anyio
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


class Wire:
    """A server that answers each request with the next bytes it was given, and what it heard."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.connections = self.lost = 0
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.lower().find(b"content-length:")
                size = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
                self.heard.append(head + await reader.readexactly(size))
                writer.write(self.answers.pop(0))
                await writer.drain()
                if self.close:
                    break
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1  # the client has gone, as some of these tests mean it to
        finally:
            writer.close()


@asynccontextmanager
async def against(wire: Wire) -> AsyncIterator[tuple[Pool, Address]]:
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Pool(5) as pool:
            yield pool, Address.of(f"http://127.0.0.1:{port}/mcp?a=b c", "test/1")
    finally:
        server.close()


async def ask(pool: Pool, to: Address, body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
    async with asyncio.timeout(10):
        with await pool.request("POST", to, headers, body) as response:
            return response.status, b"".join([piece async for piece in response.chunks()])


FORMS = {
    "sized": OK + b"content-length: 5\r\n\r\nhello",
    "chunked": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nx-after: y\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("answer", FORMS.values(), ids=FORMS)
async def test_every_form_of_answer_is_read_and_its_connection_used_again(answer: bytes) -> None:
    wire = Wire(answer, answer, answer)
    async with against(wire) as (pool, to):
        assert [await ask(pool, to) for _ in range(3)] == [(200, b"hello")] * 3
    assert wire.connections == 1


async def test_an_answer_without_a_size_ends_with_its_connection() -> None:
    wire = Wire(OK + b"\r\nhello", OK + b"\r\nagain", close=True)
    async with against(wire) as (pool, to):
        assert [await ask(pool, to), await ask(pool, to)] == [(200, b"hello"), (200, b"again")]
    assert wire.connections == 2


async def test_an_answer_without_a_body_is_complete() -> None:
    wire = Wire(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n")
    async with against(wire) as (pool, to):
        assert [await ask(pool, to), await ask(pool, to)] == [(202, b""), (204, b"")]
    assert wire.connections == 1


async def test_the_request_says_what_it_should() -> None:
    wire = Wire(FORMS["sized"])
    async with against(wire) as (pool, to):
        await ask(pool, to, b'{"a":1}', Accept="x")
    head, body = wire.heard[0].split(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /mcp?a=b%20c HTTP/1.1" and body == b'{"a":1}'
    assert {b"User-Agent: test/1", b"Accept-Encoding: identity", b"Accept: x", b"Content-Length: 7"} <= set(
        head.split(b"\r\n")
    )


async def test_requests_at_once_take_connections_of_their_own() -> None:
    wire = Wire(*[FORMS["sized"]] * 8)
    async with against(wire) as (pool, to):
        answers = await asyncio.gather(*(ask(pool, to) for _ in range(4)))
        answers += await asyncio.gather(*(ask(pool, to) for _ in range(4)))
    assert answers == [(200, b"hello")] * 8 and wire.connections == 4


WRONG = {
    "closed before the answer": (b"", "send", "closed before"),
    "closed within the head": (b"HTTP/1.1 200 OK\r\ncont", "send", "closed before"),
    "closed within the body": (OK + b"content-length: 9\r\n\r\nhello", "read", "closed before"),
    "closed within a chunk": (OK + b"transfer-encoding: chunked\r\n\r\n9\r\nhello", "read", "closed before"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "send", "does not speak"),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "send", "does not speak"),
    "two sizes": (OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", "send", "does not speak"),
    "size and chunks": (
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "send",
        "does not speak",
    ),
    "an endless head": (OK + b"x: y\r\n" * (MOST_HEAD // 6), "send", "the head of its answer"),
    "an endless header": (OK + b"x: " + b"y" * MOST_HEAD, "send", "the head of its answer"),
    "endless interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000, "send", "the head of its answer"),
}


@pytest.mark.parametrize(("answer", "stage", "words"), WRONG.values(), ids=WRONG)
async def test_a_server_that_breaks_http_fails_the_call_and_not_the_next(
    answer: bytes, stage: str, words: str
) -> None:
    async with against(Wire(answer, close=True)) as (pool, to):
        with pytest.raises(UpstreamFailed) as caught:
            await ask(pool, to)
        assert caught.value.stage == stage and words in caught.value.reason and caught.value.sent
    wire = Wire(FORMS["sized"])
    async with against(wire) as (pool, to):
        assert await ask(pool, to) == (200, b"hello")


async def test_an_answer_nobody_asked_for_never_answers_the_next_request() -> None:
    wire = Wire(FORMS["sized"] + OK + b"content-length: 6\r\n\r\npoison", FORMS["sized"])
    async with against(wire) as (pool, to):
        assert await ask(pool, to) == (200, b"hello")
        assert await ask(pool, to) == (200, b"hello")
    assert wire.connections == 2


async def test_a_connection_the_server_says_it_closes_is_not_used_again() -> None:
    wire = Wire(*[OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello"] * 2)
    async with against(wire) as (pool, to):
        assert await ask(pool, to) == await ask(pool, to) == (200, b"hello")
    assert wire.connections == 2


async def test_an_answer_left_half_way_ends_its_connection() -> None:
    wire = Wire(OK + b"content-length: 50\r\n\r\nhello", FORMS["sized"])
    async with against(wire) as (pool, to):
        with await pool.request("POST", to, {}, b"{}") as response:
            assert response.status == 200 and not response.complete
        assert await ask(pool, to) == (200, b"hello")
    assert wire.connections == 2


async def test_a_request_given_up_ends_its_connection() -> None:
    wire = Wire(b"", FORMS["sized"])
    async with against(wire) as (pool, to):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.request("POST", to, {}, b"{}")
        assert await ask(pool, to) == (200, b"hello")
    assert wire.connections == 2


async def test_a_large_body_is_held_back_until_it_is_read() -> None:
    size = MOST_HELD * 40
    sent = 0
    written = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + f"content-length: {size}\r\n\r\n".encode())
        while sent < size:
            writer.write(b"x" * MOST_HELD)
            sent += MOST_HELD
            written.set()
            await writer.drain()
        writer.close()

    wire = Wire()
    wire.serve = serve  # type: ignore[method-assign]
    async with against(wire) as (pool, to), asyncio.timeout(20):
        with await pool.request("POST", to, {}, b"") as response:
            await _quiet(written)  # until nothing more goes out
            assert sent < size and not response.complete
            got = 0
            async for piece in response.chunks():
                got += len(piece)
    assert got == size


async def _quiet(written: asyncio.Event) -> None:
    """Until no more is written for a moment."""
    while True:
        try:
            await asyncio.wait_for(written.wait(), 0.2)
            written.clear()
        except TimeoutError:
            return


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\rb"])
async def test_a_header_cannot_bring_others_with_it(value: str) -> None:
    wire = Wire(FORMS["sized"])
    async with against(wire) as (pool, to):
        with pytest.raises(UpstreamFailed, match="line break"):
            await ask(pool, to, b"{}", **{"X-One": value})
    assert wire.heard == []


async def test_who_cannot_be_reached_is_named_and_nothing_was_sent() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        to = Address.of(f"http://me:secret-word@127.0.0.1:{sock.getsockname()[1]}/mcp", "test/1")
        async with Pool(5) as pool:
            with pytest.raises(UpstreamFailed) as caught:
                await ask(pool, to)
    assert caught.value.stage == "connect" and not caught.value.sent
    assert "secret-word" not in str(caught.value) and "Authorization: Basic bWU6c2VjcmV0LXdvcmQ=" in to.fixed


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "0.0.0.0", "[::ffff:169.254.169.254]", "224.0.0.1", "2852039166"]
)
async def test_an_address_no_tool_server_may_have_is_not_connected_to(host: str) -> None:
    async with Pool(5) as pool:
        with pytest.raises(UpstreamFailed, match="no tool server may have") as caught:
            await ask(pool, Address.of(f"http://{host}/mcp", "test/1"))
    assert not caught.value.sent
    assert not forbidden_address("127.0.0.1") and not forbidden_address("example.org")


@pytest.mark.parametrize(
    ("url", "named", "target"),
    [
        ("http://example.org/mcp", "example.org", "/mcp"),
        ("http://example.org:80", "example.org", "/"),
        ("https://example.org/a b?q=ü", "example.org", "/a%20b?q=%C3%BC"),
        ("https://example.org:80/", "example.org:80", "/"),
        ("http://[::1]:8000/mcp", "[::1]:8000", "/mcp"),
        ("http://bücher.example/", "xn--bcher-kva.example", "/"),
    ],
)
def test_a_url_becomes_host_and_target(url: str, named: str, target: str) -> None:
    to = Address.of(url, "test/1")
    assert to.fixed.startswith(f"Host: {named}\r\n") and to.target == target


async def test_a_name_that_changes_its_address_reaches_what_was_checked_and_then_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the name server is a table here; its first answer may be used, its next one may not."""
    told = [["127.0.0.1", "169.254.169.254"], ["169.254.169.254", "::ffff:169.254.169.254"]]
    asked: list[str] = []
    system = socket.getaddrinfo

    def name_server(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != "rebinding.example":
            return system(host, port, *more, **options)
        asked.append(host)
        return [entry for address in told.pop(0) for entry in system(address, port, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", name_server)
    wire = Wire(OK + b"connection: close\r\ncontent-length: 2\r\n\r\n{}", close=True)
    async with against(wire) as (pool, here):
        there = Address.of(f"http://rebinding.example:{here.port}/mcp", "test/1")
        assert (await ask(pool, there), wire.connections) == ((200, b"{}"), 1)
        assert len(asked) == 1  # what is connected to was not looked up a second time
        monkeypatch.setattr(http_client, "NAMES_SECONDS", 0)
        with pytest.raises(UpstreamFailed, match="an address no tool server may have") as refused:
            await ask(pool, there)
        assert refused.value.stage == "connect"
    assert len(asked) == 2 and wire.connections == 1
