"""What every provider keeps, and the hosted tools and threads of two of them, by our own server."""

import json
import logging
from contextlib import contextmanager

import pytest

from specialists.cloud import CloudSpecialist
from specialists.evidence import investigate_checked
from specialists.hosted import reported
from specialists.roster import Roster
from specialists.settings import Cloud, SpecialistsSettings
from specialists.toolbox import Toolbox
from specialists.types import Card, Finding, Task
from tests.fakes.openai_server import serving
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio

LOGS = '2 lines\n{"service": "orders", "message": "pool exhausted"}\n{"service": "cart", "message": "slow"}'
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
CARD = Card(name="logs", description="Reads logs.", tools=("logs__*", "gateway__*"))
LOOK = {"tool_calls": [{"name": "logs__search", "arguments": {"text": "pool"}}]}
KEY = "sk-very-secret-key"
PAGE = "https://a.example/pool"
SEARCH = {"tool": "web_search", "query": "pool exhausted", "sources": [PAGE]}
CODE = {"tool": "code_interpreter", "code": "print(2+2)", "logs": "4\n"}
BING = {"tool": "bing", "query": "pool", "text": f"a page: {PAGE}"}
ALL = ("model", "web_search", "code_interpreter", "bing")
HOSTED = {"openai": ["web_search", "code_interpreter"], "foundry": ["web_search", "code_interpreter", "bing"]}
providers = pytest.mark.parametrize("provider", list(HOSTED))
everywhere = pytest.mark.parametrize("provider", ["compatible", *HOSTED])


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def answer(quote="pool exhausted", **more):
    claim = {"kind": "symptom", "text": "The pool is exhausted.", "confidence": 0.7}
    cited = {**claim, "evidence": [{"call": "{{call:0}}", "quote": quote}]}
    return {"answer": {"status": "found", "summary": "The pool.", "claims": [cited], **more}}


class Local:
    """The specialist that answers when the model cannot."""

    card = CARD

    async def investigate(self, task, toolbox):
        found = (await toolbox.call("logs__search", {"text": "ERROR"})).quote("pool exhausted")
        claim = {"kind": "symptom", "text": "local", "confidence": 0.6, "evidence": [found]}
        yield Finding.model_validate(
            {"task": task.id, "specialist": "logs", "status": "found", "summary": "Here.", "claims": [claim]}
        )


def gateway_with(*hosted, **more):
    tools = {"logs__search": LOGS, "gateway__record_step": "done"}
    return SmallGateway(tools, schemas=dict.fromkeys(tools, SCHEMA), hosted=hosted or ALL, **more)


class World:
    """A provider that runs a script, and the gateway; both see every task that is asked."""

    def __init__(self, provider, url, model, gateway):
        base = f"{url.removesuffix('/v1')}/api/projects/p" if provider == "foundry" else url
        self.settings = {"mode": "cloud", "provider": provider, "base_url": base, "model": "small"}
        self.settings |= {"retries": 0, "hosted": HOSTED.get(provider, ()), "bing_connection": "c-1"}
        self.settings |= {"api_key_env": "OPENAI_API_KEY"}
        self.model = model
        self.gateway = gateway

    async def ask(self, number=1, seconds=60.0, instead=None, **settings):
        task = Task(id=f"t-{number}", case="c-1", specialist="logs", question="Why?", seconds=seconds)
        async with Toolbox(self.gateway.server, run="r-1", task=task.id, patience=0.1) as toolbox:
            specialist = CloudSpecialist(CARD, Cloud(**(self.settings | settings)), instead)
            return [event async for event in investigate_checked(specialist, task, toolbox)]

    def books(self, tool="gateway__record_model"):
        return [book for book in self.gateway.books if book["tool"] == tool]

    def hosted(self):
        return [call for book in self.books() for call in book["hosted"]]


@pytest.fixture
def world():
    """`with world(provider, script)`: a provider that runs the script."""

    @contextmanager
    def at(provider, script, gateway=None):
        with serving(script, KEY) as (url, model):
            yield World(provider, url, model, gateway or gateway_with())

    return at


