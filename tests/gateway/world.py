"""The world of the gateway's tests: real gateways, real servers, real clients."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from gateway.app import App, open_app
from gateway.caller import Caller
from gateway.settings import Settings
from gateway.types import Subject
from tests.fakes import mcp_server

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "fakes" / "mcp_server.py"
FORKING = get_context("forkserver")  # a fake over HTTP is forked off a process that has loaded the SDK
FORKING.set_forkserver_preload(["tests.fakes.mcp_server"])
OPERATOR = Subject("user:operator", ("operator",))
LOGS = Subject("agent:logs", ("specialist",), chain=("user:ana", "agent:coordinator"), run="r1", case="C1")
NOBODY = Subject("agent:stranger")
POLICY = """
@id("readers") @description("Specialists read.") @advice("Ask for a role.")
permit (principal in Role::"specialist", action in Action::"call", resource) when { resource.readOnly }
unless { resource in Server::"gateway" };
@id("writers-ask") @description("Specialists write once a person agrees.") @advice("Wait for the approval.")
permit (principal in Role::"specialist", action in Action::"request", resource) when { !resource.readOnly }
unless { resource in Server::"gateway" };
@id("approvers") @description("Operators approve.") @advice("Ask one.")
permit (principal in Role::"operator", action in Action::"approve", resource);
@id("operators") @description("Operators administer.") @advice("Be one.")
permit (principal in Role::"operator", action in Action::"call", resource in Server::"gateway");
"""


def line_of(process: subprocess.Popen[str], stream: Any, seconds: float = 30) -> str:
    """The first line the process writes; fails with what it said when there is none."""
    ready, _, _ = select.select([stream], [], [], seconds)
    line = stream.readline() if ready else ""
    assert line, f"no line within {seconds} s; exit code {process.poll()}"
    return line


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End the process at the end of the block, whatever happens in it."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@dataclass
class FakeServer:
    """A small MCP server over HTTP."""

    directory: Path
    url: str

    @property
    def calls(self) -> list[list[Any]]:
        """What really reached it."""
        return [json.loads(line) for line in (self.directory / "calls.log").read_text().splitlines()]

    def tools(self) -> list[dict[str, Any]]:
        """The definitions it offers."""
        return json.loads((self.directory / "tools.json").read_text())

    def offer(self, tools: list[dict[str, Any]]) -> None:
        """Offer other definitions from now on."""
        (self.directory / "tools.json").write_text(json.dumps(tools))

    def entry(self, **ours: Any) -> dict[str, Any]:
        """Its entry in an mcp.json."""
        return {"type": "http", "url": self.url, "pointsman": ours}


@contextmanager
def fake_server(directory: Path) -> Iterator[FakeServer]:
    """A running fake server."""
    directory.mkdir(exist_ok=True)
    told, ready = FORKING.Pipe(duplex=False)
    process = FORKING.Process(target=mcp_server.serve_http, args=(directory, ready), daemon=True)
    process.start()
    ready.close()
    try:
        with told:
            url = told.recv()
        yield FakeServer(directory, url)
    finally:
        process.terminate()
        process.join(10)
        process.kill()
        process.join()
        process.close()


def stdio_entry(directory: Path, **ours: Any) -> dict[str, Any]:
    """The entry of a fake server over stdio."""
    directory.mkdir(exist_ok=True)
    return {"command": sys.executable, "args": [str(FAKE), str(directory)], "pointsman": ours}


def write_files(directory: Path, servers: dict[str, Any], policy: str = POLICY) -> Settings:
    """An mcp.json and a policy, and the settings that point there."""
    (directory / "policy").mkdir(exist_ok=True)
    (directory / "policy" / "test.cedar").write_text(policy)
    (directory / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    return Settings(
        servers=str(directory / "mcp.json"),
        policy=str(directory / "policy"),
        checkpoints=str(directory / "checkpoints"),
        port=0,
        call_seconds=10,
        connect_seconds=5,
    )


@asynccontextmanager
async def app_with(
    directory: Path, servers: dict[str, Any], policy: str = POLICY, **settings: Any
) -> AsyncIterator[App]:
    """A gateway in this process, connected to every server."""
    loaded = write_files(directory, servers, policy).model_copy(update=settings)
    async with open_app(loaded, directory / "home") as app:
        app.start()
        for server in app.catalogue.servers.values():
            await server.listed.wait()
        yield app


async def call(
    app: App, subject: Subject, name: str, arguments: dict[str, Any] | None = None, **meta: Any
) -> dict[str, Any]:
    """One tools/call on the road."""
    params: dict[str, Any] = {"name": name, "arguments": arguments or {}}
    if meta:
        params["_meta"] = {key.replace("__", "/"): value for key, value in meta.items()}
    return await app.gateway.call(Caller(subject), "tools/call", params)


def words(result: dict[str, Any]) -> str:
    """The text of a result."""
    return "\n".join(part.get("text", "") for part in result.get("content", ()))


def code(result: dict[str, Any]) -> str:
    """The refusal code of a result; empty when it is none."""
    return result.get("_meta", {}).get("pointsman/refusal", {}).get("code", "")


@dataclass
class Home:
    """A place where the command `pointsman` works."""

    home: Path
    env: dict[str, str]


@dataclass
class Running(Home):
    """A gateway in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    token: str

    @asynccontextmanager
    async def client(
        self, token: str = "", endpoint: str = "/mcp", mode: Any = "auto", **options: Any
    ) -> AsyncIterator[Client]:
        """An official client on an endpoint."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(
                streamable_http_client(self.url + endpoint, http_client=http),
                mode=mode,
                cache=None,
                **options,
            ) as client,
        ):
            yield client

    async def issue(self, subject: str, *roles: str) -> str:
        """A token of another subject."""
        async with self.client() as operator:
            told = await operator.call_tool(
                "gateway__issue_token", {"subject": subject, "roles": list(roles)}
            )
        assert told.structured_content is not None, told
        return told.structured_content["token"]


def environment(directory: Path) -> dict[str, str]:
    """The environment of a gateway with everything in this directory."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")},
        "POINTSMAN_HOME": str(directory / "home"),
        "XDG_STATE_HOME": str(directory / "state"),
        "PYTHONPATH": str(ROOT),
    }


