"""What does not show in a rate: memory of many tools and sessions, long lists, large results, latency alone.

python benchmarks/sizes.py
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import uvloop
from load import Client, Tally
from peers import Ours, Target, Upstream, favour
from running import cell

MB = 1_000_000


class Many(Ours):
    """A gateway for the operator, who may see every tool."""

    roles = ("load", "operator")


def row(what: str, bar: str, measured: str) -> None:
    """One line of the table."""
    print(f"| {what} | {bar} | {measured} |", flush=True)


def started(
    place: Path, name: str, servers: int, tools: int, kind: type[Ours] = Many
) -> tuple[Ours, Upstream]:
    """A gateway in front of so many servers with so many tools each."""
    upstream = Upstream(f"{name}-upstream", place).start(tools - 3)
    more = {f"server{n}": f"http://127.0.0.1:{upstream.port}/{n}/mcp" for n in range(servers - 1)}
    gateway = Many(name, place)
    try:
        gateway.start(upstream.url, more)
        until = time.monotonic() + 120
        while len(gateway.ask("tools/list", {})["tools"]) < servers * tools:
            if time.monotonic() > until:
                raise RuntimeError("not every tool appeared")
            time.sleep(0.2)
    except BaseException:
        gateway.stop()
        upstream.stop()
        raise
    return gateway, upstream


def memory(place: Path) -> None:
    """Ten servers with 50 tools each."""
    gateway, upstream = started(place, "memory", 10, 50)
    try:
        row("memory with 10 servers, 500 tools", "≤ 110 MB", f"{gateway.memory():.0f} MB")
        before = gateway.memory()
        uvloop.run(idle_sessions(gateway, 1_000))
        row("1,000 idle sessions", "≤ 50 MB", f"{gateway.memory() - before:.0f} MB")
    finally:
        gateway.stop()
        upstream.stop()


async def idle_sessions(gateway: Ours, count: int) -> None:
    """Open so many sessions and leave them."""
    tally = Tally()
    for _ in range(count // 50):
        clients = [Client(gateway.url, "session", "echo", "up__", gateway.headers, tally) for _ in range(50)]
        await asyncio.gather(*(client.open() for client in clients))
        for client in clients:
            client.done.set_result(None)
            client.transport.close()


def long_list(place: Path) -> None:
    """100 servers with 50 tools each, listed again and again."""
    gateway, upstream = started(place, "list", 100, 50)
    try:
        times, shown = [], 0
        for _ in range(20):
            start = time.perf_counter()
            shown = len(gateway.ask("tools/list", {})["tools"])
            times.append((time.perf_counter() - start) * 1000)
        middle = statistics.median(times)
        row(f"tools/list of {shown} tools, warm, read by this client", "≤ 50 ms", f"{middle:.0f} ms")
        row("memory with 100 servers, 5,000 tools", "–", f"{gateway.memory():.0f} MB")
    finally:
        gateway.stop()
        upstream.stop()


def large_result(place: Path) -> None:
    """A result of 10 MB, and the most memory the gateway held meanwhile."""
    gateway, upstream = started(place, "large", 1, 3)
    try:
        for size in (10 * MB, 10 * MB):
            before = peak(gateway, reset=True)
            start = time.perf_counter()
            result = gateway.ask("tools/call", {"name": "up__bytes", "arguments": {"bytes": size}})
            took = time.perf_counter() - start
            assert result["content"][0]["text"] == "x" * size
            more = peak(gateway) - before
        row(
            "a result of 10 MB, second time: most memory above rest",
            "< 30 MB",
            f"{more:.0f} MB, {took:.2f} s",
        )
    finally:
        gateway.stop()
        upstream.stop()


def peak(target: Target, *, reset: bool = False) -> float:
    """The most memory its process has held since the last reset, as the kernel counts it; megabytes."""
    assert target.process is not None
    place = Path(f"/proc/{target.process.pid}")
    if reset:
        (place / "clear_refs").write_text("5")
    line = next(line for line in (place / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB


def alone(place: Path) -> None:
    """One connection: what the gateway adds to the way there and back."""
    upstream = Upstream("alone-upstream", place).start()
    durable, fast = Ours("durable", place), Ours("fast", place)
    fast.durability = "async"
    try:
        targets = [upstream, fast.start(upstream.url), durable.start(upstream.url)]
        found: dict[str, list[float]] = {target.name: [] for target in targets}
        for _ in range(5):
            for target in targets:
                told = uvloop.run(cell(target, "modern", "echo", 1, 1.0))
                assert not told["wrong"], told["first_wrong"]
                found[target.name].append(told["p50_ms"])
        straight, without, full = (statistics.median(times) for times in found.values())
        row("added p50 at one connection, without the disk's flush", "≤ 1 ms", f"{without - straight:.2f} ms")
        row("added p50 at one connection, two flushes a call", "–", f"{full - straight:.2f} ms")
    finally:
        for target in (upstream, fast, durable):
            target.stop()


if __name__ == "__main__":
    favour(os.getpid())
    print("| what | bar | measured |\n|---|---|---|")
    for part in (alone, memory, long_list, large_result):
        with tempfile.TemporaryDirectory(prefix="sizes-") as where:
            part(Path(where))
