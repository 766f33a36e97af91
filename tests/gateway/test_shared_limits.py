"""Two gateway processes on one PostgreSQL database: limits and labels hold for both together, under load."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.databases import own_schema
from tests.gateway.world import POLICY, FakeServer, Running, code, fake_server, gateway, until, words

pytestmark = pytest.mark.anyio
A_MINUTE, AT_ONCE, A_CASE = 200, 40, 50
FLOW = (
    POLICY
    + """
@id("outward") @description("Nothing private and untrusted goes out.")
forbid (principal, action in [Action::"call", Action::"request"], resource)
when { context.labels.containsAll(["private", "untrusted"]) && resource.labels.contains("outward") };
"""
)
TOOLS = {
    "read": {"labels": ["private"]},
    "many": {"labels": ["untrusted"]},
    "whoami": {"labels": ["outward"]},
    "count": {"perMinute": 60},
    "slow": {"atOnce": 8},
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
NUMBERS = itertools.count(1)


@dataclass
class Pair:
    """Two gateways and the tool server behind both."""

    gateways: tuple[Running, Running]
    fake: FakeServer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> Iterator[Pair]:
    directory, url = tmp_path_factory.mktemp("pair"), own_schema(postgres_server.get_uri())
    for name in ("a", "b"):
        (directory / name).mkdir()
    limits = {"database": url, "max_per_minute": A_MINUTE, "max_concurrent": AT_ONCE, "max_per_case": A_CASE}
    with fake_server(directory / "fake") as fake:
        slow = next(tool for tool in fake.tools() if tool["name"] == "slow")
        slow["inputSchema"]["properties"]["until"] = {"type": "string"}
        fake.offer([*(t for t in fake.tools() if t["name"] != "slow"), slow, {**slow, "name": "nap"}])
        servers = {"fake": fake.entry(pin="trust", tools=TOOLS)}
        with (
            gateway(directory / "a", servers, FLOW, **limits) as a,
            gateway(directory / "b", servers, FLOW, **limits) as b,
        ):
            yield Pair((a, b), fake)


Tool = Callable[..., Any]


@asynccontextmanager
async def calling(here: Running, token: str) -> AsyncIterator[Tool]:
    """What calls a tool through one of them: the result as it comes."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
    }
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx2.AsyncClient(headers=headers, timeout=30, limits=limits) as http:

        async def tool(name: str, **arguments: Any) -> dict[str, Any]:
            params = {"name": f"fake__{name}", "arguments": arguments, "_meta": META}
            message = {"jsonrpc": "2.0", "id": next(NUMBERS), "method": "tools/call", "params": params}
            own = {"Mcp-Name": f"fake__{name}"}
            for _ in range(100):  # a token of one gateway is known at the other within moments
                answer = await http.post(f"{here.url}/mcp", json=message, headers=own)
                if answer.status_code != 401:
                    break
                await asyncio.sleep(0.02)
            return answer.json()["result"]

        yield tool


@asynccontextmanager
async def both(pair: Pair, subject: str, **bound: str) -> AsyncIterator[tuple[Tool, Tool]]:
    """What calls tools as this subject, at the one and at the other."""
    a, b = pair.gateways
    async with a.client() as operator:
        wanted = {"subject": subject, "roles": ["specialist"], **bound}
        told = await operator.call_tool("gateway__issue_token", wanted)
    assert told.structured_content is not None, told
    token = told.structured_content["token"]
    async with calling(a, token) as at_a, calling(b, token) as at_b:
        yield at_a, at_b


async def hammered(tools: tuple[Tool, Tool], name: str) -> tuple[int, float]:
    """How many calls run of all that are tried at both, until both have refused many; and for how long."""
    began = time.monotonic()

    async def go_on(tool: Tool) -> int:
        ran = refused = 0
        while refused < 5:
            answer = await tool(name)
            if code(answer) == "limit_exceeded":
                assert answer["_meta"]["pointsman/refusal"]["retry_after"] > 0
                refused += 1
                await asyncio.sleep(0.1)
            else:
                ran += 1
        return ran

    ran = sum(await asyncio.gather(*(go_on(tool) for tool in tools * 4)))
    return ran, time.monotonic() - began


@pytest.mark.parametrize(("tool", "most"), [("many", A_MINUTE), ("count", 60)])
async def test_a_rate_holds_for_both_together(pair: Pair, tool: str, most: int) -> None:
    async with both(pair, f"agent:{tool}") as tools:
        ran, took = await hammered(tools, tool)
    allowed = most + most / 60 * took  # the minute's calls, and those that came to them meanwhile
    assert 0.9 * allowed <= ran <= 1.1 * allowed, (ran, allowed)


@pytest.mark.parametrize(("tool", "most"), [("nap", AT_ONCE), ("slow", 8)])
async def test_calls_at_once_are_counted_for_both_together_and_their_places_come_back(
    pair: Pair, tool: str, most: int
) -> None:
    subject = f"agent:{tool}"
    async with both(pair, subject) as tools:
        for turn in range(2):
            gate = f"{subject}-{turn}"
            tries = [asyncio.create_task(tools[n % 2](tool, until=gate)) for n in range(50)]

            def inside(gate: str = gate) -> int:
                return pair.fake.calls.count([tool, {"until": gate}])

            def settled(inside: Callable[[], int] = inside, tries: list[Any] = tries) -> bool:
                return inside() + sum(task.done() for task in tries) == len(tries)

            assert await asyncio.to_thread(until, settled)
            ran = inside()
            (pair.fake.directory / gate).touch()
            answers = await asyncio.gather(*tries)
            assert sum(words(answer) == "awake" for answer in answers) == ran
            assert {code(answer) for answer in answers} == {"", "limit_exceeded"}
            assert 0.9 * most <= ran <= 1.1 * most, ran


async def test_a_case_has_one_budget_at_both(pair: Pair) -> None:
    async with both(pair, "agent:spender", case="C-spent") as tools:
        tries = [tools[n % 2]("number", text="1") for n in range(120)]
        answers = [a for at in range(0, 120, 20) for a in await asyncio.gather(*tries[at : at + 20])]
        assert [code(answer) for answer in answers].count("") == A_CASE
        assert {code(answer) for answer in answers} == {"", "limit_exceeded"}


async def test_what_a_run_has_seen_at_one_counts_at_the_other_with_the_very_next_call(pair: Pair) -> None:
    for n in range(6):
        async with both(pair, "agent:flow", case=f"C-{n}", run="r1") as tools:
            first, second = tools if n % 2 else tools[::-1]
            for tool in tools:  # both know the run by now, and may send
                assert code(await tool("whoami")) == ""
            assert words(await first("read", text="x")) == "read: x"
            assert code(await second("whoami")) == ""  # private alone may go out
            await second("many", bytes=1)
            refused = await first("whoami")
            assert code(refused) == "denied" and "outward" in words(refused)
            assert code(await second("whoami")) == "denied"
