"""What is removed after its time, what stays, and that the proof holds; the ledger in other forms."""

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest

from gateway.exporting import COLUMNS, lines, story
from gateway.types import Subject
from tests.gateway.records import ANA, LOGS, ROLLBACK, call, directly, parts, text

pytestmark = pytest.mark.anyio


async def test_bodies_go_after_their_time_and_the_chain_stays_provable(home: Path) -> None:
    async with parts(home) as p:
        old, kept = call(n=1), call(n=1)
        shared = "said twice " * 200
        await p.run(old, shared)
        await p.run(call(n=2), "only before " * 200)
        await p.run(call(n=3), "small")
        await asyncio.sleep(0.3)
        await p.run(kept, shared)
        told = await p.ledger.prune(0.2, ANA)
        assert told["through"] == 6
        again = await p.ledger.prune(0.2, ANA)
        answer = await p.ledger.verify()
        found, living = await p.ledger.show(old.id), await p.ledger.show(kept.id)
        last = (await p.ledger.search(kind="retention"))["records"]
        every = [r async for r in p.ledger.export(bodies=("arguments", "result"))]
    assert answer["problems"] == [] and answer["pruned_through"] >= 6
    assert found is not None and living is not None
    assert (found["arguments"], found["result"]) == (None, text(shared))  # the result is a later call's too
    assert (living["arguments"], living["text"]) == ({"n": 1}, shared)
    assert [r["result"] for r in every if r["seq"] in (4, 6)] == [None, None]
    assert (last[0]["subject"], last[0]["body"]["through"]) == ("user:ana", 6)
    assert again["through"] >= 6
    files = b"".join(f.read_bytes() for f in home.glob("*.db")) if home.exists() else b""
    assert b"only before" not in files and b"small" not in files


async def test_a_body_that_retention_did_not_remove_is_still_missed(home: Path) -> None:
    async with parts(home) as p:
        await p.run(call(n=1), "before")
        await p.ledger.prune(-1, ANA)
        await p.run(call(n=2), "after")
        assert (await p.ledger.verify())["ok"]
    with directly(home) as db:
        db.execute("UPDATE records SET body = NULL WHERE seq = 5")
    async with parts(home) as p:
        (problem,) = (await p.ledger.verify())["problems"]
    assert (problem["kind"], problem["seq"]) == ("body", 5)


async def test_records_are_found_by_time_decision_ending_and_control(home: Path) -> None:
    async with parts(home) as p:
        await p.run(call(n=1))
        middle = (await p.ledger.search())["records"][1]["time"]
        refusal = type("R", (), {"code": "denied", "message": "no", "rules": ()})()
        await p.ledger.refusal(LOGS, refusal, call(ROLLBACK))
        await p.ledger.append("hosted", LOGS, tool="web_search", control="observed")

        async def seqs(**wanted: str) -> list[int]:
            return [r["seq"] for r in (await p.ledger.search(**wanted))["records"]]

        assert await seqs(until=middle) == [1] and await seqs(since=middle) == [2, 3, 4]
        assert await seqs(status="ok") == [2] and await seqs(code="denied") == [3]
        assert await seqs(control="observed") == [4] and await seqs(control="enforced") == [1, 2]
        assert await seqs(control="observed", subject="user:nobody") == []


async def test_exports_keep_every_record_and_let_no_cell_run(home: Path) -> None:
    who = Subject("user:ana", ("oncall",), case="C1")
    async with parts(home) as p:
        await p.run(call(subject=who, n=1), "done")
        await p.ledger.append("step", who, step="plan", case="C1", tool="=cmd|' /C calc'!A0", body={"a": [1]})
        table = [line async for line in lines(p.ledger.export(), "csv")]
        logs = [json.loads(line) async for line in lines(p.ledger.export(), "otlp")]
        told = story([r async for r in p.ledger.export(case="C1", bodies=("arguments", "result"))])
    rows = list(csv.DictReader(io.StringIO("\n".join(table))))
    assert [row["seq"] for row in rows] == ["1", "2", "3"] and tuple(rows[0]) == COLUMNS
    assert rows[2]["tool"].startswith("'=")
    records = logs[0]["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert [record["eventName"] for record in records] == [
        "pointsman.intent",
        "pointsman.outcome",
        "pointsman.step",
    ]
    attributes = {a["key"]: a["value"] for a in records[0]["attributes"]}
    assert attributes["pointsman.seq"] == {"intValue": "1"}
    assert attributes["pointsman.rules"] == {"arrayValue": {"values": [{"stringValue": "specialists-read"}]}}
    assert "user:ana calls kubernetes__get: let go by specialists-read" in told
    assert "got from kubernetes__get: ok after 1.5 ms" in told and "done" in told and "plan" in told
