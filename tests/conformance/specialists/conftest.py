"""The ground of the contract: places, agents in a second process, tools on the bundled recording."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client

from specialists.roster import BUILT_IN
from tests.conformance.specialists.liars import LIARS, TABLES
from tests.conformance.specialists.places import AGENT_TOKEN, PLACES, Ground
from tests.fakes.small_gateway import SmallGateway
from tool_servers.serving import NAMES, build
from tool_servers.settings import ToolServersSettings
from tool_servers.world import World

ROOT = Path(__file__).parents[3]
RECORDING = ROOT / "examples" / "incident_triage" / "recording"


@asynccontextmanager
async def shop(state):
    """The bundled tool servers on the bundled recording, behind a small gateway."""
    world = World(ToolServersSettings(recording=str(RECORDING), state=str(state)))
    gateway = SmallGateway({})
    async with AsyncExitStack() as stack:
        for server in NAMES:
            client = await stack.enter_async_context(Client(build(server, world), cache=None))
            for tool in (await client.list_tools()).tools:
                public = f"{server}__{tool.name}"
                gateway.schemas[public] = tool.input_schema
                gateway.tools[public] = lambda given, c=client, n=tool.name: c.call_tool(n, given)
        yield gateway


@pytest.fixture(scope="session")
def schemas(tmp_path_factory):
    """The input schemas of all bundled tools by public name."""

    async def listed():
        async with shop(tmp_path_factory.mktemp("state")) as gateway:
            return gateway.schemas

    return asyncio.run(listed())


@pytest.fixture(scope="session")
def agents(tmp_path_factory):
    """Starts, when first called, one process that serves every specialist; gives its URL."""
    started = []

    def start():
        if not started:
            reader, writer = os.pipe()
            pointsman = str(Path(sys.executable).with_name("pointsman"))
            config = tmp_path_factory.mktemp("agents") / "pointsman.toml"
            config.write_text(
                "\n".join(f'[specialists.{n}]\nclass = "{t["class"]}"' for n, t in TABLES.items())
            )
            where = ["--config", str(config), "--port", "0", "--ready-fd", str(writer)]
            process = subprocess.Popen(
                [pointsman, "specialists", "serve", *BUILT_IN, *LIARS, *where],
                env={**os.environ, "POINTSMAN_SPECIALIST_TOKEN": AGENT_TOKEN, "PYTHONPATH": str(ROOT)},
                pass_fds=[writer],
                stderr=subprocess.DEVNULL,
            )
            os.close(writer)
            with os.fdopen(reader) as pipe:
                started.append((json.loads(pipe.readline())["url"], process))
        return started[0][0]

    yield start
    for _, process in started:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def placed(tmp_path, monkeypatch, agents):
    """`placed(place, name, gateway, script)`: the specialist in its place, as an async context."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("AGENT_TOKEN", AGENT_TOKEN)

    def put(place, name, gateway, script="investigate"):
        return PLACES[place](name, gateway, Ground(tmp_path, agents), script)

    return put
