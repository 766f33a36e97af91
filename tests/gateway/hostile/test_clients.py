"""Slow and hostile clients: let go of in time, told what was wrong, and in nobody's way."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.http_protocol import BODY_SECONDS, HEAD_SECONDS, WRITE_SECONDS
from tests.gateway.hostile.field import META, Field, until
from tests.gateway.hostile.modes import CLIENTS
from tests.gateway.world import FakeServer, fake_server, gateway

PATIENCE = 20  # seconds a busy machine may be late
CLOSE = "connection: close\r\n"
HEAD = "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Client:
    """A bare connection to the gateway."""

    def __init__(self, here: Field) -> None:
        self.here = here
        host, port = here.running.url.removeprefix("http://").split(":")
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.sock.connect((host, int(port)))
        self.sock.setblocking(False)

    async def send(self, data: bytes | str) -> None:
        await asyncio.get_running_loop().sock_sendall(
            self.sock, data.encode() if isinstance(data, str) else data
        )

    async def read(self) -> bytes:
        """What comes until the gateway closes."""
        found = b""
        while chunk := await asyncio.get_running_loop().sock_recv(self.sock, 65_536):
            found += chunk
        return found

    def request(self, name: str, arguments: dict[str, Any], *more: str) -> bytes:
        """A whole tools/call."""
        params = {"name": name, "arguments": arguments, "_meta": META}
        return self.message("tools/call", params, *more)

    def message(self, method: str, params: dict[str, Any], *more: str) -> bytes:
        """A whole request."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        lines = [f"{k}: {v}\r\n" for k, v in self.here.headers(method, params.get("name", "")).items()]
        return (HEAD + "".join([*lines, *more]) + f"content-length: {len(body)}\r\n\r\n").encode() + body

    def head(self, *more: str) -> str:
        """The head of a call, without its end."""
        lines = [f"{k}: {v}\r\n" for k, v in self.here.headers("tools/call", "well__read").items()]
        return HEAD + "".join([*lines, *more])


Act = Callable[[Client], Awaitable[None]]


def sends(make: Callable[[Client], str]) -> Act:
    async def act(client: Client) -> None:
        await client.send(make(client))

    return act


def drips(make: Callable[[Client], str], piece: str) -> Act:
    async def act(client: Client) -> None:
        await client.send(make(client))
        while True:
            await asyncio.sleep(0.5)
            await client.send(piece)

    return act


async def reads_nothing(client: Client) -> None:
    await client.send(client.request("well__many", {"bytes": 8_000_000}))
    await asyncio.sleep(WRITE_SECONDS + PATIENCE)


# How each mode behaves, and after how many seconds it has to be closed.
SLOW: dict[str, tuple[Act, float]] = {
    "client-silent": (sends(lambda c: ""), HEAD_SECONDS),
    "client-half-head": (sends(lambda c: HEAD), HEAD_SECONDS),
    "client-drips-head": (drips(lambda c: HEAD + "x: ", "y"), HEAD_SECONDS),
    "client-drips-lines": (drips(lambda c: "", "\r\n"), HEAD_SECONDS),
    "client-no-body": (sends(lambda c: c.head("content-length: 9\r\n\r\n")), BODY_SECONDS),
    "client-half-body": (sends(lambda c: c.head("content-length: 9\r\n\r\n{")), BODY_SECONDS),
    "client-drips-body": (drips(lambda c: c.head("content-length: 900\r\n\r\n"), " "), BODY_SECONDS),
    "client-drips-chunks": (
        drips(lambda c: c.head("transfer-encoding: chunked\r\n\r\n"), "1\r\n \r\n"),
        BODY_SECONDS,
    ),
    "client-body-after-refusal": (drips(lambda c: HEAD + "content-length: 900\r\n\r\n", " "), HEAD_SECONDS),
}


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    with fake_server(tmp_path_factory.mktemp("well")) as running:
        yield running


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, well: FakeServer) -> Iterator[Field]:
    servers = {"well": well.entry(pin="trust")}
    with gateway(tmp_path_factory.mktemp("clients"), servers, max_concurrent=20) as running:
        yield Field(running, asyncio.run(running.issue("agent:logs", "specialist")))


