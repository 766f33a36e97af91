"""A closed-loop MCP client: some connections, each with one call in flight, every answer checked whole."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
from upstream import LEGACY, MODERN, PAGE

META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
NUMBERS = itertools.count(1)


@dataclass
class Tally:
    """What came back in the measured time."""

    times: list[float] = field(default_factory=list)  # seconds, one a good answer
    wrong: list[str] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, url: str, era: str, tool: str, prefix: str, headers: dict[str, str], tally: Tally
    ) -> None:
        where = urlsplit(url)
        self.address = (where.hostname or "127.0.0.1", where.port or 80)
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._start = (
            f"POST {where.path} HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\n{own}"
        )
        self._era = era
        self._tool = tool
        self._name = prefix + tool
        if era == "modern":
            self._start += (
                f"mcp-protocol-version: {MODERN}\r\nmcp-method: tools/call\r\nmcp-name: {self._name}\r\n"
            )
        self.tally = tally
        self.stopping = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held = b""
        self._answered: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._number, self._sent, self._text = 0, 0.0, ""

    async def open(self) -> Client:
        """Connect, and shake hands where the era does."""
        await asyncio.get_running_loop().create_connection(lambda: self, *self.address)
        if self._era == "session":
            hello = {
                "protocolVersion": LEGACY,
                "capabilities": {},
                "clientInfo": {"name": "load", "version": "1"},
            }
            head, body = await self._exchange({"id": 0, "method": "initialize", "params": hello})
            if b"result" not in body:
                raise RuntimeError(f"initialize failed: {head!r} {body[:300]!r}")
            self._start += f"mcp-protocol-version: {LEGACY}\r\n"
            if b"mcp-session-id:" in head:
                session = head.split(b"mcp-session-id:")[1].split(b"\r\n")[0].strip().decode()
                self._start += f"mcp-session-id: {session}\r\n"
            await self._exchange({"method": "notifications/initialized"})
        return self

    async def _exchange(self, message: dict[str, Any]) -> tuple[bytes, bytes]:
        self._answered = asyncio.get_running_loop().create_future()
        self._write(message)
        answer = await asyncio.wait_for(self._answered, 30)
        self._answered = None
        return answer

    def _write(self, message: dict[str, Any]) -> None:
        body = orjson.dumps({"jsonrpc": "2.0", **message})
        self.transport.write(f"{self._start}content-length: {len(body)}\r\n\r\n".encode() + body)

    def call(self) -> None:
        """Send the next call."""
        self._number = next(NUMBERS)
        self._text = f"hello {self._number}"
        params: dict[str, Any] = {"name": self._name, "arguments": {"text": self._text}}
        if self._era == "modern":
            params["_meta"] = META
        self._sent = time.perf_counter()
        self._write({"id": self._number, "method": "tools/call", "params": params})

    def connection_made(self, transport: Any) -> None:
        """Remember where to write."""
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that goes while it is needed is an error."""
        if not self.done.done():
            self.tally.wrong.append(f"connection lost: {error}")
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take whole responses out of the stream."""
        self._held += data
        split = self._held.find(b"\r\n\r\n")
        if split < 0:
            return
        head = self._held[:split].lower()
        if b"\r\ntransfer-encoding: chunked" in head:
            if not self._held.endswith(b"0\r\n\r\n"):
                return
            body = _unchunked(self._held[split + 4 :])
        else:
            at = head.find(b"\r\ncontent-length:")
            size = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._held) < split + 4 + size:
                return
            body = self._held[split + 4 :]
        self._held = b""
        if self._answered is not None:
            self._answered.set_result((head, body))
        else:
            self._check(head, body)

    def _check(self, head: bytes, body: bytes) -> None:
        took = time.perf_counter() - self._sent
        if b"text/event-stream" in head:
            body = next(
                (x[5:] for x in body.splitlines() if x.startswith(b"data:") and b'"result"' in x), b"null"
            )
        answer = orjson.loads(body or b"null")
        wanted = self._text + (PAGE if self._tool == "page" else "")
        try:
            good = answer["id"] == self._number and answer["result"]["content"][0]["text"] == wanted
            good = good and answer["result"].get("isError") is not True
        except (TypeError, KeyError, IndexError):
            good = False
        if good:
            self.tally.times.append(took)
        else:
            self.tally.wrong.append(f"{head[:15].decode()} {body[:300]!r}")
        if self.stopping:
            self.done.set_result(None)
        elif not self.done.done():
            self.call()

    async def close(self) -> None:
        """Finish the call in flight and go."""
        self.stopping = True
        await asyncio.wait_for(self.done, 30)
        self.transport.close()


def _unchunked(data: bytes) -> bytes:
    parts = []
    while True:
        end = data.find(b"\r\n")
        size = int(data[:end].split(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(data[end + 2 : end + 2 + size])
        data = data[end + size + 4 :]
