"""Stdio in front: `pointsman connect` as the MCP server a desktop client starts."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp import types as t
from mcp.client.subscriptions import ResourceUpdated, ToolsListChanged

from gateway.remote import running as gateway_of
from gateway.stdio_front import lines
from tests.gateway.world import Home, Running, environment, gateway, stdio_entry, until, words, write_files

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]
FIXTURE = Path(__file__).parents[1] / "conformance" / "gateway" / "fixture_server.py"
WATCHED = "test://watched-resource"
EVERYBODY = """
@id("everybody") @description("Everybody may do everything.") @advice("Go on.")
permit (principal, action, resource);
"""
MAIN = ("-c", "from coordinator.cli import main; main()")
AGENT = ("--as", "agent:desktop", "--role", "specialist")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("stdio")
    fixture = {
        "command": sys.executable,
        "args": [str(FIXTURE), "--stdio"],
        "pointsman": {"pin": "trust", "open": "all"},
    }
    with gateway(directory, {"fx": fixture}, EVERYBODY) as started:
        yield started


@asynccontextmanager
async def client(
    here: Home, *arguments: str, mode: Any = "auto", env: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """The official client, which starts `pointsman connect` in this home."""
    server = StdioServerParameters(
        command=sys.executable,
        args=[*MAIN, "connect", *arguments],
        env={**here.env, **(env or {})},
        cwd=here.home.parent,
    )
    async with Client(server, mode=mode, cache=None, **options) as opened:
        yield opened


def records(here: Home, **wanted: str) -> list[dict[str, Any]]:
    """The ledger's records, by the command."""
    options = [word for name, value in wanted.items() for word in (f"--{name}", value)]
    told = subprocess.run(
        [sys.executable, *MAIN, "audit", "search", "--limit", "1000", "--json", *options],
        env=here.env,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(told.stdout)["records"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_everything_passes_on_stdio_as_it_does_over_http(running: Running, mode: str) -> None:
    logs: list[str] = []
    steps: list[float] = []
    asked: list[str] = []

    async def log(params: Any) -> None:
        logs.append(params.data)

    async def elicit(context: Any, params: Any) -> t.ElicitResult:
        asked.append(params.message)
        return t.ElicitResult(action="accept", content={"response": "yes"})

    async def sample(context: Any, params: Any) -> t.CreateMessageResult:
        text = t.TextContent(type="text", text="a model")
        return t.CreateMessageResult(role="assistant", content=text, model="none")

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append(done)

    options = {"logging_callback": log, "elicitation_callback": elicit, "sampling_callback": sample}
    if mode == "auto":
        options["log_level"] = "info"
    async with client(running, *AGENT, mode=mode, **options) as caller:
        names = [tool.name for tool in (await caller.list_tools()).tools]
        assert "fx__test_simple_text" in names and names == sorted(names)
        await caller.call_tool("fx__test_tool_with_progress", {}, progress_callback=progress)
        assert steps == [0, 50, 100]
        if mode == "legacy":
            await caller.set_logging_level("info")
        await caller.call_tool("fx__test_tool_with_logging", {})
        assert logs == ["Tool execution started", "Tool processing data", "Tool execution completed"]
        told = await caller.call_tool("fx__test_elicitation", {"message": "Sure?"})
        assert asked == ["Sure?"] and "action=accept" in told.content[0].text
        assert "a model" in (await caller.call_tool("fx__test_sampling", {"prompt": "x"})).content[0].text
        image = (await caller.get_prompt("fx__test_prompt_with_image")).messages[0].content
        assert image.type == "image"
        assert (await caller.read_resource("test://static-text")).contents[0].text
        reference = t.PromptReference(type="ref/prompt", name="fx__test_prompt_with_arguments")
        completed = await caller.complete(reference, {"name": "arg1", "value": "par"})
        assert completed.completion.values
        whoami = await caller.call_tool("fx__x_whoami", {}, meta={"traceparent": "00-1-2-01", "x/y": [1]})
        seen = whoami.structured_content
        assert seen["protocolVersion"] == ("2026-07-28" if mode == "auto" else "2025-11-25")
        assert seen["meta"]["traceparent"] == "00-1-2-01" and seen["meta"]["x/y"] == [1]
        assert seen["clientInfo"]["name"] == "mcp"
        assert whoami.meta["fixture/result-meta"] == 1
        region = await caller.call_tool("fx__test_x_mcp_header", {"region": "größer <east>"})
        assert region.content[0].text == "region=größer <east>"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_the_client_gives_up_is_cancelled_at_the_server(running: Running, mode: str) -> None:
    under_way = asyncio.Event()

    async def progress(done: float, total: float | None, message: str | None) -> None:
        under_way.set()

    async with client(running, *AGENT, mode=mode) as caller:
        arguments = {"seconds": 60, "tag": f"stdio-{mode}"}
        call = asyncio.create_task(caller.call_tool("fx__x_slow", arguments, progress_callback=progress))
        async with asyncio.timeout(30):
            await under_way.wait()
        call.cancel()
        async with asyncio.timeout(10):
            while True:
                told = await caller.call_tool("fx__x_cancelled", {})
                if f"stdio-{mode}" in told.structured_content["tags"]:
                    break
                await asyncio.sleep(0.05)


async def test_changes_reach_a_listener_on_stdio(running: Running) -> None:
    async with (
        client(running, *AGENT) as caller,
        caller.listen(tools_list_changed=True, resource_subscriptions=[WATCHED]) as listening,
    ):
        await caller.call_tool("fx__test_trigger_tool_change", {})
        async with asyncio.timeout(10):
            assert isinstance(await anext(listening), ToolsListChanged)
        await caller.call_tool("fx__x_touch_resource", {})
        async with asyncio.timeout(10):
            assert isinstance(await anext(listening), ResourceUpdated)


async def test_changes_reach_a_session_on_stdio(running: Running) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def take(message: Any) -> None:
        if not isinstance(message, Exception):
            await heard.put(type(message).__name__)

    async with client(running, *AGENT, mode="legacy", message_handler=take) as caller:
        await caller.call_tool("fx__test_trigger_tool_change", {})
        async with asyncio.timeout(10):
            assert await heard.get() == "ToolListChangedNotification"
        await caller.subscribe_resource(WATCHED)
        await caller.call_tool("fx__x_touch_resource", {})
        async with asyncio.timeout(10):
            while await heard.get() != "ResourceUpdatedNotification":
                pass


async def test_the_caller_is_who_was_named_and_its_token_ends_with_it(running: Running) -> None:
    async with client(running, "--as", "agent:named", "--server", "fx") as caller:
        assert "test_simple_text" in [tool.name for tool in (await caller.list_tools()).tools]
        assert (await caller.call_tool("test_simple_text", {})).content
        async with running.client() as operator:
            told = (await operator.call_tool("gateway__list_tokens", {})).structured_content
        assert [each["subject"] for each in told["tokens"]].count("agent:named") == 1
    async with running.client() as operator:
        told = (await operator.call_tool("gateway__list_tokens", {})).structured_content
    assert "agent:named" not in [each["subject"] for each in told["tokens"]]
    calls = await asyncio.to_thread(records, running, subject="agent:named")
    assert [(r["kind"], r["tool"]) for r in calls] == [
        ("intent", "fx__test_simple_text"),
        ("outcome", "fx__test_simple_text"),
    ]
    assert calls[0]["chain"] == ["user:operator"]


async def test_a_token_from_outside_is_used_and_no_other_made(running: Running) -> None:
    token = await running.issue("user:eve")
    given = {"POINTSMAN_TOKEN": token}
    for where in ((), ("--url", running.url)):
        async with client(running, *where, env=given) as caller:
            assert (await caller.call_tool("fx__test_simple_text", {})).content
    assert {r["subject"] for r in await asyncio.to_thread(records, running, tool="fx__test_simple_text")} >= {
        "user:eve"
    }
    wrong = await asyncio.to_thread(raw, running, {}, hello(), env={"POINTSMAN_TOKEN": "pm_wrong"})
    assert wrong[0]["id"] == 1 and "token" in wrong[0]["error"]["message"]


def hello(number: Any = 1) -> bytes:
    """A legacy handshake."""
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "initialize", "params": params}).encode()


