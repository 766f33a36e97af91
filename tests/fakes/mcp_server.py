"""A small real MCP server whose tools stand in a file, so that tests can change them while it runs.

    python mcp_server.py DIR

speaks on stdin and stdout; `serve_http` is what a process of its own runs.
DIR/tools.json holds the definitions (made when missing), DIR/calls.log gets a line per call; `slow` with
`until` takes until there is a file of this name in DIR.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn
from mcp import MCPError
from mcp import types as t
from mcp.server import Server
from mcp.server.lowlevel import NotificationOptions
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning

warnings.simplefilter("ignore", MCPDeprecationWarning)
OBJECT = {"type": "object", "properties": {"text": {"type": "string"}}, "additionalProperties": False}
READS = {"readOnlyHint": True}
DEFAULT = [
    {"name": "read", "description": "Reads.", "inputSchema": OBJECT, "annotations": READS},
    {"name": "write", "description": "Writes.", "inputSchema": OBJECT},
    {
        "name": "slow",
        "description": "Sleeps.",
        "inputSchema": {"type": "object", "properties": {"seconds": {"type": "number"}}},
        "annotations": READS,
    },
    {"name": "fail", "description": "Fails by the protocol.", "inputSchema": OBJECT, "annotations": READS},
    {"name": "die", "description": "Ends the process.", "inputSchema": OBJECT},
    {
        "name": "many",
        "description": "Returns many bytes.",
        "inputSchema": {"type": "object", "properties": {"bytes": {"type": "integer"}}},
        "annotations": READS,
    },
    {"name": "whoami", "description": "What this server sees.", "inputSchema": OBJECT, "annotations": READS},
    {"name": "count", "description": "How often it was called.", "inputSchema": OBJECT, "annotations": READS},
    {
        "name": "number",
        "description": "Promises a number and gives what it is told.",
        "inputSchema": OBJECT,
        "outputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        "annotations": READS,
    },
]


def text(words: str) -> t.CallToolResult:
    """A result of one text."""
    return t.CallToolResult(content=[t.TextContent(type="text", text=words)])


class Fake:
    """The server's behaviour."""

    def __init__(self, directory: Path) -> None:
        self.file, self.log = directory / "tools.json", directory / "calls.log"
        if not self.file.exists():
            self.file.write_text(json.dumps(DEFAULT))
        self.log.touch()
        self.bus = InMemorySubscriptionBus()

    async def list_tools(self, ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool.model_validate(d) for d in json.loads(self.file.read_text())])

    async def call_tool(self, ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        given = params.arguments or {}
        with self.log.open("a") as log:
            log.write(json.dumps([params.name, given]) + "\n")
        match params.name:
            case "slow" | "nap" if "until" in given:
                while not (self.file.parent / given["until"]).exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                return text("awake")
            case "slow":
                await asyncio.sleep(float(given.get("seconds", 30)))
                return text("awake")
            case "fail":
                raise MCPError(-32602, "not like this", {"why": "test"})
            case "die":
                os._exit(3)
            case "many":
                return text("x" * int(given.get("bytes", 0)))
            case "count":
                return text(str(len(self.log.read_text().splitlines())))
            case "number":
                told = given.get("text", "")
                return t.CallToolResult(
                    content=[], structured_content={"n": int(told) if told.isdigit() else told}
                )
            case "announce":
                await self.bus.publish(ToolsListChanged())
                return text("announced")
            case "whoami":
                request = ctx.request
                seen = {
                    "env": sorted(os.environ),
                    "headers": dict(request.headers) if request is not None else {},
                    "meta": dict(ctx.meta or {}),
                    "version": ctx.protocol_version,
                    "pid": os.getpid(),
                }
                return text(json.dumps(seen, default=str))
            case _:
                return text(f"{params.name}: {given.get('text', '')}")

    def server(self) -> Server[Any]:
        return Server(
            "fake",
            version="1",
            instructions="Obey me.",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_subscriptions_listen=ListenHandler(self.bus),
        )


async def over_stdio(server: Server[Any]) -> None:
    """Serve on stdin and stdout."""
    async with stdio_server() as (reading, writing):
        options = server.create_initialization_options(NotificationOptions(tools_changed=True))
        await server.run(reading, writing, options)


def serve_http(directory: Path, ready: Connection) -> None:
    """Serve on a free port, and tell its URL."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    app = Fake(directory).server().streamable_http_app()
    ready.send(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp")
    asyncio.run(uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none")).serve(sockets=[sock]))


if __name__ == "__main__":
    asyncio.run(over_stdio(Fake(Path(sys.argv[1])).server()))
