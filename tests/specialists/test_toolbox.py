"""The toolbox: keys, quotations, refusals, approvals, deadlines, and a gateway that goes away."""

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pytest
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from specialists.errors import ApprovalPending, GatewayLost, QuoteError, Refused, TokenRefused, ToolFailed
from specialists.link import Pool
from specialists.toolbox import Toolbox
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio

LOGS = "2 lines\n10:01 orders ERROR pool exhausted\n10:02 orders ERROR pool exhausted again"


def toolbox(target, **more):
    return Toolbox(target, case="c-1", run="r-1", task="t-1", specialist="logs", **more)


def known(pool: Pool, url: str, over: str = "known") -> Pool:
    """The pool, which knows what is spoken at this address if that is the way to go."""
    if over == "known":
        pool.spoken[url] = MODERN_PROTOCOL_VERSIONS[-1]
    return pool


async def test_a_result_has_text_data_and_the_call_it_is_recorded_under():
    gateway = SmallGateway({"logs__search": {"text": LOGS, "data": {"total": 2}}})
    async with toolbox(gateway.server) as tb:
        result = await tb.call("logs__search", {"text": "pool"})
    assert (result.call, result.text, result.data) == ("C1", LOGS, {"total": 2})
    assert (result.tool, result.arguments, result.is_error) == ("logs__search", {"text": "pool"}, False)
    assert tb.calls == 1 and tb.results["C1"] is result


async def test_a_resumed_task_makes_the_same_calls_under_the_same_keys_and_gets_what_is_recorded():
    gateway = SmallGateway({"logs__search": LOGS})
    for replayed in (False, True):
        async with toolbox(gateway.server) as tb:
            first = await tb.call("logs__search", {"a": 1, "b": 2})
            again = await tb.call("logs__search", {"b": 2, "a": 1})
        assert (first.replayed, again.replayed) == (replayed, replayed)
        assert first.call != again.call, "the second making of the same call is a call of its own"
    assert len(gateway.made) == 2
    assert gateway.keys[:2] == gateway.keys[2:]


async def test_another_run_task_tool_or_argument_is_another_key():
    gateway = SmallGateway({"logs__search": LOGS, "logs__patterns": LOGS})
    for run, task in (("r-1", "t-1"), ("r-2", "t-1"), ("r-1", "t-2")):
        async with Toolbox(gateway.server, run=run, task=task) as tb:
            await tb.call("logs__search", {"a": 1})
            await tb.call("logs__search", {"a": 2})
            await tb.call("logs__patterns", {"a": 1})
    assert len(set(gateway.keys)) == 9


async def test_only_words_that_stand_in_the_result_can_be_quoted():
    gateway = SmallGateway({"logs__search": LOGS})
    async with toolbox(gateway.server) as tb:
        result = await tb.call("logs__search", {"text": "pool"})
    evidence = result.quote("orders ERROR pool exhausted")
    assert (evidence.call, evidence.tool, evidence.arguments) == ("C1", "logs__search", {"text": "pool"})
    for words in ("orders FATAL pool exhausted", "", "2 "):
        with pytest.raises(QuoteError):
            result.quote(words)


async def test_a_citation_quotes_the_first_line_that_holds_the_words():
    gateway = SmallGateway({"logs__search": LOGS})
    async with toolbox(gateway.server) as tb:
        result = await tb.call("logs__search")
    assert result.lines("orders", "again") == ["10:02 orders ERROR pool exhausted again"]
    cited = result.cite("orders", "exhausted")
    assert cited and cited.quote == "10:01 orders ERROR pool exhausted"
    assert result.cite("payments") is None


async def test_what_did_not_go_through_a_gateway_cannot_be_quoted():
    from mcp.server import MCPServer

    bare = MCPServer("bare", log_level="ERROR")

    @bare.tool()
    def look() -> str:
        return "pool exhausted"

    async with toolbox(bare) as tb:
        result = await tb.call("look")
    with pytest.raises(QuoteError, match="no id"):
        result.quote("pool exhausted")


async def test_a_refusal_is_a_result_and_an_exception_only_for_who_asks():
    gateway = SmallGateway({"actions__restart": {"refusal": "denied"}, "logs__search": {"error": "no index"}})
    async with toolbox(gateway.server) as tb:
        refused = await tb.call("actions__restart", {"service": "orders"})
        failed = await tb.call("logs__search")
    assert (
        refused.refusal and refused.refusal.code == "denied" and refused.refusal.rules == ({"id": "table"},)
    )
    with pytest.raises(Refused) as caught:
        refused.required()
    assert caught.value.exit_code == 3
    with pytest.raises(QuoteError, match="denied"):
        refused.quote("refused by the table")
    assert failed.is_error and failed.refusal is None
    with pytest.raises(ToolFailed, match="no index"):
        failed.required()


