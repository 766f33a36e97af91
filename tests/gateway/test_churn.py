"""Servers that come, go, move and change while calls run: none is lost, none goes astray."""

import asyncio
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.app import App
from gateway.caller import Caller
from tests.gateway.world import (
    LOGS,
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
TRUST = {"pin": "trust"}
GOES = ("quarantined", "unknown_tool", "denied", "upstream_unavailable")  # what a call may be told instead


async def put(app: App, directory: Path, servers: dict[str, Any]) -> None:
    """Write the file, as an operator's editor does, and have it read."""
    (directory / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    await app.reader.read()


async def listed(app: App, *names: str) -> None:
    """Wait until these servers have been listed since they last changed."""
    async with asyncio.timeout(30):
        await asyncio.gather(*(app.catalogue.servers[name].listed.wait() for name in names))


def served(directory: Path) -> Counter[str]:
    """The texts with which a server was really called, by its own log."""
    log = directory / "calls.log"
    calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Counter(given.get("text", "") for _, given in calls)


async def becomes(condition: Any) -> None:
    """Wait until it is so."""
    assert await asyncio.to_thread(until, condition, 30)


HOLD = {"until": "go"}  # the call takes until there is such a file


@pytest.mark.parametrize("kind", ["http", "stdio"])
@pytest.mark.parametrize("how", ["changed", "moved", "removed"])
async def test_a_call_under_way_ends_where_it_began_whatever_happens_to_its_server(
    tmp_path: Path, kind: str, how: str
) -> None:
    with ExitStack() as stack:

        def entry(name: str, **ours: Any) -> dict[str, Any]:
            if kind == "stdio":
                return stdio_entry(tmp_path / name, **TRUST, **ours)
            return stack.enter_context(fake_server(tmp_path / name)).entry(**TRUST, **ours)

        first = entry("one")
        after = {
            "changed": lambda: {"s": {**first, "pointsman": {**TRUST, "open": ["meta"]}}},
            "moved": lambda: {"s": entry("two")},
            "removed": lambda: {},
        }[how]()
        async with app_with(tmp_path, {"s": first}) as app:
            under_way = asyncio.create_task(call(app, LOGS, "s__slow", HOLD))
            await becomes(lambda: served(tmp_path / "one"))
            await put(app, tmp_path, after)
            fresh = await call(app, LOGS, "s__read", {"text": "fresh"})
            if how == "removed":
                assert code(fresh) == "unknown_tool"
            elif how == "changed":
                assert words(fresh) == "read: fresh"
            else:
                await listed(app, "s")
                assert words(await call(app, LOGS, "s__read", {"text": "later"})) == "read: later"
                assert served(tmp_path / "two")["later"] == 1 and not served(tmp_path / "one")["later"]
            assert not under_way.done()
            (tmp_path / "one" / "go").touch()
            assert words(await under_way) == "awake"
            outcomes = (await app.ledger.search(kind="outcome", tool="s__slow"))["records"]
            assert [r["status"] for r in outcomes] == ["ok"]


async def test_a_server_that_was_left_is_closed_when_its_last_call_has_ended(tmp_path: Path) -> None:
    async with app_with(tmp_path, {"s": stdio_entry(tmp_path / "one", **TRUST)}) as app:
        old = app.catalogue.servers["s"].upstream
        under_way = asyncio.create_task(call(app, LOGS, "s__slow", HOLD))
        await becomes(lambda: served(tmp_path / "one"))
        await put(app, tmp_path, {})
        assert old._processes and not under_way.done()
        (tmp_path / "one" / "go").touch()
        assert words(await under_way) == "awake"
        await becomes(lambda: not old._processes)


async def test_a_call_that_takes_too_long_does_not_hold_up_the_end_of_its_server(tmp_path: Path) -> None:
    async with app_with(tmp_path, {"s": stdio_entry(tmp_path / "one", **TRUST, timeout=1)}) as app:
        under_way = asyncio.create_task(call(app, LOGS, "s__slow", {"seconds": 60}))
        await becomes(lambda: served(tmp_path / "one"))
        await put(app, tmp_path, {})
        assert code(await under_way) in ("deadline_exceeded", "upstream_unavailable")


async def test_what_needs_no_new_connection_changes_at_once_and_keeps_it(tmp_path: Path) -> None:
    entry = stdio_entry(tmp_path / "one", **TRUST)
    async with app_with(tmp_path, {"s": entry}) as app:
        pid = json.loads(words(await call(app, LOGS, "s__whoami")))["pid"]
        assert code(await call(app, LOGS, "s__write", {"text": "x"})) == "approval_pending"
        entry["pointsman"]["tools"] = {"write": {"readOnly": True}}
        await put(app, tmp_path, {"s": entry})
        assert words(await call(app, LOGS, "s__write", {"text": "y"})) == "write: y"
        assert json.loads(words(await call(app, LOGS, "s__whoami")))["pid"] == pid


async def test_a_call_decided_for_one_server_never_goes_to_another(tmp_path: Path) -> None:
    """The file changes between the decision and the sending: nothing is sent."""
    with fake_server(tmp_path / "one") as one, fake_server(tmp_path / "two") as two:
        async with app_with(tmp_path, {"s": one.entry(**TRUST)}) as app:
            write_intent = app.ledger.intent

            async def moved_meanwhile(*told: Any) -> None:
                await write_intent(*told)
                await put(app, tmp_path, {"s": two.entry(**TRUST)})
                await listed(app, "s")

            app.ledger.intent = moved_meanwhile
            assert code(await call(app, LOGS, "s__read", {"text": "astray"})) == "quarantined"
            app.ledger.intent = write_intent
            assert not one.calls and not two.calls
            told = (await app.ledger.search(tool="s__read"))["records"]
            assert [(r["kind"], r.get("status", "")) for r in told] == [("intent", ""), ("outcome", "error")]
            assert words(await call(app, LOGS, "s__read", {"text": "right"})) == "read: right"
            assert two.calls == [["read", {"text": "right"}]]


async def test_lists_are_told_of_once_for_each_change(tmp_path: Path) -> None:
    with fake_server(tmp_path / "one") as one, fake_server(tmp_path / "two") as two:
        async with app_with(tmp_path, {"a": one.entry(**TRUST)}) as app:
            told: list[str] = []
            app.catalogue.changed.append(lambda what, server: told.append(what))
            await put(app, tmp_path, {"a": one.entry(**TRUST), "b": two.entry(**TRUST)})
            await listed(app, "b")
            assert told == ["tools"]
            await put(app, tmp_path, {"a": one.entry(**TRUST, open=["meta"]), "b": two.entry(**TRUST)})
            await listed(app, "a")
            assert told == ["tools"]  # the same tools on another connection are no news
            await put(app, tmp_path, {"a": one.entry(**TRUST, open=["meta"])})
            assert told == ["tools", "tools"]


async def test_under_load_every_call_has_one_answer_from_the_server_it_was_recorded_for(
    tmp_path: Path,
) -> None:
    """Four callers call as fast as they can while servers are added, moved, changed, removed and approved."""
    with ExitStack() as stack:
        http = [stack.enter_context(fake_server(tmp_path / f"h{n}")) for n in range(3)]
        steady = {"keep": http[0].entry(**TRUST), "pipe": stdio_entry(tmp_path / "p0", **TRUST)}
        async with app_with(tmp_path, steady, max_concurrent=1000) as app:
            stop = asyncio.Event()
            results: list[tuple[str, str, dict[str, Any]]] = []
            names = ("keep", "pipe", "move", "asks")

            async def caller(number: int) -> None:
                for count in range(100_000):
                    if stop.is_set():
                        return
                    name = names[(number + count) % len(names)]
                    text = f"{name}-{number}-{count}"
                    results.append((name, text, await call(app, LOGS, f"{name}__read", {"text": text})))
                    await asyncio.sleep(0)

            callers = [asyncio.create_task(caller(n)) for n in range(4)]
            for round_ in range(6):
                moved = http[1 + round_ % 2].entry(**TRUST)
                ours = {**TRUST, "labels": [f"r{round_}"]}
                changed = {**TRUST, "open": ["meta"] if round_ % 2 else []}
                await put(
                    app,
                    tmp_path,
                    {
                        "keep": {**steady["keep"], "pointsman": changed},
                        "pipe": {
                            **steady["pipe"],
                            "pointsman": ours if round_ != 3 else {**ours, "open": ["meta"]},
                        },
                        "move": moved,
                        **({"asks": http[2].entry()} if round_ != 4 else {}),
                    },
                )
                await listed(app, "keep", "pipe", "move")
                if round_ != 4:
                    await listed(app, "asks")
                    await call(app, OPERATOR, "gateway__approve_server", {"name": "asks", "tools": ["read"]})
                enough = len(results) + 25
                await becomes(lambda enough=enough: len(results) >= enough)
            stop.set()
            await asyncio.gather(*callers)
            await check(app, results, http, tmp_path)


async def check(
    app: App, results: list[tuple[str, str, dict[str, Any]]], http: list[FakeServer], directory: Path
) -> None:
    """Answers, the servers' own logs and the ledger agree call by call."""
    answered = {text: words(result) for _, text, result in results if not code(result)}
    refused = Counter(code(result) for _, _, result in results if code(result))
    assert len(answered) + refused.total() == len(results)
    assert set(refused) <= set(GOES), refused
    assert all(told == f"read: {text}" for text, told in answered.items())
    steady = [code(result) for name, _, result in results if name in ("keep", "pipe") and code(result)]
    assert steady == []  # it was never gone, only connected anew
    where = {f"h{n}": served(directory / f"h{n}") for n in range(3)} | {"p0": served(directory / "p0")}
    reached: Counter[str] = sum(where.values(), Counter())
    assert {text: 1 for text in answered} == {text: n for text, n in reached.items() if text in answered}
    assert set(reached) == set(answered)  # what was refused never got there, and nothing ran twice
    allowed = {"keep": {"h0"}, "pipe": {"p0"}, "move": {"h1", "h2"}, "asks": {"h2"}}
    for place, texts in where.items():
        assert {text.partition("-")[0] for text in texts} <= {
            n for n, places in allowed.items() if place in places
        }
    rows: list[dict[str, Any]] = []
    while page := (await app.ledger.search(after=rows[-1]["seq"] if rows else 0, limit=1000))["records"]:
        rows += page
    calls = [r for r in rows if str(r.get("tool", "")).endswith("__read") and r["subject"] == LOGS.id]
    kinds = Counter((r["kind"], r.get("status", "")) for r in calls)
    sent = sum(code(result) != "" for _, _, result in results)
    assert kinds["outcome", "ok"] == len(answered)
    assert kinds["intent", ""] == kinds["outcome", "ok"] + kinds["outcome", "error"]
    assert kinds["refusal", ""] + kinds["outcome", "error"] == sent
    changes = Counter(r["body"]["change"] for r in rows if r["kind"] == "registration")
    assert changes["moved"] == 5 and changes["removed"] == 1 and changes["added"] == 5
    lists = await app.methods.answer(Caller(LOGS), "tools/list", {})
    assert {tool["name"].partition("__")[0] for tool in lists["tools"]} == {"keep", "pipe", "move", "asks"}