@providers
async def test_every_hosted_call_the_provider_made_is_recorded_before_the_answer_is_used(provider, world):
    first = {**LOOK, "hosted": [SEARCH, CODE, BING]}
    second = {**answer(), "hosted": [SEARCH, {**CODE, "status": "failed"}]}
    with world(provider, {"turns": [first, second]}) as at:
        found = (await at.ask())[-1]
    made = at.model.hosted
    assert [(c["id"], c["status"]) for c in at.hosted()] == [(m["id"], m["status"]) for m in made]
    assert len(made) == (5 if provider == "foundry" else 4) == found.usage.hosted
    search, code = at.hosted()[:2]
    assert search["arguments"] == {"query": "pool exhausted"} and search["sources"][0]["url"] == PAGE
    assert code["arguments"]["code"] == "print(2+2)" and code["output"] == "4\n"
    assert all(call["offered"] for call in at.hosted())
    if provider == "foundry":
        assert at.hosted()[2]["tool"] == "bing" and PAGE in at.hosted()[2]["output"]
    assert (found.status, len(found.claims), found.calls) == ("found", 1, 1)


@everywhere
@pytest.mark.parametrize("schema", [{"type": "object"}, {"type": "object", "additionalProperties": True}])
async def test_arguments_reach_a_tool_whose_schema_names_none(provider, schema, world):
    gateway = gateway_with()
    gateway.schemas = dict.fromkeys(gateway.tools, schema)
    with world(provider, {"turns": [LOOK, answer()]}, gateway) as at:
        found = (await at.ask())[-1]
    assert found.status == "found"
    assert [made["arguments"] for made in gateway.made] == [{"text": "pool"}]
    shown = [tool.get("function", tool) for tool in at.model.requests[0]["tools"]]
    assert next(tool for tool in shown if tool["name"] == "logs__search")["parameters"] == schema


@providers
async def test_what_policy_denies_is_not_offered_and_the_specialist_works_without_it(provider, world):
    script = {"turns": [{**LOOK, "hosted": [SEARCH, CODE, BING]}, answer()]}
    with world(provider, script, gateway_with("model")) as at:
        found = (await at.ask())[-1]
    assert {tool["type"] for request in at.model.requests for tool in request["tools"]} == {"function"}
    assert (at.model.hosted, at.hosted()) == ([], [])
    asked = {book["tool"] for book in at.gateway.books if book["tool"].startswith("hosted/")}
    assert asked == {"hosted/model", *(f"hosted/{name}" for name in HOSTED[provider])}
    assert found.status == "found" and "hosted tool web_search was not offered" in str(found.missing)


@providers
async def test_a_hosted_call_that_was_not_offered_is_recorded_and_said(provider, world):
    script = {"turns": [LOOK, {**answer(), "hosted": [{**SEARCH, "anyway": True}]}]}
    with world(provider, script, gateway_with("model")) as at:
        found = (await at.ask())[-1]
    assert [(c["tool"], c["offered"]) for c in at.hosted()] == [("web_search", False)]
    assert "used web_search, which it was not offered" in str(found.missing)


@providers
async def test_a_page_that_a_search_found_is_guidance_and_no_evidence(provider, world):
    seen = {"title": "Pools", "where": PAGE, "passage": {"call": PAGE, "quote": PAGE}}
    made_up = {"title": "?", "where": "x", "passage": {"call": PAGE, "quote": "https://b.example"}}
    claim = {"kind": "cause", "text": "So says a page.", "confidence": 0.9}
    claim["evidence"] = [{"call": PAGE, "quote": PAGE}]
    last = answer(claims=[claim], guidance=[seen, made_up])
    with world(provider, {"turns": [{**LOOK, "hosted": [SEARCH]}, last]}) as at:
        found = (await at.ask())[-1]
    assert [(g.passage, g.call) for g in found.guidance] == [(PAGE, _record_of(at))]
    assert (found.claims, found.dropped) == ((), 1)


def _record_of(at):
    """The call under which the gateway recorded the search."""
    return next(f"B{n}" for n, book in enumerate(at.gateway.books, 1) if book.get("hosted"))


@providers
async def test_the_next_task_of_a_case_goes_on_with_the_thread(provider, world):
    later = {"status": "abstained", "claims": []}
    turns = [LOOK, answer(), answer(summary="Again.", **later), answer(summary="Anew.", **later)]
    with world(provider, {"turns": turns}) as at:
        await at.ask(1)
        again = (await at.ask(2))[-1]
        asked = at.model.requests[2]
        assert (again.summary, asked["previous_response_id"]) == ("Again.", "resp_2")
        assert "function_call_output" in [item.get("type") for item in asked["input"]]
        assert [b["response"] for b in at.books()] == ["resp_1", "resp_2", "resp_3"]

        at.model.threads.clear()
        at.model.script = {"turns": [answer(summary="Anew.", **later)]}
        anew = (await at.ask(3))[-1]
        assert (anew.summary, anew.usage.requests) == ("Anew.", 1)
    gone, fresh = at.model.requests[3:]
    assert gone["previous_response_id"] == "resp_3" and "previous_response_id" not in fresh


