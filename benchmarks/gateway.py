"""The gateway beside its peers in one run: processor time, rate and latency per call, as ratios.

    python benchmarks/gateway.py                        every bar, about six minutes
    python benchmarks/gateway.py --targets bytes,ours --eras modern --connections 16 --rounds 3

Rounds are interleaved, so that a noisy neighbour meets every target; ratios are taken within a round, then
their median. Every answer is checked, and the tool server's own count proves that it served each call.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop
from peers import TARGETS, Target, Upstream, favour
from running import Plan, rounds

Cell = tuple[str, str, int]  # era, tool, connections


def ratio(rows: list[dict[str, Any]], over: str, under: str, key: str, at: Cell) -> list[float]:
    """`over` divided by `under`, a value for each round."""
    found: dict[tuple[str, int], float] = {
        (row["target"], row["round"]): row[key]
        for row in rows
        if (row["era"], row["tool"], row["connections"]) == at
    }
    turns = sorted({turn for name, turn in found if name == over and (under, turn) in found})
    return [found[over, turn] / found[under, turn] for turn in turns if found[under, turn]]


def report(rows: list[dict[str, Any]]) -> str:
    """The tables."""
    lines = []
    for at in dict.fromkeys((row["era"], row["tool"], row["connections"]) for row in rows):
        era, tool, connections = at
        lines += [f"\n### {era}, {tool}, {connections} connections\n"]
        lines += ["| target | CPU ms a call | × bytes | calls/s | p50 ms | p99 ms | memory MB | wrong |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        chosen = [row for row in rows if (row["era"], row["tool"], row["connections"]) == at]
        for name in dict.fromkeys(row["target"] for row in chosen):
            own = [row for row in chosen if row["target"] == name]
            middle = {
                key: statistics.median(row[key] for row in own)
                for key in ("cpu_ms", "rate", "p50_ms", "p99_ms")
            }
            low, high = min(row["cpu_ms"] for row in own), max(row["cpu_ms"] for row in own)
            times = ratio(rows, name, "bytes", "cpu_ms", at)
            wrong = sum(row["wrong"] + row["unserved"] for row in own)
            lines += [
                f"| {name} | {middle['cpu_ms']:.3f} ({low:.3f}–{high:.3f}) "
                f"| {f'{statistics.median(times):.2f}' if times else '–'} "
                f"| {middle['rate']:.0f} | {middle['p50_ms']:.2f} | {middle['p99_ms']:.2f} "
                f"| {max(row['memory_mb'] for row in own):.0f} | {wrong} |"
            ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    comma = lambda text: text.split(",")  # noqa: E731
    words.add_argument("--targets", type=comma, default=comma("bytes,sdk,fastmcp,ours"))
    words.add_argument("--eras", type=comma, default=comma("modern,session"))
    words.add_argument("--tools", type=comma, default=["echo"])
    words.add_argument(
        "--connections", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64]
    )
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--seconds", type=float, default=2.0)
    words.add_argument(
        "--pin", action="store_true", help="targets on processor 0, everything else on the others"
    )
    words.add_argument("--json", type=Path, help="write every figure here")
    options = words.parse_args()
    if unknown := [name for name in options.targets if name not in TARGETS]:
        words.error(f"unknown targets {', '.join(unknown)}: there are {', '.join(TARGETS)}")
    favour(os.getpid())
    with tempfile.TemporaryDirectory(prefix="benchmark-") as place, ExitStack() as stack:
        upstream = Upstream("upstream", Path(place))
        stack.callback(upstream.stop)
        upstream.start()
        targets = []
        for name in options.targets:
            target = TARGETS[name](name, Path(place))
            stack.callback(target.stop)
            try:
                targets.append(target.start(upstream.url))
            except RuntimeError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        if options.pin:
            _pin(targets, upstream)
        plan = Plan(options.eras, options.tools, options.connections, options.rounds, options.seconds)
        rows = uvloop.run(rounds(plan, targets, upstream))
    machine = {
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine, "when": time.strftime("%F %T"), "rows": rows}, indent=1)
        )
    print(report(rows))
    sys.exit(any(row["wrong"] or row["unserved"] for row in rows))


def _pin(targets: list[Target], upstream: Upstream) -> None:
    others = set(range(1, os.cpu_count() or 1)) or {0}
    os.sched_setaffinity(0, others)
    for target in (*targets, upstream):
        for process in target.tree():
            for thread in process.threads():
                os.sched_setaffinity(thread.id, others if target is upstream else {0})


if __name__ == "__main__":
    main()
