"""The rules of evidence, and what becomes of a specialist that breaks, hangs, lies or waits."""

import asyncio
import logging

import pytest

from specialists.errors import GatewayLost
from specialists.evidence import LONGEST_TEXT, MOST, investigate_checked, stands
from specialists.toolbox import Toolbox
from specialists.types import Action, Card, Cause, Claim, Evidence, Finding, Guidance, Progress, Task
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio

LOGS = "2 lines\n10:01 orders ERROR pool exhausted\n10:02 orders ERROR pool exhausted again"
TASK = Task(id="t-1", case="c-1", specialist="mine", question="Why do orders fail?", seconds=20)


class Mine:
    """A specialist that does what the test gives it."""

    card = Card(name="mine", description="a test's own", tools=("logs__*",))

    def __init__(self, work):
        self.investigate = work


def found(*claims, **more):
    return Finding(task="t-1", specialist="mine", status="found", summary="Pool.", claims=claims, **more)


def claim(*evidence, **more):
    return Claim(kind="symptom", text="The pool is exhausted.", confidence=0.8, evidence=evidence).model_copy(
        update=more
    )


async def asked(work, tools=None, task=TASK):
    """All events of one investigation."""
    gateway = SmallGateway(tools or {"logs__search": LOGS, "runbooks__search": LOGS})
    async with Toolbox(gateway.server, run="r-1", task=task.id) as toolbox:
        return [event async for event in investigate_checked(Mine(work), task, toolbox)]


async def test_events_come_in_order_and_the_finding_is_last():
    async def work(task, toolbox):
        yield Progress(specialist="someone", kind="started", text="my own start")
        result = await toolbox.call("logs__search")
        yield Progress(specialist="someone", kind="note", text="thinking")
        yield found(claim(result.quote("pool exhausted")))

    events = await asked(work)
    assert [getattr(e, "kind", "finding") for e in events] == [
        "started",
        "tool",
        "note",
        "finished",
        "finding",
    ]
    assert {e.specialist for e in events} == {"mine"}
    finding = events[-1]
    assert (finding.status, finding.calls, finding.dropped, finding.mode) == ("found", 1, 0, "local")
    assert finding.seconds > 0 and finding.claims[0].evidence[0].quote == "pool exhausted"


async def test_words_stand_only_literally():
    evidence = Evidence(call="C1", tool="t", arguments={}, quote="pool exhausted")
    assert stands(evidence, LOGS)
    assert not stands(evidence, LOGS.upper())
    assert not stands(evidence.model_copy(update={"quote": " "}), LOGS)


def false_evidence(real):
    return {
        "no evidence": None,
        "words that do not stand": real.model_copy(update={"quote": "disk full"}),
        "a call nobody made": real.model_copy(update={"call": "C99"}),
        "another tool's name": real.model_copy(update={"tool": "metrics__query"}),
        "other arguments": real.model_copy(update={"arguments": {"service": "cart"}}),
        "two characters": real.model_copy(update={"quote": "po"}),
    }


@pytest.mark.parametrize("lie", list(false_evidence(Evidence(call="", tool="", arguments={}, quote=""))))
async def test_a_claim_without_standing_evidence_is_dropped_and_counted(lie, caplog):
    async def work(task, toolbox):
        real = (await toolbox.call("logs__search")).quote("pool exhausted")
        false = false_evidence(real)[lie]
        evidence = (false,) if false else ()
        cause = Cause(
            category="change",
            object="service/orders",
            label="x",
            statement="s",
            confidence=0.5,
            evidence=evidence,
        )
        yield found(claim(real), claim(*evidence), causes=(cause,))

    with caplog.at_level(logging.WARNING):
        finding = (await asked(work))[-1]
    assert (len(finding.claims), finding.causes, finding.dropped) == (1, (), 2)
    assert "2 claims dropped" in caplog.text


async def test_a_finding_of_which_nothing_stands_abstains_and_its_summary_goes():
    async def work(task, toolbox):
        yield found(claim(Evidence(call="C9", tool="t", arguments={}, quote="made up")))

    finding = (await asked(work))[-1]
    assert finding.status == "abstained" and "Pool" not in finding.summary and finding.dropped == 1


async def test_one_false_citation_goes_and_the_claim_stays_on_the_true_one():
    async def work(task, toolbox):
        real = (await toolbox.call("logs__search")).quote("pool exhausted")
        yield found(claim(real, real.model_copy(update={"quote": "disk full"})))

    finding = (await asked(work))[-1]
    assert [e.quote for e in finding.claims[0].evidence] == ["pool exhausted"] and finding.dropped == 0


