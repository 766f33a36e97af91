"""Runs the load: one target for some seconds, or all of them in turn."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import Any, NamedTuple

from load import Client, Tally
from peers import Target, Upstream


async def cell(target: Target, era: str, tool: str, connections: int, seconds: float) -> dict[str, Any]:
    """Load one target for some seconds."""
    tally = Tally()
    clients = [
        await Client(target.url, era, tool, target.prefix, target.headers, tally).open()
        for _ in range(connections)
    ]
    for client in clients:
        client.call()
    await asyncio.sleep(0.5)
    warm = len(tally.times)
    cpu, moment = target.cpu(), time.perf_counter()
    await asyncio.sleep(seconds)
    for _ in range(130):  # a slow target goes on until it has made enough calls to tell
        if len(tally.times) - warm >= 200 or tally.wrong:
            break
        await asyncio.sleep(0.1)
    cpu, moment = target.cpu() - cpu, time.perf_counter() - moment
    times = sorted(tally.times[warm:])
    await asyncio.gather(*(client.close() for client in clients))
    calls = len(times)
    return {
        "target": target.name,
        "era": era,
        "tool": tool,
        "connections": connections,
        "rate": calls / moment,
        "cpu_ms": cpu / calls * 1000 if calls else float("nan"),
        "p50_ms": times[calls // 2] * 1000 if calls else float("nan"),
        "p99_ms": times[int(calls * 0.99)] * 1000 if calls else float("nan"),
        "cores": cpu / moment,
        "memory_mb": target.memory(),
        "wrong": len(tally.wrong),
        "first_wrong": tally.wrong[0] if tally.wrong else "",
        "answered": len(tally.times),
    }


class Plan(NamedTuple):
    """What to run."""

    eras: list[str]
    tools: list[str]
    connections: list[int]
    rounds: int
    seconds: float


async def rounds(plan: Plan, targets: list[Target], upstream: Upstream) -> list[dict[str, Any]]:
    """Every cell of every target, once a round, in an order that turns."""
    rows = []
    for turn in range(plan.rounds):
        start = turn % len(targets)
        for era, tool, count in itertools.product(plan.eras, plan.tools, plan.connections):
            for target in targets[start:] + targets[:start]:
                before = upstream.calls()
                row = await cell(target, era, tool, count, plan.seconds)
                served = row["answered"] if target.stdio else upstream.calls() - before
                row |= {"round": turn, "unserved": max(0, row["answered"] - served)}
                rows.append(row)
                print(_line(row), file=sys.stderr, flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    where = f"{row['round']} {row['era']:8}{row['tool']:5} c={row['connections']:<3} {row['target']:11}"
    times = f"p50 {row['p50_ms']:7.2f} p99 {row['p99_ms']:7.2f} ms {row['cpu_ms']:7.3f} ms cpu"
    bad = f"{row['wrong']} wrong {row['unserved']} unserved {row['first_wrong'][:200]}"
    return f"  {where} {times} {row['rate']:7.0f}/s {row['cores']:.2f} cores {row['memory_mb']:4.0f} MB {bad}"
