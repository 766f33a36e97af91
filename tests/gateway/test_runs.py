"""What a run has seen and spent: labels and budgets hold over a restart, limits say when to come back."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import Refusal
from gateway.labels import Labels
from gateway.limits import Limits
from gateway.settings import Settings
from gateway.types import Subject
from tests.gateway.records import GET, LOGS, call, parts, tool
from tests.gateway.world import LOGS as AGENT
from tests.gateway.world import POLICY, FakeServer, app_with, code, fake_server, until, words
from tests.gateway.world import call as ask

pytestmark = pytest.mark.anyio
FLOW = (
    POLICY
    + """
@id("outward") @description("Nothing private and untrusted goes out.")
forbid (principal, action in [Action::"call", Action::"request"], resource)
when { context.labels.containsAll(["private", "untrusted"]) && resource.labels.contains("outward") };
"""
)
MAIL = tool("mail", "read", read_only=True, labels=("private", "untrusted"))
NEWS = tool("news", "read", read_only=True, labels=("untrusted",))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    with fake_server(tmp_path_factory.mktemp("fake")) as running:
        yield running


async def test_what_a_run_has_read_keeps_it_from_sending_also_after_a_restart(
    tmp_path: Path, fake: FakeServer
) -> None:
    tools = {
        "read": {"labels": ["private"]},
        "fail": {"labels": ["untrusted"], "readOnly": True},
        "whoami": {"labels": ["outward"], "readOnly": True},
    }
    other = replace(AGENT, run="r2")
    for start in range(2):
        async with app_with(tmp_path, {"fake": fake.entry(pin="trust", tools=tools)}, policy=FLOW) as app:
            if start == 0:
                assert code(await ask(app, AGENT, "fake__whoami")) == ""
                await ask(app, AGENT, "fake__read", {"text": "x"})
                assert code(await ask(app, AGENT, "fake__whoami")) == ""  # private alone may go out
                with pytest.raises(Exception, match="not like this"):
                    await ask(app, AGENT, "fake__fail")  # the words of an error are words too
            refused = await ask(app, AGENT, "fake__whoami")
            assert code(refused) == "denied" and "rule outward" in words(refused)
            assert code(await ask(app, other, "fake__whoami")) == ""  # another run has read nothing


@pytest.mark.parametrize(
    "subject",
    [LOGS, replace(LOGS, run=""), replace(LOGS, case=""), Subject("agent:x")],
    ids=["run of a case", "case", "run", "subject"],
)
async def test_labels_are_those_of_the_ledger(tmp_path: Path, subject: Subject) -> None:
    async with parts(tmp_path) as p:
        for made in (
            call(GET, subject),
            call(NEWS, subject),
            call(MAIL, replace(subject, id="agent:y", run="z")),
        ):
            await p.run(made)
        assert (await Labels(p.ledger).of(subject)).labels() == {"untrusted"}
        await p.run(call(MAIL, subject))
        labels = Labels(p.ledger)
        found = await asyncio.gather(*(labels.of(subject) for _ in range(20)))
        assert {id(seen) for seen in found} == {id(found[0])}  # read once, whoever asks
        assert found[0].labels() == {"private", "untrusted"}


async def test_outside_of_a_case_labels_hold_for_a_day(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        past = "UPDATE records SET time = '2020-01-01T00:00:00.000000Z'"
        await p.run(call(MAIL, Subject("agent:x")))
        await p.store.write(lambda c: c.execute(past) and None)
        await p.run(call(NEWS, Subject("agent:x")))
        assert (await Labels(p.ledger).of(Subject("agent:x"))).labels() == {"untrusted"}


async def test_the_budget_of_a_case_holds_over_a_restart(tmp_path: Path) -> None:
    settings = Settings(max_per_case=5)
    async with parts(tmp_path) as p:
        limits = Limits(settings, p.ledger)
        for _ in range(3):
            made = call(GET, LOGS)
            await limits.spend(made)
            await p.run(made)
        await p.run(call(GET, replace(LOGS, case="another")))
    async with parts(tmp_path) as p:
        limits = Limits(settings, p.ledger)
        tries = await asyncio.gather(
            *(limits.spend(call(GET, replace(LOGS, run=f"r{n}"))) for n in range(10)), return_exceptions=True
        )
        assert [type(t) for t in tries] == [type(None)] * 2 + [Refusal] * 8
        assert "has made its 5 calls" in str(tries[-1])
        await limits.spend(call(GET, replace(LOGS, case="another")))


async def test_limits_of_a_tool_are_each_subjects_own_and_say_when_to_come_back(
    tmp_path: Path, fake: FakeServer
) -> None:
    tools = {"read": {"perMinute": 2}, "slow": {"atOnce": 1, "readOnly": True}}
    other = replace(AGENT, id="agent:other")
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust", tools=tools)}) as app:
        got = [await ask(app, AGENT, "fake__read", {"text": "x"}) for _ in range(3)]
        assert [code(result) for result in got] == ["", "", "limit_exceeded"]
        assert "agent:logs on fake__read has made its 2 calls of this minute" in words(got[2])
        assert 0 < got[2]["_meta"]["pointsman/refusal"]["retry_after"] <= 30
        assert code(await ask(app, other, "fake__read", {"text": "x"})) == ""
        before = len(fake.calls)
        slow = asyncio.create_task(ask(app, AGENT, "fake__slow", {"seconds": 1}))
        assert await asyncio.to_thread(until, lambda: len(fake.calls) > before)
        assert code(await ask(app, AGENT, "fake__slow", {"seconds": 1})) == "limit_exceeded"
        assert code(await ask(app, AGENT, "fake__whoami")) == ""
        assert words(await slow) == "awake"


async def test_waiting_as_long_as_was_said_is_enough(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        limits = Limits(Settings(max_per_minute=600), p.ledger)
        with pytest.raises(Refusal) as refused:
            for _ in range(1000):
                with await limits.admit(LOGS):
                    pass
        assert refused.value.retry_after is not None
        await asyncio.sleep(refused.value.retry_after)
        with await limits.admit(LOGS):
            pass