@providers
async def test_a_form_that_does_not_fit_may_be_corrected_and_plain_json_is_read(provider, world):
    wrong = {"answer": {"status": "certain", "summary": "x"}}
    with world(provider, {"turns": [LOOK, wrong, answer()]}) as at:
        assert len((await at.ask())[-1].claims) == 1
    text = {"text": json.dumps(answer()["answer"])}
    with world(provider, {"turns": [LOOK, text]}) as at:
        assert len((await at.ask())[-1].claims) == 1


@providers
async def test_the_ledger_gets_model_version_prompt_tokens_and_response_of_every_answer(provider, world):
    with world(provider, {"turns": [{**LOOK, "usage": [100, 20]}, {**answer(), "usage": [200, 30]}]}) as at:
        found = (await at.ask())[-1]
    assert [(b["input_tokens"], b["output_tokens"]) for b in at.books()] == [(100, 20), (200, 30)]
    assert {(b["version"], b["model"], b["provider"]) for b in at.books()} == {
        ("scripted-1", "small", provider)
    }
    asked = [f"B{n}" for n, b in enumerate(at.gateway.books, 1) if b["tool"] == "hosted/model"]
    assert [b["asked"] for b in at.books()] == asked
    assert found.model == f"scripted-1 prompt:{found.usage.prompt}"
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.requests) == (300, 50, 2)
    assert found.usage.responses == ("resp_1", "resp_2")


@providers
async def test_no_request_goes_out_once_the_budget_of_the_case_is_spent(provider, world):
    with world(provider, {"turns": [{**LOOK, "usage": [900, 200]}, answer()]}) as at:
        spent = (await at.ask(token_budget=1_000))[-1]
        assert spent.status == "failed" and "1100 tokens of this specialist's 1000" in spent.summary
        assert len(at.model.requests) == 1
        later = (await at.ask(2, token_budget=1_000, instead=Local(), fallback="local"))[-1]
        assert len(at.model.requests) == 1
    assert (later.status, later.mode, later.usage) == ("found", "local", None)
    assert "token_budget" in later.missing[0]


@providers
async def test_a_case_that_policy_keeps_at_home_is_answered_locally_whatever_the_fallback(provider, world):
    with world(provider, {"turns": [LOOK, answer()]}, gateway_with("none")) as at:
        home = (await at.ask(instead=Local()))[-1]
    assert at.model.requests == []
    assert (home.status, home.mode, len(home.claims)) == ("found", "local", 1)
    assert "stays here" in home.missing[0] and "the local specialist answered instead" in home.missing[0]


@providers
async def test_data_that_may_not_leave_stops_the_model_in_the_middle_of_its_task(provider, world):
    """What the tool returns is labelled, so that the request that would carry it is refused."""
    gateway = gateway_with()

    def private(arguments):
        gateway.hosted = ()
        return LOGS

    gateway.tools["logs__search"] = private
    with world(provider, {"turns": [LOOK, answer()]}, gateway) as at:
        home = (await at.ask(instead=Local()))[-1]
    assert len(at.model.requests) == 1 and "pool exhausted" not in json.dumps(at.model.requests)
    assert (home.mode, home.usage.requests) == ("local", 1) and "stays here" in home.missing[0]


@providers
async def test_research_searches_the_web_and_abstains_unasked_where_policy_denies_it(
    provider, world, tmp_path
):
    guidance = [{"title": "Pools", "where": PAGE, "passage": {"call": PAGE, "quote": PAGE}}]
    script = {"turns": [{**answer(claims=[], guidance=guidance), "hosted": [SEARCH]}]}

    async def research(at):
        table = at.settings | {"hosted": ["web_search"]}
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        file = tmp_path / "pointsman.toml"
        file.write_text("\n".join(["[specialists.research]", *lines]))
        specialist = Roster.from_settings(SpecialistsSettings.load(file)).specialist("research")
        task = Task(id="t-1", case="c-1", specialist="research", question="Why?")
        async with Toolbox(at.gateway.server, run="r-1", task=task.id) as toolbox:
            return [event async for event in investigate_checked(specialist, task, toolbox)][-1]

    with world(provider, script) as at:
        found = await research(at)
        assert (found.status, [g.where for g in found.guidance]) == ("found", [PAGE])
        assert "the research specialist" in json.dumps(at.model.requests)
    with world(provider, script, gateway_with("model")) as at:
        denied = await research(at)
        assert denied.status == "abstained" and "was not offered" in denied.missing[0]
        assert at.model.requests == []