async def test_guidance_is_not_evidence():
    async def work(task, toolbox):
        result = await toolbox.call("runbooks__search")
        passage = Guidance(title="Pools", passage="pool exhausted", where="pools.md:1", call=result.call)
        yield found(claim(result.quote("pool exhausted")), guidance=(passage,))

    finding = (await asked(work))[-1]
    assert (finding.claims, finding.dropped, len(finding.guidance)) == ((), 1, 1)


async def test_evidence_that_came_with_the_task_may_be_cited_as_it_is():
    given = Evidence(call="X1", tool="metrics__query", arguments={}, quote="p95 9 s")
    task = TASK.model_copy(update={"claims": (claim(given),)})

    async def work(task, toolbox):
        yield found(claim(given), claim(given.model_copy(update={"quote": "p95 90 s"})))

    finding = (await asked(work, task=task))[-1]
    assert (len(finding.claims), finding.dropped) == (1, 1)


async def test_a_specialist_that_breaks_is_a_failed_finding_and_a_log_line(caplog):
    async def work(task, toolbox):
        yield Progress(specialist="mine", kind="note", text="so far so good")
        raise KeyError("deploys")

    finding = (await asked(work))[-1]
    assert finding.status == "failed" and "KeyError" in finding.summary and "Traceback" not in finding.summary
    assert "Traceback" in caplog.text


async def test_a_specialist_that_hangs_is_cut_off_at_its_deadline():
    cancelled = []

    async def work(task, toolbox):
        yield Progress(specialist="mine", kind="note", text="waiting")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    events = await asked(work, task=TASK.model_copy(update={"seconds": 0.2}))
    assert events[-1].status == "failed" and "0.2 s" in events[-1].summary
    assert cancelled == [True]


async def test_an_own_timeout_is_not_taken_for_the_deadline():
    async def work(task, toolbox):
        raise TimeoutError("the cache did not answer")
        yield

    finding = (await asked(work))[-1]
    assert "the cache did not answer" in finding.summary


async def silent(task, toolbox):
    return
    yield


async def elsewhere(task, toolbox):
    yield found().model_copy(update={"task": "t-2"})


async def impostor(task, toolbox):
    yield found().model_copy(update={"specialist": "remediation"})


async def babbler(task, toolbox):
    yield {"status": "found"}


@pytest.mark.parametrize(
    ("work", "why"),
    [(silent, "without a finding"), (elsewhere, "t-2"), (impostor, "remediation"), (babbler, "dict")],
)
async def test_what_is_not_the_finding_asked_for_fails(work, why):
    finding = (await asked(work))[-1]
    assert (finding.status, finding.task, finding.specialist) == ("failed", "t-1", "mine")
    assert why in finding.summary and finding.missing


async def test_nothing_follows_the_finding():
    async def work(task, toolbox):
        yield found()
        yield found().model_copy(update={"summary": "second thoughts"})

    events = await asked(work)
    assert [e.summary for e in events if isinstance(e, Finding)] == ["Pool."]


async def test_a_lost_gateway_is_a_failed_finding():
    async def work(task, toolbox):
        raise GatewayLost("gateway http://x: it stopped answering; start it")
        yield

    finding = (await asked(work))[-1]
    assert finding.status == "failed" and "stopped answering" in finding.summary


async def test_a_call_that_waits_for_a_person_becomes_a_pending_action():
    async def work(task, toolbox):
        await toolbox.call("actions__restart", {"service": "orders"})
        yield found()

    finding = (await asked(work, {"actions__restart": {"approval": "A-3"}}))[-1]
    action = Action(
        tool="actions__restart",
        arguments={"service": "orders"},
        reason="actions__restart waits for approval A-3.",
        approval="A-3",
        status="pending",
    )
    assert finding.actions == (action,) and finding.status == "found"


async def test_a_finding_is_cut_to_a_size_a_report_can_carry():
    async def work(task, toolbox):
        real = (await toolbox.call("logs__search")).quote("pool exhausted")
        yield found(*[claim(real, text="x" * 9_000)] * 500).model_copy(update={"summary": "y" * 9_000})

    finding = (await asked(work))[-1]
    assert len(finding.claims) == MOST["claims"]
    assert len(finding.claims[0].text) == len(finding.summary) == LONGEST_TEXT


async def test_leaving_early_stops_the_specialist():
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def work(task, toolbox):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        yield

    gateway = SmallGateway({})
    async with Toolbox(gateway.server) as toolbox:
        stream = investigate_checked(Mine(work), TASK, toolbox)
        assert (await anext(stream)).kind == "started"
        waiting = asyncio.create_task(anext(stream))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(5):
        await stopped.wait()
