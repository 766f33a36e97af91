# ruff: noqa: E402 (the path has to be right before the package is found)
"""What each part of a governed call costs: microseconds of processor time of this process, the best of five.

python benchmarks/parts.py [--durability full]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(
    Path(__file__).resolve().parents[1]
)  # `gateway` is the package here, not the script beside us
sys.path.append(str(Path(__file__).resolve().parent))

import aiohttp
import orjson
import uvloop
from load import META
from opentelemetry.sdk.trace import TracerProvider
from peers import OTHER, RULES, Upstream

from gateway import strictjson
from gateway.app import open_app
from gateway.caller import Caller
from gateway.canonical import digest
from gateway.http_client import Address
from gateway.meters import Note
from gateway.pipeline import Ending
from gateway.settings import Settings
from gateway.tracing import Tracing
from gateway.types import Call, Decision, Subject

ROUNDS = 5
SUBJECT = Subject("agent:load", ("load",), token="0" * 16)
PERSON = Subject("user:ana", ("operator",), token="1" * 16)


async def measure(name: str, count: int, work: Callable[[int], Any], at_once: int = 1) -> None:
    """Print what one turn of the work costs."""
    best = float("inf")
    for turn in range(ROUNDS):
        start = time.process_time()
        for n in range(0, count, at_once):
            numbers = range(turn * count + n, turn * count + n + at_once)
            made = [work(number) for number in numbers]
            if isinstance(made[0], Awaitable):
                await asyncio.gather(*made) if at_once > 1 else await made[0]
        best = min(best, (time.process_time() - start) / count)
    print(f"| {name} | {best * 1e6:.1f} |", flush=True)


async def run(place: Path, durability: str) -> None:
    """Measure every part."""
    upstream = Upstream("upstream", place).start()
    try:
        await _measured(place, durability, upstream.url)
    finally:
        upstream.stop()


async def _measured(place: Path, durability: str, url: str) -> None:
    (place / "policy").mkdir()
    others = "".join(OTHER.format(n=n) for n in range(45))
    (place / "policy" / "load.cedar").write_text(RULES.format(others=others))
    servers = {"mcpServers": {"up": {"url": url, "pointsman": {"pin": "trust"}}}}
    (place / "mcp.json").write_bytes(orjson.dumps(servers))
    settings = Settings(
        servers=str(place / "mcp.json"),
        policy=str(place / "policy"),
        checkpoints=str(place / "checkpoints"),
        durability=durability,
    )
    async with open_app(settings, place / "home") as app:
        app.start()
        caller = Caller(SUBJECT, capabilities={}, info={"name": "load", "version": "1"})
        await app.catalogue.first_seen(("up",))
        gateway = app.gateway
        tool, other = app.catalogue.find("up__echo", ""), app.catalogue.find("up__page", "")
        token = (await app.tokens.issue("agent:load", ["load"]))["token"]
        context = {"environment": "local", "labels": frozenset()}

        def params(n: int) -> dict[str, Any]:
            return {"name": "up__echo", "arguments": {"text": f"hello {n}"}, "_meta": META}

        def call(n: int) -> Call:
            arguments = {"text": f"hello {n}"}
            return Call(f"c_{id(params):x}{n:06x}", "call", SUBJECT, tool, arguments, digest(arguments))

        request = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params(1)})
        result = {
            "content": [{"type": "text", "text": "hello 1"}],
            "isError": False,
            "resultType": "complete",
        }
        page = {**result, "content": [{"type": "text", "text": "The quick brown fox jumps. " * 400}]}
        print("| part | µs |\n|---|---|")
        await measure("identify: verify the bearer token", 5000, lambda n: app.tokens.verify(token))
        await measure("read the request strictly", 5000, lambda n: strictjson.read(request, limit=1 << 20))
        await measure(
            "find the tool and check the arguments",
            3000,
            lambda n: gateway.targets.find(caller, "tools/call", params(n)),
        )
        await measure(
            "decide by 50 rules, words no rule names",
            1000,
            lambda n: gateway.policy.decide(SUBJECT, "call", tool, {"text": f"new {n}"}, context),
        )
        await measure(
            "decide by 50 rules, one of them matching a pattern in the arguments",
            1000,
            lambda n: gateway.policy.decide(SUBJECT, "call", other, {"text": f"new {n}"}, context),
        )
        await measure(
            "decide by 50 rules, the same arguments again",
            3000,
            lambda n: gateway.policy.decide(SUBJECT, "call", tool, {"text": "again"}, context),
        )
        await measure("look for secrets in a small result", 3000, lambda n: gateway.redactor.pack(result))
        await measure("look for secrets in a result of 10 kB", 500, lambda n: gateway.redactor.pack(page))
        decision = gateway.policy.decide(SUBJECT, "call", tool, {"text": "again"}, context)

        async def limited(n: int) -> None:
            with await gateway.limits.admit(SUBJECT), await gateway.limits.use(SUBJECT, tool):
                await gateway.limits.spend(one_call)

        one_call = call(1)
        await measure("count it against the subject's limits", 5000, limited)

        async def approved(n: int) -> None:
            one = call(1_000_000 + n)
            asked = await gateway.approvals.settle(one, waits)
            await gateway.approvals.grant(asked.id, PERSON, "benchmark")
            granted = await gateway.approvals.settle(one, waits)
            await gateway.ledger.intent(one, waits, granted.id)

        waits = Decision("request", decision.rules, policy=decision.policy)
        await measure("ask for consent, get it and spend it, with the intent; 16 at once", 160, approved, 16)
        tracing = Tracing(TracerProvider())

        def traced(n: int) -> None:
            note = Note()
            tracing.begin(note, "tools/call", params(n))
            note.decision, note.ending, note.seq = decision, Ending("ok"), n
            tracing.end(note, one_call, "tools/call")

        await measure("a span of it, where spans are sent", 3000, traced)

        def counted(n: int) -> None:
            note = Note()
            note.decision, note.ending, note.upstream = decision, Ending("ok"), 0.001
            gateway.meters.call(note, one_call)

        await measure("count it for the figures", 5000, counted)

        async def recorded(n: int) -> None:
            one = call(n)
            await gateway.ledger.intent(one, decision)
            await gateway.ledger.outcome(one, result, status="ok", ms=1.0)

        await measure("record intent and outcome, 16 calls at once", 800, recorded, 16)
        behind = app.catalogue.upstream("up")
        plain = {"name": "echo", "arguments": {"text": "hello"}, "_meta": META}
        await measure(
            "ask the tool server (HTTP), 16 at once",
            800,
            lambda n: behind.request("tools/call", plain, caller),
            16,
        )
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": plain})
        fields = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "echo",
        }
        where = Address.of(url, "benchmark")

        async def by_our_client(n: int) -> None:
            with await behind.http.request("POST", where, fields, body) as answer:
                async for _ in answer.chunks():
                    pass

        await measure("the exchange alone, by gateway/http_client.py, 16 at once", 800, by_our_client, 16)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as session:

            async def by_aiohttp(n: int) -> None:
                async with session.post(url, data=body, headers=fields) as answer:
                    await answer.read()

            await measure("the exchange alone, by aiohttp, 16 at once", 800, by_aiohttp, 16)
        await measure(
            "the whole road, 16 at once", 800, lambda n: gateway.call(caller, "tools/call", params(n)), 16
        )


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--durability", choices=("full", "async"), default="full")
    given = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="parts-") as where:
        uvloop.run(run(Path(where), given.durability))