@pytest.mark.parametrize("way", ["approval", "ask"])
@pytest.mark.parametrize("over", ["memory", "http", "known"])
async def test_a_call_that_waits_for_a_person_says_which_approval(way, over):
    gateway = SmallGateway({"actions__restart": {way: "A-7"}})
    arguments = {"service": "orders"}
    with gateway.serving() as url:
        async with (
            Pool() as pool,
            toolbox(gateway.server if over == "memory" else url, pool=known(pool, url, over)) as tb,
        ):
            with pytest.raises(ApprovalPending) as caught:
                await tb.call("actions__restart", arguments)
    wait = caught.value
    assert (wait.approval_id, wait.tool, wait.arguments) == ("A-7", "actions__restart", arguments)
    assert wait.exit_code == 4 and gateway.made == []


async def test_an_error_of_the_protocol_is_a_result_and_no_lost_gateway():
    from mcp import MCPError
    from mcp.server import Server

    async def stubborn(_context, _params):
        raise MCPError(code=-32602, message="no such thing")

    async with toolbox(Server("odd", on_call_tool=stubborn)) as tb:
        result = await tb.call("logs__search")
    assert result.refusal and result.refusal.code == "protocol_error" and "no such thing" in result.text


async def test_a_question_of_a_tool_server_is_left_unanswered():
    from mcp.server import MCPServer
    from mcp.server.mcpserver import AcceptedElicitation, Elicit, ElicitationResult, Resolve
    from pydantic import BaseModel

    class Sure(BaseModel):
        ok: bool

    curious = MCPServer("curious", log_level="ERROR")

    async def ask() -> Elicit[Sure]:
        return Elicit("Really?", Sure)

    wiped = []

    async def wipe(sure: Annotated[ElicitationResult[Sure], Resolve(ask)]) -> str:
        wiped.append(isinstance(sure, AcceptedElicitation))
        return "done"

    curious.add_tool(wipe)
    async with toolbox(curious) as tb:
        result = await tb.call("wipe")
    assert result.refusal and result.refusal.code == "input_required"
    assert wiped == []


@pytest.mark.parametrize("over", ["memory", "known"])
async def test_a_call_without_an_answer_ends_at_its_deadline(over):
    gateway = SmallGateway({"logs__search": {"text": LOGS, "delay": 30}})
    with gateway.serving() as url:
        target = gateway.server if over == "memory" else url
        async with Pool() as pool, toolbox(target, seconds=0.3, pool=known(pool, url, over)) as tb:
            await refused_for_time(gateway, tb)


async def refused_for_time(gateway: SmallGateway, tb: Toolbox) -> None:
    """A call that takes too long is one refusal; the next one is answered."""
    result = await tb.call("logs__search")
    assert result.refusal and result.refusal.code == "deadline_exceeded"
    gateway.tools["logs__search"] = LOGS
    tb.seconds = 30
    assert (await tb.call("logs__search")).text == LOGS


async def test_every_call_is_told_with_its_time():
    heard = []
    gateway = SmallGateway({"logs__search": LOGS, "actions__restart": {"refusal": "denied"}})
    async with toolbox(gateway.server, on_progress=heard.append) as tb:
        await tb.call("logs__search", {"text": "pool"})
        await tb.call("actions__restart")
    assert [(e.kind, e.specialist, e.tool, e.call) for e in heard] == [
        ("tool", "logs", "logs__search", "C1"),
        ("tool", "logs", "actions__restart", "C2"),
    ]
    assert heard[0].text == "logs__search text=pool" and heard[1].text.endswith("denied")
    assert all(e.seconds > 0 for e in heard)


async def test_a_wrong_token_is_said_to_be_one():
    gateway = SmallGateway({"logs__search": LOGS}, token="right")
    with gateway.serving() as url:
        async with toolbox(url, token="wrong") as tb:
            with pytest.raises(TokenRefused) as caught:
                await tb.call("logs__search")
        async with toolbox(url, token="right") as tb:
            assert (await tb.call("logs__search")).text == LOGS
    assert "wrong" not in str(caught.value) and "tokens issue" in str(caught.value)