def raw(here: Home, options: Any, *said: bytes, env: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """What comes back for these lines, written at once and then closed."""
    told = subprocess.run(
        [sys.executable, *MAIN, "connect", *options],
        input=b"\n".join(said) + b"\n",
        env={**here.env, **(env or {})},
        cwd=here.home.parent,
        capture_output=True,
        timeout=120,
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_what_could_be_read_in_two_ways_is_refused_and_the_rest_goes_on(running: Running) -> None:
    call = b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"a","name":"b"}}'
    long = b'{"jsonrpc":"2.0","id":3,"method":"' + b"x" * 1_200_000 + b'"}'
    answers = raw(
        running, AGENT, call, b"[]", b"\xff", b"{", long, hello("last"), b'{"jsonrpc":"2.0","method":"x"}'
    )
    assert [a["error"]["code"] for a in answers[:-1]] == [-32600, -32600, -32700, -32700, -32600]
    assert answers[-1]["id"] == "last" and answers[-1]["result"]["serverInfo"]["name"] == "pointsman"


async def test_lines_are_cut_rightly_wherever_the_pieces_end() -> None:
    text = b'{"a":1}\n\n  \n{"b":2}\n' + b"x" * 50 + b"\n{}\nlast"
    expected = [b'{"a":1}', b'{"b":2}', b"x" * 21, b"{}", b"last"]
    for size in (1, 2, 7, 21, 22, 1000):
        reader = asyncio.StreamReader()
        for at in range(0, len(text), size):
            reader.feed_data(text[at : at + size])
            await asyncio.sleep(0)
        reader.feed_eof()
        got = [line async for line in lines(_Slowly(reader, size), 20)]
        assert [line[:21] for line in got] == expected, size


