"""What the examples' run.py share: an empty directory, commands as a person types them, a real gateway."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

POINTSMAN = str(Path(sys.executable).with_name("pointsman"))
SECONDS = 120


class Walk:
    """A person's directory, with a POINTSMAN_HOME of its own in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")},
            "POINTSMAN_HOME": str(directory / "home"),
            "XDG_STATE_HOME": str(directory / "state"),
        }
        self.url = ""

    def pointsman(self, *words: str, code: int = 0, **variables: str) -> str:
        """What `pointsman WORDS` prints; it must end with this exit code. Variables are its environment's."""
        done = subprocess.run(
            [POINTSMAN, *words],
            cwd=self.directory,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str, code: int = 0) -> Any:
        """What `pointsman WORDS --json` prints, read."""
        return json.loads(self.pointsman(*words, "--json", code=code))

    @contextmanager
    def gateway(self, *options: str) -> Iterator[None]:
        """`pointsman gateway` on a free port, for as long as the block lasts."""
        reading, writing = os.pipe()
        command = [POINTSMAN, "gateway", "--port", "0", "--ready-fd", str(writing), *options]
        with (self.directory / "gateway.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.directory, env=self.environment, stderr=log, pass_fds=[writing]
            )
            os.close(writing)
            try:
                with os.fdopen(reading) as ready:
                    self.url = json.loads(ready.readline())["url"]
                yield
            finally:
                process.terminate()
                process.wait(SECONDS)

    def call(self, token: str, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """The result of one tool call, by the official MCP client with this token."""
        return asyncio.run(_call(self.url, token, tool, arguments))

    def tools(self, token: str) -> list[str]:
        """The names of the tools that this token sees."""
        return asyncio.run(_tools(self.url, token))


@contextmanager
def walk() -> Iterator[Walk]:
    """An empty directory to walk in, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="pointsman-") as directory:
        yield Walk(Path(directory))


async def _call(url: str, token: str, tool: str, arguments: dict[str, Any]) -> CallToolResult:
    async with _client(url, token) as client:
        return await client.call_tool(tool, arguments)


async def _tools(url: str, token: str) -> list[str]:
    async with _client(url, token) as client:
        return [tool.name for tool in (await client.list_tools()).tools]


@asynccontextmanager
async def _client(url: str, token: str) -> AsyncIterator[Client]:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})
    async with http, Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client:
        yield client