@contextmanager
def gateway(
    directory: Path, servers: dict[str, Any] | None = None, policy: str = POLICY, **limits: Any
) -> Iterator[Running]:
    """A running gateway; `limits` are settings of its own."""
    env = environment(directory)
    env |= {f"POINTSMAN_GATEWAY__{name.upper()}": str(value) for name, value in limits.items()}
    if servers is not None:
        settings = write_files(directory, servers, policy)
        env["POINTSMAN_GATEWAY__SERVERS"] = settings.servers
        env["POINTSMAN_GATEWAY__POLICY"] = settings.policy
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "gateway", "--port", "0", "--ready-fd", str(writing)]
    with (directory / "gateway.log").open("a") as log:
        process = subprocess.Popen(
            command, pass_fds=[writing], env=env, cwd=directory, stdin=subprocess.PIPE, stderr=log, text=True
        )
    os.close(writing)
    with ended(process), os.fdopen(reading) as ready:
        try:
            about = json.loads(line_of(process, ready))
        except AssertionError:
            raise AssertionError((directory / "gateway.log").read_text()) from None
        home = Path(about["home"])
        token = json.loads((home / "gateway.json").read_text())["operator_token"]
        yield Running(home, env, process, about["url"], token)


def pointsman(here: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `pointsman` in this home."""
    command = [sys.executable, "-c", "from coordinator.cli import main; main()", *arguments]
    return subprocess.run(
        command, env=here.env, cwd=here.home.parent, capture_output=True, text=True, timeout=120
    )


def until(condition: Any, seconds: float = 60) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