class _Slowly:
    """A reader that hands out a few bytes at a time."""

    def __init__(self, reader: asyncio.StreamReader, size: int) -> None:
        self._reader, self._size = reader, size

    async def read(self, most: int) -> bytes:
        return await self._reader.read(self._size)


async def test_where_no_gateway_runs_it_starts_one_and_ends_it(tmp_path: Path) -> None:
    settings = write_files(tmp_path, {"fake": stdio_entry(tmp_path / "fake", pin="trust")})
    env = {
        **environment(tmp_path),
        "POINTSMAN_GATEWAY__POLICY": settings.policy,
        "POINTSMAN_GATEWAY__SERVERS": settings.servers,
    }
    here = Home(tmp_path / "home", env)
    async with client(here, *AGENT, mode="legacy") as first:
        assert words((await first.call_tool("fake__read", {"text": "1"})).model_dump()) == "read: 1"
        about = gateway_of(here.home)
        assert about is not None
        async with client(here, "--as", "agent:other", "--role", "specialist") as second:
            assert words((await second.call_tool("fake__read", {"text": "2"})).model_dump()) == "read: 2"
            assert gateway_of(here.home) == about  # it joined
        # The gateway is killed under the client: it starts another and shakes hands again.
        os.kill(about["pid"], signal.SIGKILL)
        assert await asyncio.to_thread(until, lambda: gateway_of(here.home) is None)
        assert words((await first.call_tool("fake__read", {"text": "3"})).model_dump()) == "read: 3"
        after = gateway_of(here.home)
        assert after is not None and after["pid"] != about["pid"]
    assert await asyncio.to_thread(until, lambda: gateway_of(here.home) is None)


def test_who_calls_has_to_be_said_once(tmp_path: Path) -> None:
    here = Home(tmp_path / "home", environment(tmp_path))
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        ((), {}, "say once who calls"),
        (("--as", "agent:x"), {"POINTSMAN_TOKEN": "pm_x"}, "say once who calls"),
        (("--role", "r"), {"POINTSMAN_TOKEN": "pm_x"}, "--role goes with --as"),
        (("--as", "agent:x", "--url", "http://127.0.0.1:1"), {}, "POINTSMAN_TOKEN"),
    ]
    for options, more, expected in cases:
        told = subprocess.run(
            [sys.executable, *MAIN, "connect", *options],
            env={**here.env, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert told.returncode == 2 and expected in told.stderr and not told.stdout, told