async def test_toolboxes_with_different_tokens_share_one_pool_of_sockets():
    gateway = SmallGateway({"logs__search": LOGS}, token="right")
    with gateway.serving() as url:
        async with Pool() as pool:
            async with toolbox(url, token="right", pool=pool) as first:
                await first.call("logs__search")
            async with toolbox(url, token="right", pool=pool) as second:
                assert [tool.name for tool in await second.tools()] == ["logs__search"]
            async with toolbox(url, token="wrong", pool=pool) as third:
                with pytest.raises(TokenRefused):
                    await third.call("logs__search")


STREAM = b"""event: message
data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"soon"}}

event: message
data: {"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"in time"}]}}

"""


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (200, "text/event-stream", STREAM, "in time"),
        (200, "application/json", b'{"error":{"code":-32602,"message":"no such"}}', "no such"),
        (200, "application/json", b"[]", "no answer in the protocol's words (HTTP 200)"),
        (200, "text/event-stream", b": nothing\n\n", None),
        (500, "text/html", b"<h1>Oh</h1>", None),
        (429, "application/json", b'{"error":{"code":-32000,"message":"later"}}', None),
    ],
)  # fmt: skip
async def test_whatever_a_known_address_answers_is_a_result_or_a_lost_gateway(status, kind, body, said):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            head = f"HTTP/1.1 {status} So\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
            writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    async with server, Pool() as pool, toolbox(url, patience=0.1, pool=known(pool, url)) as tb:
        if said is None:
            with pytest.raises(GatewayLost):
                await tb.call("logs__search")
        else:
            assert said in (await tb.call("logs__search")).text
        assert bool(pool.spoken) == (said is not None)


async def test_a_pool_that_knew_a_gateway_finds_the_one_started_in_its_place(tmp_path):
    async with Pool() as pool:
        with child(tmp_path, {"logs__search": LOGS}) as (url, _):
            async with toolbox(url, pool=pool) as first:
                await first.call("logs__search")
            assert pool.spoken[url]
        async with toolbox(url, patience=0.1, pool=pool) as second:
            with pytest.raises(GatewayLost):
                await second.call("logs__search")
        assert not pool.spoken
        with child(tmp_path, {"logs__search": LOGS}, int(url.rsplit(":", 1)[1].split("/")[0])):
            async with toolbox(url, pool=pool) as third:
                assert (await third.call("logs__search")).text == LOGS


async def test_an_absent_gateway_is_one_clear_error():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/mcp"
        async with toolbox(url, patience=0.1) as tb:
            with pytest.raises(GatewayLost) as caught:
                await tb.call("logs__search")
    assert (
        caught.value.exit_code == 5 and url in str(caught.value) and "pointsman gateway" in str(caught.value)
    )


@contextmanager
def child(folder: Path, tools: dict, port: int = 0):
    """A small gateway in a process of its own."""
    (folder / "tools.json").write_text(json.dumps(tools))
    read, write = os.pipe()
    arguments = ["--tools", str(folder / "tools.json"), "--log", str(folder / "log"), "--port", str(port)]
    command = [sys.executable, "-m", "tests.fakes.small_gateway", *arguments, "--ready-fd", str(write)]
    process = subprocess.Popen(command, pass_fds=[write], cwd=Path(__file__).parents[2])
    os.close(write)
    with open(read) as ready:
        url = json.loads(ready.readline())["url"]
    try:
        yield url, process
    finally:
        process.kill()
        process.wait()


async def test_a_call_in_flight_when_the_gateway_is_killed_is_made_again_under_the_same_key(tmp_path):
    os.mkfifo(tmp_path / "log")
    log = io.FileIO(tmp_path / "log", "r+")
    with log, child(tmp_path, {"logs__search": {"text": LOGS, "delay": 60}}) as (url, first):
        async with toolbox(url, patience=30, seconds=60) as tb:
            call = asyncio.create_task(tb.call("logs__search", {"text": "pool"}))
            arrived = json.loads(await asyncio.to_thread(log.readline))
            first.kill()
            await asyncio.to_thread(first.wait)
            port = int(url.rsplit(":", 1)[1].split("/")[0])
            with child(tmp_path, {"logs__search": LOGS}, port):
                result = await call
        again, ran = json.loads(log.readline()), json.loads(log.readline())
    assert result.text == LOGS
    assert arrived["key"] == again["key"] == ran["key"]
    assert ran["call"] == "C1"


async def test_a_gateway_killed_for_good_is_an_error_and_not_the_end_of_the_program(tmp_path):
    with child(tmp_path, {"logs__search": LOGS}) as (url, process):
        async with toolbox(url, patience=0.1) as tb:
            await tb.call("logs__search")
            process.kill()
            await asyncio.to_thread(process.wait)
            for _ in range(2):
                with pytest.raises(GatewayLost):
                    await tb.call("logs__search")
