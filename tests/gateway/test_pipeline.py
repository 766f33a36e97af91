"""The one road: what each of its steps lets through, refuses and records."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import App
from gateway.caller import Caller
from gateway.errors import RpcError
from tests.gateway.world import (
    LOGS,
    NOBODY,
    OPERATOR,
    FakeServer,
    app_with,
    call,
    code,
    fake_server,
    stdio_entry,
    until,
    words,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    with fake_server(tmp_path_factory.mktemp("fake")) as running:
        yield running


async def records(app: App, **wanted: Any) -> list[dict[str, Any]]:
    return (await app.ledger.search(**wanted, limit=1000))["records"]


async def test_a_permitted_call_runs_and_leaves_an_intent_and_an_outcome(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        result = await call(app, LOGS, "fake__read", {"text": "hello"})
        assert words(result) == "read: hello"
        found = [r for r in await records(app, tool="fake__read")]
        assert [r["kind"] for r in found] == ["intent", "outcome"]
        assert found[0]["subject"] == "agent:logs" and found[0]["case"] == "C1"
        assert found[0]["rules"] == ["readers"]
        assert found[1]["status"] == "ok"
        assert (await app.ledger.verify())["ok"]


async def test_a_step_is_written_with_its_outcome_in_one_transaction(tmp_path: Path) -> None:
    async with app_with(tmp_path, {}) as app:
        written: list[int] = []
        app.store.measure = lambda writes, seconds: written.append(writes)
        step = {"kind": "closed", "case": "C1", "body": {"until": 7}}
        told = (await call(app, OPERATOR, "gateway__record_step", step))["structuredContent"]
        assert len(written) == 2  # the intent by itself, since nothing runs before it is durable
        found = [r for r in await records(app) if r.get("case") == "C1" or r.get("server") == "gateway"]
        assert [r["kind"] for r in found] == ["intent", "step", "outcome"]
        assert (found[1]["seq"], found[1]["body"]) == (told["seq"], {"until": 7})
        shown = await app.ledger.show(found[0]["call"]) or {}
        assert shown["result"]["structuredContent"] == told == {"seq": told["seq"], "withdrawn": []}


async def test_who_has_no_rule_is_denied_and_the_server_hears_nothing(
    tmp_path: Path, fake: FakeServer
) -> None:
    before = len(fake.calls)
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        result = await call(app, NOBODY, "fake__read")
        assert code(result) == "denied" and result["isError"]
        assert words(result).startswith("denied: agent:stranger may not call fake__read")
        [refusal] = await records(app, subject="agent:stranger")
        assert (refusal["kind"], refusal["code"], refusal["control"]) == ("refusal", "denied", "refused")
    assert len(fake.calls) == before


async def test_arguments_that_do_not_fit_the_pinned_schema_stop_here(
    tmp_path: Path, fake: FakeServer
) -> None:
    before = len(fake.calls)
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        result = await call(app, LOGS, "fake__read", {"text": 7})
        assert code(result) == "invalid_arguments"
        assert 'text: 7 is not of type "string"' in words(result)
        assert code(await call(app, LOGS, "fake__read", {"other": "x"})) == "invalid_arguments"
        assert code(await call(app, LOGS, "fake__nothing")) == "unknown_tool"
    assert len(fake.calls) == before


async def test_what_needs_a_person_runs_once_after_exactly_this_call_was_granted(
    tmp_path: Path, fake: FakeServer
) -> None:
    before = len(fake.calls)
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        asked = await call(app, LOGS, "fake__write", {"text": "a"})
        approval = asked["_meta"]["pointsman/refusal"]["approval"]
        assert code(asked) == "approval_pending"
        again = await call(app, LOGS, "fake__write", {"text": "a"})
        assert again["_meta"]["pointsman/refusal"]["approval"] == approval
        granted = await call(app, OPERATOR, "gateway__grant_approval", {"id": approval, "reason": "tested"})
        assert granted["structuredContent"]["status"] == "granted"
        assert code(await call(app, LOGS, "fake__write", {"text": "b"})) == "approval_pending"
        assert words(await call(app, LOGS, "fake__write", {"text": "a"})) == "write: a"
        assert code(await call(app, LOGS, "fake__write", {"text": "a"})) == "approval_pending"
    assert [c for c in fake.calls[before:] if c[0] == "write"] == [["write", {"text": "a"}]]


async def test_a_modern_caller_with_elicitation_gets_a_question_that_grants_nothing(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        caller = Caller(LOGS, capabilities={"elicitation": {}})
        params: dict[str, Any] = {"name": "fake__write", "arguments": {"text": "q"}}
        asked = await app.gateway.call(caller, "tools/call", params)
        assert asked["resultType"] == "input_required"
        approval = asked["_meta"]["pointsman/refusal"]["approval"]
        assert approval in asked["inputRequests"]["pointsman-approval"]["params"]["message"]
        answers = {"pointsman-approval": {"action": "accept", "content": {}}}
        retry = {**params, "inputResponses": answers, "requestState": asked["requestState"]}
        again = await app.gateway.call(caller, "tools/call", retry)
        assert again["resultType"] == "input_required"
        await call(app, OPERATOR, "gateway__grant_approval", {"id": approval, "reason": "tested"})
        done = await app.gateway.call(caller, "tools/call", retry)
        assert words(done) == "write: q"
        with pytest.raises(RpcError, match="requestState refused"):
            moved = {**retry, "arguments": {"text": "other"}}
            await app.gateway.call(caller, "tools/call", moved)


async def test_nobody_approves_their_own_request(tmp_path: Path, fake: FakeServer) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        asked = await call(app, LOGS, "fake__write", {"text": "own"})
        approval = asked["_meta"]["pointsman/refusal"]["approval"]
        told = await call(app, LOGS, "gateway__grant_approval", {"id": approval, "reason": "tested"})
        assert code(told) == "denied"
        assert (await app.approvals.show(approval)).status == "pending"


async def test_the_same_key_runs_once_and_answers_the_same(tmp_path: Path, fake: FakeServer) -> None:
    before = len(fake.calls)
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        first, second = await asyncio.gather(
            *(call(app, LOGS, "fake__read", {"text": "k"}, pointsman__key="k1") for _ in range(2))
        )
        assert words(first) == words(second) == "read: k"
        calls = {r["_meta"]["pointsman/call"] for r in (first, second)}
        assert len(calls) == 1
        assert sorted(bool(r["_meta"].get("pointsman/replayed")) for r in (first, second)) == [False, True]
        other = await call(app, LOGS, "fake__read", {"text": "else"}, pointsman__key="k1")
        assert code(other) == "key_conflict"
    assert len([c for c in fake.calls[before:] if c[0] == "read"]) == 1


async def test_a_claim_of_being_replayed_is_only_a_claim(tmp_path: Path, fake: FakeServer) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        result = await call(app, LOGS, "fake__read", pointsman__key="k", pointsman__replayed="c_forged")
        assert "pointsman/replayed" not in result["_meta"]
        assert result["_meta"]["pointsman/call"] != "c_forged"


async def test_a_deadline_ends_the_call_and_the_ledger_says_it_may_have_run(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust", timeout=0.3)}) as app:
        result = await call(app, LOGS, "fake__slow", {"seconds": 20})
        assert code(result) == "deadline_exceeded"
        [_, outcome] = await records(app, tool="fake__slow")
        assert outcome["status"] == "unknown"


async def test_a_caller_that_goes_is_recorded_as_cancelled(tmp_path: Path, fake: FakeServer) -> None:
    before = len(fake.calls)
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        task = asyncio.create_task(call(app, LOGS, "fake__slow", {"seconds": 20}))
        assert await asyncio.to_thread(until, lambda: len(fake.calls) > before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        [_, outcome] = await records(app, tool="fake__slow")
        assert outcome["status"] == "cancelled"


async def test_a_result_that_breaks_its_promise_is_not_released(tmp_path: Path, fake: FakeServer) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        good = await call(app, LOGS, "fake__number", {"text": "7"})
        assert good["structuredContent"] == {"n": 7}
        assert code(await call(app, LOGS, "fake__number", {"text": "seven"})) == "schema_mismatch"


async def test_a_result_that_is_too_large_is_not_released(tmp_path: Path, fake: FakeServer) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}, max_result_bytes=100_000) as app:
        assert len(words(await call(app, LOGS, "fake__many", {"bytes": 50_000}))) == 50_000
        assert code(await call(app, LOGS, "fake__many", {"bytes": 200_000})) == "result_too_large"


async def test_an_error_of_the_servers_own_passes_as_it_is(tmp_path: Path, fake: FakeServer) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        with pytest.raises(RpcError, match="not like this") as caught:
            await call(app, LOGS, "fake__fail")
        assert (caught.value.number, caught.value.data) == (-32602, {"why": "test"})
        assert (await records(app, tool="fake__fail"))[1]["status"] == "error"


async def test_a_server_that_is_down_is_named_with_its_stage(tmp_path: Path) -> None:
    entry = {"type": "http", "url": "http://127.0.0.1:9/mcp", "pointsman": {"pin": "trust"}}
    async with app_with(tmp_path, {"down": entry}) as app:
        told = await call(app, OPERATOR, "gateway__list_servers")
        [server] = told["structuredContent"]["servers"]
        assert (server["state"], server["stage"]) == ("failed", "connect")
        tested = (await call(app, OPERATOR, "gateway__test_server", {"name": "down"}))["structuredContent"]
        assert not tested["ok"] and tested["stage"] == "connect"


async def test_too_many_calls_at_once_are_refused_for_that_subject_only(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}, max_concurrent=1) as app:
        slow = asyncio.create_task(call(app, LOGS, "fake__slow", {"seconds": 1}))
        assert await asyncio.to_thread(until, lambda: app.gateway.limits._flow._running)
        assert code(await call(app, LOGS, "fake__read")) == "limit_exceeded"
        assert code(await call(app, OPERATOR, "gateway__list_tokens")) == ""
        assert words(await slow) == "awake"


async def test_the_server_sees_neither_our_keys_nor_our_tokens(
    tmp_path: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATORS_SECRET", "hunter2-hunter2")
    entry = {**fake.entry(pin="trust"), "headers": {"X-Key": "${env:OPERATORS_SECRET}"}}
    servers = {"fake": entry, "child": stdio_entry(tmp_path / "child", pin="trust")}
    async with app_with(tmp_path, servers) as app:
        meta = {"pointsman__key": "k", "traceparent": "00-1-2-01", "vendor__extra": 1}
        released = words(await call(app, LOGS, "fake__whoami", **meta))
        seen = json.loads(released)
        assert "authorization" not in seen["headers"]
        assert seen["headers"]["x-key"] == "[redacted]" and "hunter2" not in released
        assert "traceparent" in seen["meta"]
        assert not {"pointsman/key", "vendor/extra"} & set(seen["meta"])
        child = json.loads(words(await call(app, LOGS, "child__whoami")))
        assert "OPERATORS_SECRET" not in child["env"] and "PATH" in child["env"]
