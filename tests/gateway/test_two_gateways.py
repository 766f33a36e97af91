"""Two gateways on one PostgreSQL database: what one is told, the other knows."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app import App
from gateway.canonical import digest
from gateway.tidying import KEPT_SECONDS, tidy
from gateway.types import Call, Decision
from tests.gateway.world import LOGS, OPERATOR, POLICY, FakeServer, app_with, call, code, words

pytestmark = pytest.mark.anyio
FLOW = f"""{POLICY}
@id("kept in") @description("Whoever has read something private sends nothing out.")
forbid (principal, action in [Action::"call", Action::"request"], resource)
when {{ context.labels.contains("private") && resource.labels.contains("outward") }};
"""


@asynccontextmanager
async def two(
    tmp_path: Path, url: str, fake: FakeServer, pin: str = "trust", **more: Any
) -> AsyncIterator[tuple[App, App]]:
    """Two gateways with homes of their own."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    servers = {"fake": fake.entry(pin=pin, tools=more.pop("tools", {}))}
    async with (
        app_with(tmp_path / "a", servers, database=url, **more) as a,
        app_with(tmp_path / "b", servers, database=url, **more) as b,
    ):
        yield a, b


async def becomes(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether the condition comes true in time, while the loop goes on."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_token_is_known_and_revoked_at_both(
    tmp_path: Path, postgres_url: str, fake: FakeServer
) -> None:
    async with two(tmp_path, postgres_url, fake) as (a, b):
        token = await a.tokens.issue("user:ana")
        assert await becomes(lambda: b.tokens.verify(token["token"]) is not None)
        await b.tokens.revoke(token["id"])
        assert await becomes(lambda: a.tokens.verify(token["token"]) is None)


async def test_consent_given_at_one_is_honoured_at_the_other_and_serves_once(
    tmp_path: Path, postgres_url: str, fake: FakeServer
) -> None:
    async with two(tmp_path, postgres_url, fake) as (a, b):
        asked = await call(a, LOGS, "fake__write", {"text": "w"})
        assert code(asked) == "approval_pending"
        approval = asked["_meta"]["pointsman/refusal"]["approval"]
        await b.approvals.grant(approval, OPERATOR, "go on")
        tries = [call(app, LOGS, "fake__write", {"text": "w"}) for app in (a, b) * 50]
        ran = [answer for answer in await asyncio.gather(*tries) if words(answer) == "write: w"]
        assert len(ran) == 1 and fake.calls == [["write", {"text": "w"}]]
        assert (await a.ledger.verify())["ok"] and (await b.ledger.verify())["ok"]


async def test_of_many_calls_with_one_key_at_both_one_runs_and_all_get_its_outcome(
    tmp_path: Path, postgres_url: str, fake: FakeServer
) -> None:
    async with two(tmp_path, postgres_url, fake) as (a, b):
        tries = [call(app, LOGS, "fake__slow", {"seconds": 0.2}, pointsman__key="k") for app in (a, b) * 20]
        answers = await asyncio.gather(*tries)
        assert {words(answer) for answer in answers} == {"awake"}
        assert len({answer["_meta"]["pointsman/call"] for answer in answers}) == 1
        assert len(fake.calls) == 1
        other = await call(b, LOGS, "fake__slow", {"seconds": 0.3}, pointsman__key="k")
        assert code(other) == "key_conflict"


async def test_a_definition_approved_at_one_is_served_at_the_other(
    tmp_path: Path, postgres_url: str, fake: FakeServer
) -> None:
    async with two(tmp_path, postgres_url, fake, pin="approve") as (a, b):
        assert "fake__read" not in b.catalogue.tools
        await a.catalogue.approve(a.catalogue.get("fake"), ["read"], OPERATOR)
        assert await becomes(lambda: "fake__read" in b.catalogue.tools)
        await b.catalogue.forget("fake")
        assert await becomes(lambda: "fake__read" not in a.catalogue.tools)


async def test_a_gateway_that_ends_has_its_open_calls_closed_by_another_and_no_other_has(
    tmp_path: Path, postgres_url: str, fake: FakeServer
) -> None:
    async with two(tmp_path, postgres_url, fake) as (a, b):
        tool = b.catalogue.tools["fake__read"]

        def made(name: str) -> Call:
            return Call(name, "call", LOGS, tool, {}, digest({}), name)

        (tmp_path / "c").mkdir()
        async with app_with(tmp_path / "c", {}, database=postgres_url) as dying:
            await dying.ledger.intent(made("cut-off"), Decision("call"))
            await a.ledger.intent(made("under way"), Decision("call"))
            assert await b.ledger.recover() == []
        async with asyncio.timeout(20):  # the server may take a moment to see that a connection has ended
            while (found := await a.ledger.find_key(LOGS, "cut-off")) and found.status == "running":
                assert await b.ledger.recover() in (["cut-off"], [])
        assert found is not None and found.status == "unknown"
        await a.ledger.outcome(made("under way"), {"content": []}, status="ok")
        assert (await b.ledger.verify())["ok"]


async def test_what_they_told_each_other_is_removed_after_its_time_and_holds_all_the_same(
    tmp_path: Path, postgres_url: str, fake: FakeServer
) -> None:
    more = {
        "policy": FLOW,
        "max_per_case": 3,
        "tools": {"read": {"labels": ["private"]}, "many": {"labels": ["outward"]}},
    }
    async with two(tmp_path, postgres_url, fake, **more) as (a, b):

        async def left() -> list[int]:
            count = "SELECT (SELECT COUNT(*) FROM seen), (SELECT COUNT(*) FROM budgets)"
            return list(await b.store.read(lambda c: c.execute(count).fetchone()))

        bound = replace(LOGS, run="r", case="INC-1")
        assert words(await call(b, bound, "fake__count")) == "1"
        assert words(await call(a, bound, "fake__read", {"text": "r"})) == "read: r"
        assert await left() == [1, 1]
        await tidy(b.store, b.gateway.labels, time.time())
        assert await left() == [1, 1]
        await tidy(b.store, b.gateway.labels, time.time() + KEPT_SECONDS + 60)
        assert await left() == [0, 0]
        assert code(await call(b, bound, "fake__many")) == "denied"
        assert words(await call(b, bound, "fake__count")) == "3"
        assert code(await call(a, bound, "fake__count")) == "limit_exceeded"