BAD = {
    "401": ({"turns": [LOOK]}, {"api_key_env": "OTHER"}, "refused the key (HTTP 401)"),
    "500": ({"turns": [{"status": 500}]}, {}, "HTTP 500"),
    "429": ({"turns": [{"status": 429}]}, {}, "HTTP 429"),
    "400": ({"turns": [{"status": 400, "message": "too long " + KEY}]}, {}, "too long ***"),
    "not json": ({"turns": [{"raw": "<html>busy</html>"}]}, {}, "cannot be read"),
    "json of something else": ({"turns": [{"raw": '{"ok": true}'}]}, {}, "cannot be read"),
    "prose": ({"turns": [{"text": "It is probably DNS."}]}, {}, "did not fill in the answer"),
    "cut off": ({"turns": [{"text": '{"status": "fou', "finish": "length"}]}, {}, "too long"),
    "too slow": ({"turns": [{"delay": 20, "text": "x"}]}, {"timeout": 0.3}, "no answer within 0.3 s"),
    "nobody there": ({"turns": [LOOK]}, {"base_url": "http://127.0.0.1:9/p"}, "cannot connect"),
}


@everywhere
@pytest.mark.parametrize("bad", list(BAD))
async def test_a_provider_that_misbehaves_is_a_failed_finding_without_the_key(
    provider, bad, world, caplog, monkeypatch
):
    monkeypatch.setenv("OTHER", "sk-another-secret-key")
    script, more, words = BAD[bad]
    with world(provider, script) as at, caplog.at_level(logging.DEBUG):
        found = (await at.ask(**more))[-1]
    assert found.status == "failed" and found.mode == "cloud"
    assert words in found.summary and "Traceback" not in found.summary
    failed = [book for book in at.books() if book["status"] == "failed"]
    assert len(failed) == 1 and words in failed[0]["why"]
    seen = found.model_dump_json() + caplog.text + json.dumps(at.gateway.books)
    assert KEY not in seen and "sk-another-secret-key" not in seen


@everywhere
async def test_a_busy_provider_is_tried_again_after_the_pause_it_asks_for(provider, world):
    busy = {"status": 429, "times": 1, "retry_after": 0.9, "then": LOOK}
    with world(provider, {"turns": [busy, answer()]}) as at:
        assert (await at.ask(retries=2))[-1].status == "found"
    first, second, *_ = at.model.arrived
    assert second - first >= 0.9


def test_calls_of_kinds_nobody_knows_are_read_too():
    items = [
        {"type": "function_call", "id": "f", "call_id": "f"},
        {"type": "telepathy_call", "id": "t_1", "status": "completed", "query": "q", "output": {"a": 1}},
        {"type": "mcp_call", "id": "m_1", "name": "pay", "server_label": "bank", "arguments": "{}"},
        {"type": "message", "id": "msg"},
    ]
    first, second = reported(items, ())
    assert (first["tool"], first["arguments"], first["output"]) == ("telepathy", {"query": "q"}, '{"a": 1}')
    assert second["arguments"] == {"arguments": "{}", "name": "pay", "server_label": "bank"}
    assert (second["tool"], second["status"], second["offered"]) == ("mcp", "unknown", False)


def test_a_report_is_bounded_however_much_a_provider_tells():
    runs = [{"type": "code_interpreter_call", "id": str(n), "code": "x" * 50_000} for n in range(400)]
    pages = [{"url": f"https://{n}.example/" + "y" * 5_000} for n in range(500)]
    told = reported([*runs, {"type": "web_search_call", "id": "w", "action": {"sources": pages}}], ())
    assert len(told) == 401 and len(json.dumps(told)) < 800_000


async def test_streamed_answers_report_the_same_calls():
    from langchain_openai import ChatOpenAI

    script = {"turns": [{"text": "Four.", "hosted": [SEARCH, CODE]}]}
    tools = [{"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}]
    include = ["web_search_call.action.sources", "code_interpreter_call.outputs"]
    told = []
    with serving(script) as (url, _):
        model = ChatOpenAI(
            model="small", base_url=url, api_key="none", use_responses_api=True,
            output_version="responses/v1", include=include,
        ).bind_tools(tools)  # fmt: skip
        whole = await model.ainvoke("2+2?")
        async for chunk in model.astream("2+2?"):
            told = chunk if not told else told + chunk
    alone, streamed = (reported(m.content, ("web_search",)) for m in (whole, told))
    assert told.text == whole.text == "Four."
    assert [(c["tool"], c["arguments"], c["output"]) for c in alone] == [
        (c["tool"], c["arguments"], c["output"]) for c in streamed
    ]
