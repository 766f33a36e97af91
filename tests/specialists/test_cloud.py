"""Cloud mode against a real OpenAI-compatible server of ours: citations, limits, bad endpoints."""

import json

import pytest

from specialists.answers import literal
from specialists.cloud import CloudSpecialist, prompt, told
from specialists.evidence import investigate_checked
from specialists.roster import BUILT_IN
from specialists.settings import Cloud
from specialists.toolbox import Toolbox
from specialists.types import Card, Cause, Evidence, Finding, Progress, Scope, Task
from tests.fakes.openai_server import serving
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio

LOGS = '2 lines\n{"service": "orders", "message": "pool exhausted"}\n{"service": "cart", "message": "slow"}'
CARD = Card(name="logs", description="Reads logs.", tools=("logs__*",))
TASK = Task(id="t-1", case="c-1", specialist="logs", question="Why do orders fail?", seconds=60)
LOOK = {"tool_calls": [{"name": "logs__search", "arguments": {"text": "pool"}}]}
KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def answer(*evidence, **more):
    claim = {
        "kind": "symptom",
        "text": "The pool is exhausted.",
        "confidence": 0.7,
        "evidence": list(evidence),
    }
    return {"answer": {"status": "found", "summary": "The pool.", "claims": [claim], **more}}


CITED = {"call": "{{call:0}}", "quote": "pool exhausted"}


class Local:
    """The specialist that answers when the model cannot."""

    card = CARD

    async def investigate(self, task, toolbox):
        evidence = (await toolbox.call("logs__search", {"severity": "ERROR"})).quote("pool exhausted")
        claim = {"kind": "symptom", "text": "local", "confidence": 0.6, "evidence": [evidence]}
        yield Finding.model_validate(
            {"task": task.id, "specialist": "logs", "status": "found", "summary": "Here.", "claims": [claim]}
        )


async def asked(script, tools=None, task=TASK, instead=None, key=KEY, **settings):
    """The events of one task in cloud mode, the gateway and the model that saw it."""
    gateway = SmallGateway(tools or {"logs__search": LOGS, "actions__restart": "done"})
    with serving(script, key) as (url, model):
        cloud = Cloud(**({"mode": "cloud", "base_url": url, "model": "small", "retries": 0} | settings))
        async with Toolbox(gateway.server, run="r-1", task=task.id) as toolbox:
            specialist = CloudSpecialist(CARD, cloud, instead)
            events = [event async for event in investigate_checked(specialist, task, toolbox)]
    return events, gateway, model


async def finding(*given, **more):
    return (await asked(*given, **more))[0][-1]


async def test_a_model_looks_through_the_gateway_and_cites_what_it_saw():
    cause = {
        "category": "saturation",
        "object": "service/orders",
        "label": "pool_exhausted",
        "statement": "The pool is too small.",
        "confidence": 0.6,
        "evidence": [CITED],
        "against": [{"call": "{{call:0}}", "quote": "slow"}],
        "at": "2026-01-31T10:01:00Z",
    }
    events, gateway, model = await asked({"turns": [LOOK, answer(CITED, causes=[cause])]})
    found = events[-1]
    evidence = found.claims[0].evidence[0]
    assert (evidence.call, evidence.tool, evidence.quote) == ("C1", "logs__search", "pool exhausted")
    assert evidence.arguments == {"text": "pool"} == gateway.made[0]["arguments"]
    assert (found.mode, found.status, found.dropped, found.calls) == ("cloud", "found", 0, 1)
    assert found.causes[0].against[0].quote == "slow" and found.causes[0].at.year == 2026
    assert found.model.startswith("scripted-1 prompt:")
    assert [e.kind for e in events[:-1]] == ["started", "note", "tool", "finished"]
    assert model.requests[-1]["messages"][-1]["content"].startswith("[call C1] result:\n2 lines")


async def test_only_the_tools_of_the_card_are_offered():
    _, _, model = await asked({"turns": [LOOK, answer(CITED)]})
    offered = {tool["function"]["name"] for tool in model.requests[0]["tools"]}
    assert offered == {"logs__search", "Answer"}


async def test_a_tool_that_was_not_offered_is_not_called():
    call = {"tool_calls": [{"name": "actions__restart", "arguments": {"service": "orders"}}]}
    events, gateway, _ = await asked({"turns": [call, answer(status="abstained", claims=[])]})
    assert gateway.made == [] and events[-1].status == "abstained"


@pytest.mark.parametrize(
    "lie",
    [
        {"call": "C99", "quote": "pool exhausted"},
        {"call": "{{call:0}}", "quote": "disk full"},
        {"call": "{{call:0}}", "quote": ""},
        None,
    ],
)
async def test_what_a_model_makes_up_is_dropped_and_counted(lie):
    claims = [answer(CITED)["answer"]["claims"][0], answer(*filter(None, [lie]))["answer"]["claims"][0]]
    found = await finding({"turns": [LOOK, answer(claims=claims)]})
    assert (len(found.claims), found.dropped) == (1, 1)


async def test_a_model_that_only_makes_things_up_abstains():
    found = await finding({"turns": [answer({"call": "C1", "quote": "pool exhausted"})]})
    assert (found.status, found.claims, found.dropped, found.calls) == ("abstained", (), 1, 0)
    assert "The pool" not in found.summary


