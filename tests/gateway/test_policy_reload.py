"""Policies change while the gateway runs: taken over when they fit, else kept, and always recorded."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gateway.world import (
    LOGS,
    POLICY,
    Running,
    app_with,
    call,
    code,
    fake_server,
    gateway,
    pointsman,
    until,
    words,
)

pytestmark = pytest.mark.anyio
NO_MORE = """
@id("no-more") @description("Nobody reads any more.")
forbid (principal, action in [Action::"call", Action::"request"], resource == Tool::"fake__read");
"""


@contextmanager
def world(directory: Path) -> Iterator[Running]:
    """A gateway in front of one server whose definitions are trusted."""
    with (
        fake_server(directory / "fake") as server,
        gateway(directory, {"fake": server.entry(pin="trust")}) as running,
    ):
        yield running


async def read(running: Running, token: str) -> str:
    """What reading says to this subject."""
    async with running.client(token) as client:
        return (await client.call_tool("fake__read", {"text": "x"})).content[0].text


async def test_a_changed_policy_decides_the_next_call_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    with world(tmp_path) as running:
        policy, log = tmp_path / "policy" / "test.cedar", tmp_path / "gateway.log"
        token = await running.issue("agent:logs", "specialist")
        assert await read(running, token) == "read: x"

        policy.write_text(POLICY + NO_MORE)
        assert until(lambda: "5 rules of" in log.read_text()), log.read_text()
        assert (await read(running, token)).startswith(
            "denied: agent:logs may not call fake__read: rule no-more"
        )
        async with running.client(token) as client:
            assert "fake__read" not in [tool.name for tool in (await client.list_tools()).tools]

        policy.write_text(POLICY + NO_MORE.replace("fake__read", "fake__raed"))
        assert until(lambda: "not taken over" in log.read_text()), log.read_text()
        assert "test.cedar:13:1: no-more: " in log.read_text()
        assert (await read(running, token)).startswith("denied:")  # by the set before
        told = pointsman(running, "audit", "search", "--kind", "policy", "--json").stdout
        *_, before, rejected = json.loads(told)["records"]
        assert (before["status"], rejected["status"]) == ("changed", "rejected")
        assert rejected["policy"] == before["policy"]  # which is still in force
        assert rejected["body"]["problem"].startswith("test.cedar:13:1: no-more: ")

        policy.write_text(POLICY)
        assert until(lambda: "4 rules of" in log.read_text()), log.read_text()
        assert await read(running, token) == "read: x"


async def test_the_ledger_tells_by_which_policy_a_call_was_decided(tmp_path: Path) -> None:
    with world(tmp_path) as running:
        token = await running.issue("agent:logs", "specialist")
        await read(running, token)
        (tmp_path / "policy" / "more.cedar").write_text(NO_MORE)
        assert until(lambda: "5 rules of" in (tmp_path / "gateway.log").read_text())
        records = [json.loads(r) for r in pointsman(running, "audit", "export").stdout.splitlines()]
    loaded, changed = [r for r in records if r["kind"] == "policy"]
    assert (loaded["status"], changed["status"]) == ("loaded", "changed")
    assert list(loaded["body"]["files"]) == ["test.cedar"]
    assert changed["body"]["rules_in_force"] == [
        "no-more",
        "readers",
        "writers-ask",
        "approvers",
        "operators",
    ]
    intent = next(r for r in records if r["kind"] == "intent" and r["tool"] == "fake__read")
    assert intent["policy"] == loaded["policy"] != changed["policy"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_under_way_ends_under_the_policy_it_began_with(tmp_path: Path) -> None:
    with fake_server(tmp_path / "fake") as fake:
        async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
            flying = asyncio.create_task(call(app, LOGS, "fake__slow", {"until": "gate"}))
            assert await asyncio.to_thread(until, lambda: fake.calls == [["slow", {"until": "gate"}]])
            (tmp_path / "policy" / "more.cedar").write_text(NO_MORE.replace("fake__read", "fake__slow"))
            await app.policies.read()
            assert code(await call(app, LOGS, "fake__slow", {"until": "gate"})) == "denied"
            (tmp_path / "fake" / "gate").touch()
            assert words(await flying) == "awake"
            assert len(fake.calls) == 1
