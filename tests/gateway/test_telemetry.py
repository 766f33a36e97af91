"""What a gateway tells about itself: ready or not and why, figures, spans."""

import json
import socket
import sqlite3
import time
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import RpcError
from gateway.front import Front
from tests.fakes.otlp_receiver import collector
from tests.gateway.world import LOGS, Running, app_with, call, fake_server, gateway, until, words

pytestmark = pytest.mark.anyio


async def get(running: Running, path: str, token: str = "") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(timeout=30) as http:
        return await http.get(running.url + path, headers=headers)


def status(running: Running) -> int:
    return httpx2.get(running.url + "/readyz", timeout=30).status_code


async def test_it_is_ready_when_one_server_of_several_is(tmp_path: Path) -> None:
    dead = {"type": "http", "url": "http://127.0.0.1:9/very-secret/mcp"}
    with (
        fake_server(tmp_path / "up") as server,
        gateway(tmp_path, {"up": server.entry(), "dead": dead}) as here,
    ):
        assert until(lambda: status(here) == 200)
        about = (await get(here, "/readyz")).json()
        assert about["status"] == "ready" and about["reasons"] == [] and about["ledger"] == "writable"
        assert about["servers"]["ready"] == 1 and about["policy"] == {"rules": 4}


async def test_it_is_not_ready_without_any_server_and_names_none(tmp_path: Path) -> None:
    dead = {"type": "http", "url": "http://127.0.0.1:9/very-secret/mcp"}
    with gateway(tmp_path, {"hidden": dead}) as here:
        answer = await get(here, "/readyz")
        assert answer.status_code == 503 and answer.json()["status"] == "not ready"
        assert answer.json()["reasons"] == ["no tool server is ready: see `pointsman servers list`"]
        assert "hidden" not in answer.text and "very-secret" not in answer.text
        assert (await get(here, "/healthz")).status_code == 200


async def test_it_is_not_ready_while_its_ledger_is_locked_and_is_again_by_itself(tmp_path: Path) -> None:
    with gateway(tmp_path, {}) as here:
        assert status(here) == 200
        other = sqlite3.connect(here.home / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert until(lambda: status(here) == 503, 20)
        about = (await get(here, "/readyz")).json()
        assert about["ledger"] == "not writable" and "ledger" in about["reasons"][0]
        other.execute("ROLLBACK")
        other.close()
        assert until(lambda: status(here) == 200, 20)


async def test_it_is_not_ready_while_it_stops(tmp_path: Path) -> None:
    async with app_with(tmp_path, {}) as app:
        sent: list[dict] = []

        async def send(part: dict) -> None:
            sent.append(part)

        front: Front = app.front
        front.end_streams()
        await front({"type": "http", "path": "/readyz"}, None, send)
        assert sent[0]["status"] == 503 and b"stopping" in sent[1]["body"]


Figures = dict[tuple[str, frozenset[str]], float]


async def figures(running: Running, token: str = "") -> Figures:
    answer = await get(running, "/metrics", token or running.token)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith(
        "text/plain; version=0.0.4"
    )
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.values())): s.value for f in families for s in f.samples}


def of(told: Figures, name: str, *labels: str) -> float:
    return told[f"pointsman_{name}", frozenset(labels)]


async def test_every_call_is_counted_by_how_it_ended(tmp_path: Path) -> None:
    with fake_server(tmp_path / "up") as server, gateway(tmp_path, {"up": server.entry(pin="trust")}) as here:
        token = await here.issue("agent:logs", "specialist")
        assert until(lambda: status(here) == 200)
        before = await figures(here)
        async with here.client(token) as client:
            for n in range(3):
                assert not (await client.call_tool("up__read", {"text": f"t{n}"})).is_error
            assert (await client.call_tool("up__write", {"text": "x"})).is_error  # waits for a person
            assert (await client.call_tool("up__secret-name", {})).is_error
            assert (await client.call_tool("gateway__list_tokens", {})).is_error
        told = await figures(here)
        assert of(told, "gateway_calls_total", "up", "call", "ok") == 3
        assert of(told, "gateway_calls_total", "up", "call", "refused") == 1
        assert of(told, "gateway_refusals_total", "approval_pending") == 1
        assert of(told, "gateway_refusals_total", "unknown_tool") == 1
        assert (
            of(told, "gateway_refusals_total", "denied") == of(told, "gateway_decisions_total", "deny") == 1
        )
        assert of(told, "gateway_decisions_total", "request") == 1
        assert of(told, "gateway_upstream_seconds_count", "up") == 3
        assert of(told, "gateway_overhead_seconds_sum") > 0 < of(told, "gateway_upstream_seconds_sum", "up")
        assert of(told, "approvals_pending") == 1
        assert of(told, "gateway_servers", "ready") == of(told, "gateway_server_ready", "up") == 1
        assert of(told, "ledger_records") >= of(before, "ledger_records") + 3 * 2 + 3
        assert of(told, "ledger_write_seconds_count") > of(before, "ledger_write_seconds_count")
        assert of(told, "ledger_writes_waiting") == 0