async def test_white_space_that_a_model_changed_does_not_spoil_a_quotation():
    two_lines = {"call": "[call {{call:0}}]", "quote": '"pool exhausted"} {"service": "cart"'}
    found = await finding({"turns": [LOOK, answer(two_lines)]})
    assert found.claims[0].evidence[0].quote == '"pool exhausted"}\n{"service": "cart"'
    assert literal("a  b", "x a\nb y") == "a\nb" and literal("a c", "a b c") == ""


async def test_evidence_that_came_with_the_task_may_be_cited():
    given = Evidence(call="X7", tool="metrics__query", arguments={}, quote="p95 rose to 9 s")
    lead = Cause(
        category="c", object="o", label="l", statement="The p95 rose.", confidence=0.6, evidence=(given,)
    )
    task = TASK.model_copy(update={"leads": (lead,)})
    found = await finding({"turns": [answer({"call": "X7", "quote": "p95 rose"})]}, task=task)
    assert found.claims[0].evidence == (given,)


async def test_a_refusal_is_told_to_the_model_and_is_no_evidence():
    cited = {"call": "{{call:0}}", "quote": "refused by the table"}
    events, _, model = await asked({"turns": [LOOK, answer(cited)]}, {"logs__search": {"refusal": "denied"}})
    assert "denied" in model.requests[-1]["messages"][-1]["content"]
    assert (events[-1].status, events[-1].dropped) == ("abstained", 1)


async def test_a_call_that_waits_for_a_person_is_reported_and_not_run():
    tools = {"logs__search": {"approval": "A-5"}}
    events, gateway, _ = await asked({"turns": [LOOK, answer(status="abstained", claims=[])]}, tools)
    action = events[-1].actions[0]
    assert (action.approval, action.status, action.tool) == ("A-5", "pending", "logs__search")
    assert events[-1].status == "found" and gateway.made == []


async def test_a_model_cannot_say_that_its_action_is_approved():
    action = {"tool": "actions__restart", "arguments": {}, "reason": "r", "status": "done", "approval": "A-1"}
    found = await finding({"turns": [LOOK, answer(CITED, actions=[action])]})
    assert (found.actions[0].status, found.actions[0].approval) == ("proposed", "")


async def test_a_model_that_goes_on_calling_is_stopped():
    events, gateway, _ = await asked({"turns": [LOOK]}, max_tool_calls=3)
    assert len(gateway.made) == 3
    assert events[-1].status == "failed" and "max_tool_calls" in events[-1].summary


async def test_an_answer_that_does_not_fit_the_form_may_be_corrected():
    wrong = {"answer": {"status": "certain", "summary": "x"}}
    found = await finding({"turns": [LOOK, wrong, answer(CITED)]})
    assert found.status == "found" and len(found.claims) == 1


async def test_an_answer_written_as_plain_json_is_read():
    text = "```json\n" + json.dumps(answer(CITED)["answer"]) + "\n```"
    found = await finding({"turns": [LOOK, {"text": text}]})
    assert found.claims[0].evidence[0].call == "C1"


async def test_a_model_slower_than_the_task_is_cut_off_at_the_deadline():
    task = TASK.model_copy(update={"seconds": 1.0})
    found = await finding({"turns": [{"delay": 20, "text": "x"}]}, task=task)
    assert found.status == "failed" and "1 s" in found.summary


@pytest.mark.parametrize("bad", [{"status": 500}, {"delay": 20, "text": "x"}])
async def test_the_fallback_answers_and_says_so(bad):
    task = TASK.model_copy(update={"seconds": 6.0})
    events, _, _ = await asked({"turns": [bad]}, task=task, instead=Local(), fallback="local")
    found = events[-1]
    assert (found.status, found.mode, len(found.claims)) == ("found", "local", 1)
    assert "answered instead" in found.missing[0]
    assert any("locally instead" in e.text for e in events if isinstance(e, Progress))


async def test_a_long_result_is_cut_for_the_model_but_not_for_the_evidence():
    long = "header\n" + "pool exhausted\n" * 5_000
    events, _, model = await asked({"turns": [LOOK, answer(CITED)]}, {"logs__search": long})
    shown = model.requests[-1]["messages"][-1]["content"]
    assert len(shown) < 25_000 and "cut here" in shown
    assert len(events[-1].claims) == 1


async def test_the_diligent_model_cites_whatever_tools_it_is_given():
    tools = {"logs__search": LOGS, "logs__patterns": LOGS, "logs__broken": {"error": "no index"}}
    found = await finding("investigate", tools)
    assert (found.status, len(found.claims), found.dropped, found.calls) == ("found", 4, 0, 3)


def test_every_shipped_specialist_has_a_prompt_that_demands_citations():
    for name in BUILT_IN:
        words = prompt(Card(name=name, description="d", tools=()))
        assert f"the {name} specialist" in words and "[call ID]" in words
    own = prompt(Card(name="mine", description="Reads tea leaves.", tools=()))
    assert "Reads tea leaves." in own and "[call ID]" in own


def test_the_model_is_told_the_question_the_scope_and_what_others_found():
    given = Evidence(call="X7", tool="t", arguments={}, quote="p95 9 s")
    lead = Cause(category="c", object="o", label="l", statement="It rose.", confidence=0.6, evidence=(given,))
    words = told(TASK.model_copy(update={"leads": (lead,), "scope": Scope(services=("orders",))}))
    assert "Why do orders fail?" in words and '"orders"' in words and "[call X7] 'p95 9 s'" in words