@pytest.fixture(scope="module")
def closed(here: Field) -> dict[str, float]:
    """After how many seconds each slow client was let go of, all of them at once, while others are served."""

    async def one(act: Act, seconds: float) -> float:
        client = Client(here)
        before = time.monotonic()
        acting = asyncio.ensure_future(act(client))
        try:
            async with asyncio.timeout(seconds + PATIENCE):
                await client.read()
        except ConnectionError:
            pass
        finally:
            acting.cancel()
            await asyncio.gather(acting, return_exceptions=True)
            client.sock.close()
        return time.monotonic() - before

    async def unread() -> float:
        client = Client(here)
        before = time.monotonic()
        await client.send(client.request("well__many", {"bytes": 8_000_000}))
        with client.sock:
            while time.monotonic() - before < WRITE_SECONDS + 2 * PATIENCE:
                await asyncio.sleep(1)
                try:  # more of a request that has begun long ago: refused once the connection is gone
                    client.sock.send(b"\r\n")
                except ConnectionError:
                    break
        return time.monotonic() - before

    async def run() -> dict[str, float]:
        waits = {mode: asyncio.ensure_future(one(*about)) for mode, about in SLOW.items()}
        waits["client-reads-nothing"] = asyncio.ensure_future(unread())
        async with httpx2.AsyncClient(timeout=30) as http:
            while not all(wait.done() for wait in waits.values()):
                await here.call_well(http, "well__read", here.beside, 1)
                await asyncio.sleep(0.2)
        return {mode: await wait for mode, wait in waits.items()}

    return asyncio.run(run())


@pytest.mark.parametrize("mode", [mode for mode in CLIENTS if CLIENTS[mode].expected == "closed"])
def test_a_slow_client_is_let_go_of_in_time(closed: dict[str, float], mode: str) -> None:
    allowed = SLOW[mode][1] if mode in SLOW else WRITE_SECONDS
    assert closed[mode] < allowed + PATIENCE
    assert closed[mode] > min(allowed, 5) / 2  # not at once either: a slow network is no crime


async def spoken(here: Field, *pieces: bytes | str) -> bytes:
    """What the gateway says to these pieces before it closes, or within three seconds."""
    client = Client(here)
    found = b""
    try:
        for piece in pieces:
            await client.send(piece)
        async with asyncio.timeout(3):
            while chunk := await asyncio.get_running_loop().sock_recv(client.sock, 65_536):
                found += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        client.sock.close()
    return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0


def test_client_many_headers(here: Field) -> None:
    answer = asyncio.run(spoken(here, HEAD + "x: y\r\n" * 2_000 + "\r\n"))
    assert status(answer) == 431


def test_client_huge_header(here: Field) -> None:
    answer = asyncio.run(spoken(here, HEAD + "x: ", *["y" * 60_000] * 5))
    assert status(answer) in (431, 0)  # 0: closed while it was still sending


def test_client_pipelines(here: Field, well: FakeServer) -> None:
    async def two() -> bytes:
        client = Client(here)
        await client.send(client.request("well__slow", {"seconds": 0.5}))
        await asyncio.sleep(0.1)
        await client.send(client.request("well__read", {"text": "second"}))
        async with asyncio.timeout(30):
            answer = await client.read()
        client.sock.close()
        return answer

    answer = asyncio.run(two())
    assert answer.count(b"HTTP/1.1 200") == 1 and b"awake" in answer
    assert ["read", {"text": "second"}] not in well.calls


def test_client_upgrades(here: Field) -> None:
    asked = [
        here_request(here, f"connection: upgrade\r\nupgrade: {upgrade}\r\n")
        for upgrade in ("websocket", "h2c", "x")
    ]

    async def all_at_once() -> list[bytes]:
        return await asyncio.gather(*(spoken(here, one) for one in asked))

    assert all(status(told) not in range(500, 600) for told in asyncio.run(all_at_once()))


def here_request(here: Field, *more: str) -> bytes:
    client = Client(here)
    client.sock.close()
    return client.request("well__read", {"text": "x"}, *more)


def test_client_many(tmp_path: Path, well: FakeServer) -> None:
    with gateway(tmp_path, {"well": well.entry(pin="trust")}) as running:
        here = Field(running, asyncio.run(running.issue("agent:logs", "specialist")))
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (300, 300))  # room for 100 clients
        asyncio.run(crowd(here))


