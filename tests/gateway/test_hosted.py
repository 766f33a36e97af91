"""Hosted models and tools at the gateway: decided when asked for, written down when reported."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app import App
from gateway.caller import Caller
from gateway.errors import UsageError
from gateway.policy import SHIPPED
from gateway.servers_file import check_name
from gateway.types import Subject
from tests.gateway.world import LOGS, ROOT, app_with, call, code, fake_server

pytestmark = pytest.mark.anyio

RULES = (SHIPPED / "default.cedar").read_text()
MODEL = {"provider": "openai", "model": "small", "endpoint": "http://127.0.0.1:1/v1"}
RESEARCH = Subject("agent:research", ("specialist",), case="C1", run="r1")
SEARCH = {
    "tool": "web_search",
    "id": "ws_1",
    "status": "completed",
    "offered": True,
    "arguments": {"query": "pool exhausted"},
    "sources": [{"url": "https://a.example/x?password=hunter22"}],
}


def answered(**more: Any) -> dict[str, Any]:
    return {**MODEL, "asked": "c_1", "prompt": "p1", "status": "ok", **more}


async def found(app: App, **where: Any) -> list[dict[str, Any]]:
    return (await app.ledger.search(**where))["records"]


async def test_a_specialist_may_ask_a_model_and_is_offered_no_hosted_tool(tmp_path: Path) -> None:
    async with app_with(tmp_path, {}, policy=RULES) as app:
        told = await call(app, LOGS, "hosted/model", MODEL)
        assert told["structuredContent"]["allowed"] is True
        for name in ("web_search", "bing", "code_interpreter"):
            assert code(await call(app, LOGS, f"hosted/{name}", MODEL)) == "denied"
        refused = await found(app, kind="refusal")
        assert [r["tool"] for r in refused] == [
            "hosted/web_search",
            "hosted/bing",
            "hosted/code_interpreter",
        ]
        assert {r["control"] for r in refused} == {"refused"} and {r["case"] for r in refused} == {"C1"}
        assert code(await call(app, Subject("agent:x", ("coordinator",)), "hosted/model", MODEL)) == "denied"


async def test_the_rule_on_the_page_lets_one_specialist_search(tmp_path: Path) -> None:
    rule = re.findall(r"```cedar\n(.*?)```", (ROOT / "docs" / "cloud.md").read_text(), re.S)[0]
    async with app_with(tmp_path, {}, policy=RULES + rule) as app:
        told = await call(app, RESEARCH, "hosted/web_search", MODEL)
        assert told["structuredContent"]["allowed"] is True
        assert (await app.gateway.labels.of(RESEARCH)).labels() == {"untrusted"}
        assert code(await call(app, LOGS, "hosted/web_search", MODEL)) == "denied"
        assert code(await call(app, RESEARCH, "hosted/code_interpreter", MODEL)) == "denied"


async def test_a_case_that_has_read_restricted_data_stays_home(tmp_path: Path) -> None:
    with fake_server(tmp_path / "fake") as fake:
        entry = fake.entry(pin="trust", labels=["restricted"], tools={"read": {"readOnly": True}})
        async with app_with(tmp_path, {"fake": entry}, policy=RULES) as app:
            assert "structuredContent" in await call(app, LOGS, "hosted/model", MODEL)
            assert code(await call(app, LOGS, "fake__read")) == ""
            assert code(await call(app, LOGS, "hosted/model", MODEL)) == "denied"
            assert (await found(app, kind="refusal"))[0]["rules"] == ["restricted-stays-home"]
            other = replace(LOGS, case="C2", run="r2")
            assert "structuredContent" in await call(app, other, "hosted/model", MODEL)


async def test_what_a_provider_reports_is_observed_redacted_and_added_up(tmp_path: Path) -> None:
    async with app_with(tmp_path, {}, policy=RULES) as app:
        used = {"response": "resp_1", "waits_for": ["f1"], "version": "small-2026", "input_tokens": 70}
        first = answered(**used, output_tokens=30, hosted=[SEARCH, {**SEARCH, "id": "ws_2"}])
        told = (await call(app, LOGS, "gateway__record_model", first))["structuredContent"]
        assert told["spent"] == {"requests": 1, "tokens": 100}
        assert [c["id"] for c in told["recorded"]] == ["ws_1", "ws_2"]

        await call(app, LOGS, "gateway__record_model", answered(status="failed", why="HTTP 500"))
        elsewhere = replace(LOGS, case="C2")
        await call(app, elsewhere, "gateway__record_model", answered(input_tokens=9, response="resp_9"))
        told = (await call(app, LOGS, "hosted/model", MODEL))["structuredContent"]
        assert told["spent"] == {"requests": 2, "tokens": 100}
        assert told["thread"] == {"response": "resp_1", "waits_for": ["f1"]}
        larger = {**MODEL, "model": "large"}
        assert (await call(app, LOGS, "hosted/model", larger))["structuredContent"]["thread"] == {}

        hosted = await found(app, kind="hosted")
        assert [(r["tool"], r["control"], r["status"], r["case"]) for r in hosted] == [
            ("hosted/web_search", "observed", "completed", "C1")
        ] * 2
        assert hosted[0]["versions"] == {"model": "small-2026", "prompt": "p1"}
        assert hosted[0]["body"]["arguments"] == {"query": "pool exhausted"}
        assert "hunter22" not in str(hosted) + str(await found(app))
        assert (await app.ledger.verify())["ok"] is True


async def test_nobody_but_a_specialist_records_a_model(tmp_path: Path) -> None:
    async with app_with(tmp_path, {}, policy=RULES) as app:
        nobody = Subject("agent:logs")
        assert code(await call(app, nobody, "gateway__record_model", answered())) == "denied"
        assert await found(app, kind="model") == []
        assert code(await call(app, LOGS, "gateway__record_model", {**answered(), "tokens": -1})) == (
            "invalid_arguments"
        )


async def test_what_models_use_is_not_listed_and_no_server_takes_its_name(tmp_path: Path) -> None:
    async with app_with(tmp_path, {}, policy=RULES) as app:
        told = await app.methods.answer(Caller(LOGS), "tools/list", {})
        assert [tool["name"] for tool in told["tools"]] == ["gateway__record_model"]
    with pytest.raises(UsageError, match="'gateway' or 'hosted'"):
        check_name("hosted")