async def test_readiness_and_figures_are_told_on_postgres_too(tmp_path: Path, postgres_url: str) -> None:
    with gateway(tmp_path, {}, database=postgres_url) as here:
        assert until(lambda: status(here) == 200, 20)
        told = await figures(here)
        assert of(told, "ledger_records") >= 1 and of(told, "ledger_write_seconds_count") >= 1


async def test_figures_are_for_two_roles_and_hold_nothing_a_caller_chose(tmp_path: Path) -> None:
    with fake_server(tmp_path / "up") as server, gateway(tmp_path, {"up": server.entry(pin="trust")}) as here:
        token = await here.issue("agent:logs", "specialist")
        async with here.client(token) as client:
            await client.call_tool("up__read", {"text": "chosen-words"})
            await client.call_tool("chosen-words__tool", {})
        assert (await get(here, "/metrics")).status_code == 401
        assert (await get(here, "/metrics", "pm_" + "x" * 43)).status_code == 401
        assert (await get(here, "/metrics", token)).status_code == 403
        scraper = await here.issue("agent:prometheus", "metrics")
        told = await figures(here, scraper)
        labels = {label for _, values in told for label in values}
        assert {"up", "ok", "unknown_tool"} <= labels
        assert not any("chosen" in label or "logs" in label or label.startswith("c_") for label in labels)


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_the_span_of_a_call_is_the_parent_of_what_its_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_server(tmp_path / "up") as server, collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        async with app_with(tmp_path, {"up": server.entry(pin="trust")}) as app:
            seen = json.loads(words(await call(app, LOGS, "up__whoami", traceparent=PARENT)))
            await call(app, LOGS, "up__write", {"text": "my-argument"}, traceparent=PARENT)
            await call(app, LOGS, "up__nothing")
            with pytest.raises(RpcError):
                await call(app, LOGS, "up__fail", {"text": "x"})
    [who], [write] = taken.named("tools/call up__whoami"), taken.named("tools/call up__write")
    assert f"{who.trace}-{who.parent}" == f"{write.trace}-{write.parent}" == PARENT[3:-3]
    assert seen["meta"]["traceparent"] == f"00-{who.trace}-{who.id}-01"
    assert who.attributes["gen_ai.tool.name"] == "up__whoami" and who.attributes["pointsman.rules"] == [
        "readers"
    ]
    assert (
        write.attributes["error.type"] == "approval_pending"
        and write.attributes["pointsman.status"] == "refused"
    )
    assert "pointsman.ledger.seq" in who.attributes and "pointsman.ledger.seq" not in write.attributes
    [unknown] = taken.named("tools/call")
    assert unknown.parent == "" and unknown.attributes["error.type"] == "unknown_tool"
    [failed] = taken.named("tools/call up__fail")
    assert failed.attributes["error.type"] == "tool_error"
    assert "my-argument" not in str(taken.spans)


async def test_without_an_endpoint_the_trace_of_the_caller_passes_as_it_is(tmp_path: Path) -> None:
    with fake_server(tmp_path / "up") as server:
        async with app_with(tmp_path, {"up": server.entry(pin="trust")}) as app:
            assert app.gateway.tracing is None
            seen = json.loads(words(await call(app, LOGS, "up__whoami", traceparent=PARENT)))
            assert seen["meta"]["traceparent"] == PARENT


async def test_a_collector_that_is_gone_or_hangs_holds_up_neither_calls_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_server(tmp_path / "up") as server, socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with app_with(tmp_path, {"up": server.entry(pin="trust")}) as app:
            before = time.monotonic()
            for n in range(20):
                assert "read:" in words(await call(app, LOGS, "up__read", {"text": f"{n}"}))
            assert time.monotonic() - before < 30  # one export that hangs takes 3 s
            ending = time.monotonic()
        assert time.monotonic() - ending < 60
