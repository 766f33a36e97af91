"""The front: who gets in, what a message must look like, both eras with the official client."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.world import FakeServer, Running, fake_server, gateway, pointsman, until

pytestmark = pytest.mark.anyio
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ACCEPT = "application/json, text/event-stream"


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    with fake_server(tmp_path_factory.mktemp("fake")) as running:
        announce = {
            "name": "announce",
            "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": True},
        }
        running.offer([*running.tools(), announce])
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, fake: FakeServer) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("gateway"), {"fake": fake.entry(pin="trust")}) as started:
        yield started


@pytest.fixture
async def token(running: Running) -> str:
    return await running.issue("agent:logs", "specialist")


def message(name: str = "fake__read", arguments: Any = None, **more: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments or {}, "_meta": MODERN}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params, **more}


async def post(
    running: Running, token: str, body: Any, path: str = "/mcp", **headers: str | None
) -> httpx2.Response:
    given = {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": ACCEPT,
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "fake__read",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    sent = {name: value for name, value in given.items() if value is not None}
    async with httpx2.AsyncClient(timeout=30) as http:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await http.post(running.url + path, content=content, headers=sent)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("endpoint", ["/mcp", "/servers/fake/mcp"])
async def test_the_official_client_lists_and_calls(
    running: Running, token: str, mode: str, endpoint: str
) -> None:
    prefix = "fake__" if endpoint == "/mcp" else ""
    async with running.client(token, endpoint, mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert f"{prefix}read" in names
        result = await client.call_tool(f"{prefix}read", {"text": "hi"})
        assert result.content[0].text == "read: hi"
        refused = await client.call_tool(f"{prefix}write", {"text": "hi"})
        assert refused.is_error and refused.content[0].text.startswith("approval_pending:")


async def test_no_token_and_a_wrong_one_are_told_before_the_body_is_read(
    running: Running, token: str
) -> None:
    for bad in (None, "Bearer", "Bearer pm_" + "x" * 43, f"Basic {token}", token):
        answer = await post(running, token, b"this is not even JSON", authorization=bad)
        assert answer.status_code == 401 and "www-authenticate" in answer.headers
    for path in ("/", "/mcp/", "/MCP", "/servers/nobody/mcp", "/servers/fake", "//mcp"):
        assert (await post(running, "none", message(), path)).status_code == 401
        assert (await post(running, token, message(), path)).status_code == 404
    async with httpx2.AsyncClient() as http:
        assert (await http.get(running.url + "/healthz")).json() == {"status": "ok"}


async def test_a_web_page_cannot_use_a_browser_as_its_hand(running: Running, token: str) -> None:
    assert (await post(running, token, message(), origin="http://evil.example")).status_code == 403
    assert (await post(running, token, message(), origin="null")).status_code == 403
    assert (await post(running, token, message(), host="evil.example")).status_code == 421
    assert (await post(running, token, message(), content_type="text/plain")).status_code == 415
    assert (await post(running, token, message(), origin="http://localhost:3000")).status_code == 200


async def test_a_message_that_could_be_read_in_two_ways_is_refused(
    running: Running, token: str, fake: FakeServer
) -> None:
    before = len(fake.calls)
    whole = json.dumps(message())
    bad = [
        whole.replace('"name": "fake__read"', '"name": "fake__read", "name": "fake__write"'),
        whole.replace('"arguments": {}', '"arguments": {"text": NaN}'),
        whole + " {}",
        f"[{whole}]",
        whole.replace('"2.0"', '"1.0"'),
        whole.replace('"id": 1', '"id": null'),
        whole.replace('"id": 1', '"id": true'),
        "[" * 10_000,
    ]
    for body in bad:
        answer = await post(running, token, body.encode())
        assert answer.status_code == 400, body
        assert answer.json()["error"]["code"] in (-32700, -32600), body
    assert (await post(running, token, b'"' + b"x" * 2_000_000 + b'"')).status_code == 413
    assert len(fake.calls) == before


async def test_headers_and_body_must_agree(running: Running, token: str, fake: FakeServer) -> None:
    before = len(fake.calls)
    wrong = [
        {"mcp_name": "fake__count"},
        {"mcp_name": None},
        {"mcp_method": "tools/list"},
        {"mcp_protocol_version": "2027-01-01"},
        {"mcp_name": "=?base64?!!!?="},
    ]
    for headers in wrong:
        answer = await post(running, token, message(), **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020), headers
    assert len(fake.calls) == before
    encoded = "=?base64?ZmFrZV9fcmVhZA==?="
    assert (await post(running, token, message(), mcp_name=encoded)).status_code == 200
    old = message()
    old["params"]["_meta"] = {**MODERN, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    answer = await post(running, token, old, mcp_protocol_version="2099-01-01")
    assert answer.json()["error"]["code"] == -32022


async def test_a_session_belongs_to_the_subject_that_opened_it(running: Running, token: str) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    legacy: dict[str, Any] = {"mcp_protocol_version": "2025-11-25", "mcp_method": None, "mcp_name": None}
    opened = await post(running, token, hello, **legacy)
    session = opened.headers["mcp-session-id"]
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await post(running, token, ping, mcp_session_id=session, **legacy)).json()["result"] == {}
    other = await running.issue("agent:metrics", "specialist")
    assert (await post(running, other, ping, mcp_session_id=session, **legacy)).status_code == 404
    assert (
        await post(running, token, ping, "/servers/fake/mcp", mcp_session_id=session, **legacy)
    ).status_code == 404
    assert (await post(running, token, ping, **legacy)).status_code == 400
    async with httpx2.AsyncClient() as http:
        headers = {"authorization": f"Bearer {token}", "mcp-session-id": session}
        assert (await http.delete(running.url + "/mcp", headers=headers)).status_code == 200
    assert (await post(running, token, ping, mcp_session_id=session, **legacy)).status_code == 404


async def test_instructions_and_foreign_metadata_of_a_closed_server_stay_behind(
    running: Running, token: str
) -> None:
    for mode in ("auto", "legacy"):
        async with running.client(token, "/servers/fake/mcp", mode) as client:
            assert client.instructions is None


async def test_list_changes_reach_listeners_of_both_eras(running: Running, token: str) -> None:
    async with running.client(token) as client, client.listen(tools_list_changed=True) as events:
        await client.call_tool("fake__announce", {})
        async with asyncio.timeout(10):
            async for event in events:
                assert type(event).__name__ == "ToolsListChanged"
                break
    heard = asyncio.Event()

    async def take(said: Any) -> None:
        if type(said).__name__ == "ToolListChangedNotification":
            heard.set()

    async with running.client(token, mode="legacy", message_handler=take) as client:
        await client.call_tool("fake__announce", {})
        await asyncio.wait_for(heard.wait(), 10)


async def test_a_caller_that_hangs_up_cancels_its_call(
    running: Running, token: str, fake: FakeServer
) -> None:
    for mode in ("auto", "legacy"):
        before = len(fake.calls)
        async with running.client(token, mode=mode) as client:
            call = asyncio.create_task(client.call_tool("fake__slow", {"seconds": 20}))
            assert await asyncio.to_thread(until, lambda n=before: len(fake.calls) > n)
            call.cancel()
            await asyncio.wait([call])

        def cancelled(wanted: int = 1 if mode == "auto" else 2) -> bool:
            rows = pointsman(running, "audit", "search", "--tool", "fake__slow", "--json").stdout
            return rows.count('"cancelled"') >= wanted

        assert await asyncio.to_thread(until, cancelled, 20)


async def test_open_streams_do_not_hold_up_the_end(tmp_path: Path, fake: FakeServer) -> None:
    with gateway(tmp_path, {"fake": fake.entry(pin="trust")}) as started:
        token = await started.issue("agent:logs", "specialist")
        async with (
            started.client(token, mode="legacy") as old,
            started.client(token) as new,
            new.listen(tools_list_changed=True) as events,
        ):
            await old.list_tools()
            started.process.terminate()
            assert await asyncio.to_thread(started.process.wait, 30) == 0
            assert "graceful shutdown exceeded" not in (tmp_path / "gateway.log").read_text()
            async with asyncio.timeout(5):
                assert [event async for event in events] == []
