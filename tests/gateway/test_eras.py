"""Across the eras: callers of one on servers of the other, questions included."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.types import ElicitResult

from tests.gateway.world import LOGS, Running, app_with, call, gateway, words

pytestmark = pytest.mark.anyio
ASKER = """
import json, sys
MODERN = "2026-07-28"
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
QUESTION = {"mode": "form", "message": "Who?", "requestedSchema": SCHEMA}
TOOLS = [{"name": n, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
         for n in ("ask", "plain")]
def say(**m): print(json.dumps({"jsonrpc": "2.0", **m}), flush=True)
def text(t): return {"content": [{"type": "text", "text": t}]}
"""
OLD = (
    ASKER
    + """
for line in sys.stdin:
    m = json.loads(line); method, number = m.get("method"), m.get("id")
    if number is None: continue
    if method == "initialize":
        can = m["params"]["capabilities"]
        say(id=number, result={"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                               "serverInfo": {"name": "old", "version": "1"}})
    elif method == "tools/list": say(id=number, result={"tools": TOOLS})
    elif method == "tools/call" and m["params"]["name"] == "ask":
        names = []
        for n in range(2):
            say(id=f"q{n}", method="elicitation/create", params=QUESTION)
            answer = json.loads(sys.stdin.readline())
            assert answer["id"] == f"q{n}", answer
            told = answer.get("result", {}).get("content", {})
            names.append(told.get("name") or answer["error"]["message"])
        say(id=number, result=text("hello " + " and ".join(names)))
    elif method == "tools/call": say(id=number, result=text("plain " + json.dumps(can)))
    else: say(id=number, error={"code": -32601, "message": "no"})
"""
)
NEW = (
    ASKER
    + """
for line in sys.stdin:
    m = json.loads(line); method, number, params = m.get("method"), m.get("id"), m.get("params") or {}
    if number is None: continue
    if method == "server/discover":
        say(id=number, result={"supportedVersions": [MODERN], "capabilities": {"tools": {}},
                               "resultType": "complete"})
    elif method == "initialize": say(id=number, error={"code": -32022, "message": "new era only"})
    elif method == "tools/list": say(id=number, result={"tools": TOOLS, "resultType": "complete"})
    elif method == "tools/call" and params["name"] == "ask":
        names = json.loads(params.get("requestState") or "[]")
        for answer in (params.get("inputResponses") or {}).values(): names.append(answer["content"]["name"])
        done = {**text("hello " + " and ".join(names)), "resultType": "complete"}
        if len(names) == 2: say(id=number, result=done)
        else: say(id=number, result={"resultType": "input_required", "requestState": json.dumps(names),
                  "inputRequests": {"who": {"method": "elicitation/create", "params": QUESTION}}})
    elif method == "tools/call":
        can = params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
        say(id=number, result={**text("plain " + json.dumps(can)), "resultType": "complete"})
    else: say(id=number, error={"code": -32601, "message": "no"})
"""
)


def entry(directory: Path, name: str, program: str, **ours: Any) -> dict[str, Any]:
    """A server that is this program."""
    path = directory / f"{name}.py"
    path.write_text(program)
    return {"command": sys.executable, "args": [str(path)], "pointsman": {"pin": "trust", **ours}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("eras")
    servers = {
        "old": entry(directory, "old", OLD, open=["elicitation"]),
        "new": entry(directory, "new", NEW, open=["elicitation"]),
        "shut": entry(directory, "shut", OLD),
    }
    with gateway(directory, servers) as started:
        yield started


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("server", ["old", "new"])
async def test_a_question_finds_its_way_in_every_combination(
    running: Running, server: str, mode: str
) -> None:
    token = await running.issue("agent:logs", "specialist")
    asked: list[str] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"name": f"n{len(asked)}"})

    async with running.client(token, mode=mode, elicitation_callback=answer) as client:
        for _ in range(2):
            asked.clear()
            result = await client.call_tool(f"{server}__ask", {})
            assert words(result.model_dump()) == "hello n1 and n2"
            assert asked == ["Who?", "Who?"]
        plain = await client.call_tool(f"{server}__plain", {})
        assert '"elicitation"' in words(plain.model_dump())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_closed_server_asks_nobody_and_learns_of_no_capability(running: Running, mode: str) -> None:
    token = await running.issue("agent:logs", "specialist")

    async def answer(context: Any, params: Any) -> ElicitResult:
        raise AssertionError("asked")

    async with running.client(token, mode=mode, elicitation_callback=answer) as client:
        assert words((await client.call_tool("shut__plain", {})).model_dump()) == "plain {}"
        assert "not opened" in words((await client.call_tool("shut__ask", {})).model_dump())


async def test_two_users_of_one_asking_server_are_never_asked_for_each_other(running: Running) -> None:
    async def user(name: str, mode: str) -> str:
        token = await running.issue(f"agent:{name}", "specialist")

        async def answer(context: Any, params: Any) -> ElicitResult:
            await asyncio.sleep(0.05)
            return ElicitResult(action="accept", content={"name": name})

        async with running.client(token, mode=mode, elicitation_callback=answer) as client:
            return words((await client.call_tool("old__ask", {})).model_dump())

    pairs = [("ana", "auto"), ("bob", "auto"), ("cem", "legacy"), ("dan", "legacy")]
    told = await asyncio.gather(*(user(*pair) for pair in pairs))
    assert told == [f"hello {name} and {name}" for name, _ in pairs]


async def test_a_server_that_dies_of_the_new_eras_question_is_asked_in_the_old_way(tmp_path: Path) -> None:
    program = OLD.replace(
        "if number is None", 'if method == "server/discover": sys.exit(1)\n    if number is None'
    )
    async with app_with(tmp_path, {"old": entry(tmp_path, "old", program)}) as app:
        assert words(await call(app, LOGS, "old__plain")) == "plain {}"