async def crowd(here: Field) -> None:
    crowd = [Client(here) for _ in range(500)]
    try:
        async with httpx2.AsyncClient(timeout=30) as http:
            for _ in range(5):
                await here.call_well(http, "well__read", here.alone, 1)
    finally:
        for client in crowd:
            client.sock.close()


def test_client_many_streams(here: Field) -> None:
    """A subject with as many requests open as it may is told 429; another one is served as before."""

    async def run() -> None:
        other = Field(here.running, await here.running.issue("agent:metrics", "specialist"))
        streams = [Client(here) for _ in range(40)]  # twice max_concurrent
        listen = {"notifications": {"toolsListChanged": True}, "_meta": META}
        try:
            for client in streams:
                await client.send(client.message("subscriptions/listen", listen))
                assert b"200 OK" in await asyncio.get_running_loop().sock_recv(client.sock, 4_096)
            refused = await spoken(here, here_request(here))
            assert status(refused) == 429 and b"limit_exceeded" in refused and b"retry-after: 1" in refused
            async with httpx2.AsyncClient(timeout=30) as http:
                await other.call_well(http, "well__read", other.alone, 3)
        finally:
            for client in streams:
                client.sock.close()

    asyncio.run(run())


def test_client_hoards(here: Field) -> None:
    """Who lets answers lie gets no more of them until they are read; others are served as before."""

    async def run() -> None:
        own = Field(here.running, await here.running.issue("agent:changes", "specialist"))
        hoard: list[Client] = []
        try:
            async with asyncio.timeout(60):
                while status(answer := await spoken(own, here_request(own, CLOSE))) == 200:
                    assert len(hoard) < 12, "more waits unread than may"
                    hoard.append(Client(own))
                    await hoard[-1].send(hoard[-1].request("well__many", {"bytes": 15_000_000}))
                    while not await asyncio.get_running_loop().sock_recv(hoard[-1].sock, 16):
                        pass  # the first bytes say that all of it is there
            assert status(answer) == 429 and b"unread" in answer
            async with httpx2.AsyncClient(timeout=30) as http:
                await here.call_well(http, "well__read", here.alone, 3)
        finally:
            for client in hoard:
                client.sock.close()
        assert await until(lambda: calls(own), 20)

    async def calls(who: Field) -> bool:
        return status(await spoken(who, here_request(who, CLOSE))) == 200

    asyncio.run(run())


HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


def test_client_of_another(here: Field, well: FakeServer) -> None:
    """Another subject's session, its request ids and its cancellations belong to nobody else."""

    async def run() -> None:
        other = Field(here.running, await here.running.issue("agent:metrics", "specialist"))
        async with httpx2.AsyncClient(timeout=30) as http:

            async def post(who: Field, body: dict[str, Any], session: str = "") -> httpx2.Response:
                headers = {k: v for k, v in who.headers("").items() if not k.startswith("mcp-")}
                headers |= {"mcp-session-id": session} if session else {}
                return await http.post(
                    here.running.url + "/mcp", json={"jsonrpc": "2.0", **body}, headers=headers
                )

            opened = {"id": 0, "method": "initialize", "params": HELLO}
            mine = (await post(here, opened)).headers["mcp-session-id"]
            theirs = (await post(other, opened)).headers["mcp-session-id"]
            before = len(well.calls)
            slow = {"name": "well__slow", "arguments": {"seconds": 1}}
            running = asyncio.ensure_future(
                post(here, {"id": 7, "method": "tools/call", "params": slow}, mine)
            )
            await until(lambda: asyncio.to_thread(lambda: len(well.calls) > before))
            cancel = {"method": "notifications/cancelled", "params": {"requestId": 7}}
            assert (await post(other, cancel, mine)).status_code == 404
            assert (await post(other, cancel, theirs)).status_code == 202
            for odd in ({"requestId": [7]}, {"requestId": {}}, {"requestId": None}, [7]):
                assert (await post(other, {**cancel, "params": odd}, theirs)).status_code == 202
            forged = {"id": "pointsman-1", "result": {"action": "accept"}}
            assert (await post(other, forged, mine)).status_code == 404
            headers = {"authorization": f"Bearer {other.token}", "mcp-session-id": mine}
            assert (await http.delete(here.running.url + "/mcp", headers=headers)).status_code == 404
            assert "awake" in (await running).text

    asyncio.run(run())
