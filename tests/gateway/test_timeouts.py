"""Who waits for whom, and for how long: deadlines and cancellation in both directions, both eras."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.types import ElicitResult

from gateway.caller import Caller
from gateway.errors import RpcError
from tests.gateway.test_eras import ASKER, entry
from tests.gateway.test_stdio_front import EVERYBODY, FIXTURE
from tests.gateway.world import LOGS, Running, app_with, code, ended, gateway, line_of, words

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]
SECONDS = 1.0
# Asks, takes the question back, and answers without having been answered.
FICKLE = (
    ASKER
    + """
import os, time
OFFERS = {"tools": {}, "resources": {}}
for line in sys.stdin:
    m = json.loads(line); method, number = m.get("method"), m.get("id")
    if number is None: continue
    if method == "initialize":
        say(id=number, result={"protocolVersion": "2025-11-25", "capabilities": OFFERS,
                               "serverInfo": {"name": "fickle", "version": "1"}})
    elif method == "tools/list": say(id=number, result={"tools": TOOLS})
    elif method == "tools/call":
        say(id="q", method="elicitation/create", params=QUESTION)
        while not os.path.exists(sys.argv[0] + ".asked"): time.sleep(0.02)
        say(method="notifications/cancelled", params={"requestId": "q"})
        say(id=number, result=text("never mind"))
    elif method == "server/discover": say(id=number, error={"code": -32601, "message": "no"})
"""
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("timeouts")
    command = [sys.executable, str(FIXTURE)]
    ours = {"pin": "trust", "open": "all", "timeout": SECONDS}
    web = subprocess.Popen([*command, "--http", "0"], stdout=subprocess.PIPE, text=True)
    with ended(web):
        url = json.loads(line_of(web, web.stdout))["url"]
        servers = {
            "web": {"type": "http", "url": url, "pointsman": ours},
            "pipe": {"command": command[0], "args": [command[1], "--stdio"], "pointsman": ours},
            "fickle": entry(directory, "fickle", FICKLE, open=["elicitation"]),
        }
        with gateway(directory, servers, EVERYBODY) as started:
            yield started


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("server", ["web", "pipe"])
async def test_a_deadline_passes_whatever_is_reported_and_the_server_hears_of_it(
    running: Running, server: str, mode: str
) -> None:
    reported: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        reported.append(done)

    tag = f"{server}-{mode}"
    async with running.client(endpoint=f"/servers/{server}/mcp", mode=mode) as client:
        await client.call_tool("x_cancelled", {})
        began = time.monotonic()
        arguments = {"seconds": 60, "tag": tag}
        told = await client.call_tool("x_slow", arguments, progress_callback=progress)
        assert code(told.model_dump(by_alias=True)) == "deadline_exceeded"
        assert SECONDS <= time.monotonic() - began < 60
        assert reported
        async with asyncio.timeout(10):
            cancelled = ""
            while tag not in cancelled:
                cancelled = words((await client.call_tool("x_cancelled", {})).model_dump())


@pytest.mark.parametrize("server", ["web", "pipe"])
async def test_a_question_nobody_answers_ends_with_its_call_and_the_next_one_is_asked(
    running: Running, server: str
) -> None:
    asked, given_up = 0, asyncio.Event()

    async def answer(context: Any, params: Any) -> ElicitResult:
        nonlocal asked
        asked += 1
        if asked > 1:
            return ElicitResult(action="accept", content={"response": "here"})
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError

    async with running.client(
        endpoint=f"/servers/{server}/mcp", mode="legacy", elicitation_callback=answer
    ) as client:
        told = await client.call_tool("test_elicitation", {"message": "who?"})
        assert code(told.model_dump(by_alias=True)) == "deadline_exceeded"
        async with asyncio.timeout(10):
            await given_up.wait()
        told = await client.call_tool("test_elicitation", {"message": "who?"})
        assert "here" in words(told.model_dump())


async def test_a_question_that_is_taken_back_is_taken_back_from_the_caller(running: Running) -> None:
    given_up, asked = asyncio.Event(), running.home.parent / "fickle.py.asked"

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.touch()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError

    async with running.client(
        endpoint="/servers/fickle/mcp", mode="legacy", elicitation_callback=answer
    ) as client:
        assert words((await client.call_tool("plain", {})).model_dump()) == "never mind"
        async with asyncio.timeout(10):
            await given_up.wait()


async def test_a_list_that_does_not_come_is_told_as_such(tmp_path: Path) -> None:
    servers = {"fickle": entry(tmp_path, "fickle", FICKLE)}
    async with app_with(tmp_path, servers, EVERYBODY, call_seconds=0.2) as app:
        for era in ("modern", "legacy"):
            with pytest.raises(RpcError, match="no answer of the server in time") as failed:
                await app.methods.answer(Caller(LOGS, era, endpoint="fickle"), "resources/list", {})
            assert failed.value.number == -32011
