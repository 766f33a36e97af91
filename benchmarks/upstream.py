"""The tool server every target is measured against: both protocol eras, HTTP and stdio, 10 µs a call.

    python benchmarks/upstream.py --port 9000 [--tools 50]
    python benchmarks/upstream.py --stdio

Any path serves MCP; GET /count tells how many tool calls really arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from typing import Any

import orjson

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
PAGE = "The quick brown fox jumps over the lazy dog. " * 230  # about 10 kB
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
SIZE = {"type": "object", "properties": {"bytes": {"type": "integer"}}, "required": ["bytes"]}
READS = {"readOnlyHint": True, "openWorldHint": False}


def tool(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A definition of a tool that only reads."""
    return {"name": name, "description": f"Answers {name}.", "inputSchema": schema, "annotations": READS}


class ToolServer:
    """What it knows: its tools, and how often it was called."""

    def __init__(self, more_tools: int = 0) -> None:
        self.calls = 0
        self._sessions = itertools.count(1)
        more = (tool(f"tool_{n}", TEXT) for n in range(more_tools))
        self._tools = [tool("echo", TEXT), tool("page", TEXT), tool("bytes", SIZE), *more]

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
        """The answer to one message, and the id of a session it opens."""
        number = message.get("id")
        if number is None:
            return None, ""
        params = message.get("params") or {}
        modern = "io.modelcontextprotocol/protocolVersion" in (params.get("_meta") or ())
        session = ""
        match message["method"]:
            case "tools/call":
                self.calls += 1
                text = self._text(params["name"], params["arguments"])
                result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
            case "tools/list":
                result = {"tools": self._tools} | (
                    {"ttlMs": 60_000, "cacheScope": "public"} if modern else {}
                )
            case "server/discover" if modern:
                result = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "ttlMs": 60_000}
                result["cacheScope"] = "public"
            case "initialize":
                session = f"s{next(self._sessions)}"
                result = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}}
                result["serverInfo"] = {"name": "upstream", "version": "1"}
            case "ping":
                result = {}
            case _:
                error = {"code": -32601, "message": "no such method"}
                return {"jsonrpc": "2.0", "id": number, "error": error}, ""
        if modern:
            result["resultType"] = "complete"
        return {"jsonrpc": "2.0", "id": number, "result": result}, session

    def _text(self, name: str, arguments: dict[str, Any]) -> str:
        if name == "bytes":
            return "x" * arguments["bytes"]
        return arguments["text"] + PAGE if name == "page" else arguments["text"]


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, read with as little work as possible."""

    def __init__(self, server: ToolServer) -> None:
        self._server = server
        self._held = b""

    def connection_made(self, transport: Any) -> None:
        """Remember where to write."""
        self._out = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        held = self._held + data
        while (split := held.find(b"\r\n\r\n")) >= 0:
            head = held[:split].lower()
            body, rest = _body(head, held[split + 4 :])
            if body is None:
                break
            self._out.write(self._reply(head, body))
            held = rest
        self._held = held

    def _reply(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"get /count"):
            return _http(orjson.dumps(self._server.calls))
        if not head.startswith(b"post"):
            status = b"200 OK" if head.startswith(b"delete") else b"405 Method Not Allowed"
            return b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % status
        answer, session = self._server.answer(orjson.loads(body))
        if answer is None:
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        return _http(orjson.dumps(answer), b"mcp-session-id: %b\r\n" % session.encode() if session else b"")


def _http(body: bytes, extra: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    return head % (extra, len(body)) + body


def _body(head: bytes, data: bytes) -> tuple[bytes | None, bytes]:
    """The body of a request and what follows it; None while it is incomplete."""
    if b"\r\ntransfer-encoding: chunked" in head:
        parts = []
        while (end := data.find(b"\r\n")) >= 0:
            size = int(data[:end], 16)
            if len(data) < end + size + 4:
                break
            parts.append(data[end + 2 : end + 2 + size])
            data = data[end + size + 4 :]
            if not size:
                return b"".join(parts), data
        return None, b""
    at = head.find(b"\r\ncontent-length:")
    size = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return (data[:size], data[size:]) if len(data) >= size else (None, b"")


async def serve(port: int, server: ToolServer) -> None:
    """Serve on this port of the loopback until told to stop."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=1024)
    await listening.serve_forever()


def on_stdio(server: ToolServer) -> None:
    """Serve the parent process, a line a message."""
    for line in sys.stdin.buffer:
        answer, _ = server.answer(orjson.loads(line))
        if answer is not None:
            sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=9000)
    options.add_argument("--tools", type=int, default=0)
    options.add_argument("--stdio", action="store_true")
    given = options.parse_args()
    if given.stdio:
        on_stdio(ToolServer(given.tools))
    else:
        import uvloop

        uvloop.run(serve(given.port, ToolServer(given.tools)))
