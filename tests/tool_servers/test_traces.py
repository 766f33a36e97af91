"""The traces server over a recording."""

import json

import pytest

from tests.tool_servers.making import ask, at, data, refusal, text_of

pytestmark = pytest.mark.anyio


async def test_the_graph_counts_calls_and_errors_between_services(world):
    found = await data(world, "traces", "dependencies", start=at(40))
    edges = {(edge["caller"], edge["callee"]): edge for edge in found["edges"]}
    assert edges.keys() == {("shop", "orders"), ("orders", "db")}
    assert (edges["shop", "orders"]["calls"], edges["shop", "orders"]["errors"]) == (10, 10)
    assert edges["orders", "db"]["calls"] == 110


async def test_the_longest_spans_come_first_with_the_time_that_is_their_own(world):
    spans = (await data(world, "traces", "slow_spans", limit=2, service="orders"))["spans"]
    assert [span["duration_ms"] for span in spans] == [230, 230]
    assert spans[0]["self_ms"] == 10


async def test_failing_spans_carry_their_error(world):
    found = await data(world, "traces", "failing_spans", service="orders")
    assert found["total"] == 10
    assert {span["error"] for span in found["spans"]} == {"deadline exceeded"}


async def test_an_operation_that_asks_the_database_more_often_shows_it(world):
    found = await data(world, "traces", "operations", start=at(40))
    rows = {(row["service"], row["name"]): row for row in found["operations"]}
    create = rows["orders", "create"]
    assert (create["calls"], create["errors"], create["children_per_call"]) == (10, 10, 11)
    assert create["children"] == [{"service": "db", "name": "SELECT item", "per_call": 11}]
    assert (create["baseline"]["calls"], create["baseline"]["children_per_call"]) == (40, 1)
    assert (create["p50_ms"], create["baseline"]["p50_ms"]) == (230, 30)
    assert rows["db", "SELECT item"]["self_p50_ms"] == 20


async def test_an_operation_is_one_line_of_text(world):
    text = text_of(await ask(world, "traces", "operations", start=at(40)))
    assert (
        "orders create calls=10 (40) errors=10 (0) p50=230ms (30ms) p95=230ms (30ms) "
        "self_p50=10ms (10ms) children_per_call=11 (1) calls to: db SELECT item x11"
    ) in text.splitlines()


async def test_a_trace_is_shown_as_the_calls_were_nested(world):
    text = text_of(await ask(world, "traces", "trace", trace_id="t3")).splitlines()
    assert text[0] == "trace t3, 3 spans"
    assert [line.index("2026") for line in text[1:]] == [0, 2, 4]
    assert "db.rows=1" in text[3]


async def test_a_trace_of_the_future_is_unknown(world):
    assert "no trace 't60'" in await refusal(world, "traces", "trace", trace_id="t60")


async def test_children_that_overlap_are_not_counted_twice(world, recording):
    (recording / "traces.json.gz").unlink()
    (recording / "traces.json").write_text(
        '[{"trace_id":"x","span_id":"1","parent_id":null,"service":"shop","name":"go",'
        f'"start":"{at(1)}","duration_ms":100,"status":"OK"}},'
        '{"trace_id":"x","span_id":"2","parent_id":"1","service":"db","name":"a",'
        f'"start":"{at(1)}","duration_ms":60,"status":"OK"}},'
        '{"trace_id":"x","span_id":"3","parent_id":"1","service":"db","name":"b",'
        f'"start":"{at(1)}","duration_ms":80,"status":"OK"}}]'
    )
    spans = (await data(world, "traces", "trace", trace_id="x"))["spans"]
    assert spans[0]["self_ms"] == 20


async def test_a_recorded_call_graph_stands_beside_what_spans_show(world, recording):
    graph = [{"caller": "shop", "callee": "orders"}, {"caller": "orders", "callee": "bank"}]
    (recording / "dependencies.json").write_text(json.dumps(graph))
    found = await data(world, "traces", "dependencies", start=at(40))
    edges = {(edge["caller"], edge["callee"]): edge["calls"] for edge in found["edges"]}
    assert edges == {("shop", "orders"): 10, ("orders", "db"): 110, ("orders", "bank"): 0}


async def test_a_recorded_call_graph_is_served_without_any_trace(world, recording):
    (recording / "traces.json.gz").unlink()
    assert "no traces" in await refusal(world, "traces", "dependencies")
    (recording / "dependencies.json").write_text('[{"caller": "orders", "callee": "bank"}]')
    text = text_of(await ask(world, "traces", "dependencies"))
    assert text.splitlines()[1] == "orders -> bank (known from the call graph, no calls traced)"
