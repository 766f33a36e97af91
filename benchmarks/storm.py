"""An alert storm on a real `pointsman up`: how few cases it becomes, how fast, and what a webhook costs.

    python benchmarks/storm.py [--alerts 1000] [--services 50] [--connections 4] [--only separate]

Three storms, each on a fresh start: every alert a webhook of its own, the alerts in Alertmanager's groups of
20, and the same webhook again and again. Time to answer is from the first byte sent to the last one read; CPU
is that of `pointsman up` without the gateway's process, which cases go on using meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

SECRET = "a-secret-of-the-benchmark"
MOST_CASES = 3
MOST_SECONDS = 30.0
GROUP = 20
SETTINGS = '[coordinator]\nport = 0\n[coordinator.hooks.alertmanager]\nsecret_env = "STORM_SECRET"\n'


def alert(n: int, services: int) -> dict[str, Any]:
    """The nth alert of a storm: another service each time, then another rule."""
    rule, service = f"Rule{n // services}", f"service-{n % services}"
    return {
        "status": "firing",
        "labels": {"alertname": rule, "service": service, "severity": "critical", "namespace": "shop"},
        "annotations": {
            "summary": f"{service} answers with errors",
            "description": f"{rule}: more than 5 % of the requests to {service} failed for two minutes.",
        },
        "startsAt": "2026-01-31T09:12:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": f"http://prometheus.internal/graph?g0.expr={rule}",
        "fingerprint": f"{rule}-{service}",
    }


def notification(alerts: list[dict[str, Any]]) -> bytes:
    """What Alertmanager sends about these alerts."""
    first = alerts[0]["fingerprint"]
    told = {"version": "4", "status": "firing", "receiver": "pointsman", "groupKey": first, "alerts": alerts}
    return json.dumps(told).encode()


def bodies(storm: str, alerts: int, services: int) -> list[bytes]:
    """The webhooks of a storm."""
    made = [alert(n, services) for n in range(alerts)]
    if storm == "separate":
        return [notification([one]) for one in made]
    if storm == "grouped":
        return [notification(made[at : at + GROUP]) for at in range(0, alerts, GROUP)]
    return [notification(made[:1])] * alerts


@contextmanager
def up(folder: Path) -> Iterator[tuple[str, int]]:
    """A running `pointsman up` in an empty folder: its address and process id."""
    (folder / "pointsman.toml").write_text(SETTINGS)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    own = {"STORM_SECRET": SECRET, "POINTSMAN_HOME": f"{folder}/home", "XDG_STATE_HOME": f"{folder}/state"}
    command = [str(Path(sys.executable).with_name("pointsman")), "up", "--json"]
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=kept | own, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"it did not start:\n{(folder / 'up.log').read_text()}")
        yield json.loads(line)["url"], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def cpu(pid: int) -> float:
    """Seconds of CPU of one process so far, ended threads included."""
    told = psutil.Process(pid).cpu_times()
    return told.user + told.system


async def fire(url: str, webhooks: list[bytes], connections: int) -> list[float]:
    """Send everything over some connections; the seconds that each answer took."""
    where, waiting = urlsplit(url), iter(webhooks)
    start = (
        f"POST /hooks/alertmanager HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {SECRET}\r\n"
    )
    times: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        for body in waiting:
            began = time.perf_counter()
            writer.write(f"{start}content-length: {len(body)}\r\n\r\n".encode() + body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            times.append(time.perf_counter() - began)
            if b" 202 " not in head.split(b"\r\n")[0] or not json.loads(answer)["cases"]:
                raise SystemExit(f"not taken: {head!r} {answer!r}")
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())
    return sorted(times)


def kept(home: Path) -> tuple[int, int]:
    """How many deliveries stand in the inbox, and in how many cases their alerts are."""
    with closing(sqlite3.connect(home / "inbox.db")) as db:
        [(deliveries,)] = db.execute("SELECT COUNT(*) FROM deliveries")
        [(cases,)] = db.execute("SELECT COUNT(DISTINCT case_id) FROM alerts")
    return deliveries, cases


def measure(storm: str, alerts: int, services: int, connections: int) -> dict[str, Any]:
    """One storm, and what became of it."""
    webhooks = bodies(storm, alerts, services)
    with tempfile.TemporaryDirectory(prefix="pointsman-storm-") as made, up(Path(made)) as (url, pid):
        began, used = time.perf_counter(), cpu(pid)
        times = asyncio.run(fire(url, webhooks, connections))
        took, used = time.perf_counter() - began, cpu(pid) - used
        deliveries, cases = kept(Path(made) / "home")
    assert deliveries == len(set(webhooks)), f"{deliveries} deliveries kept of {len(set(webhooks))}"
    return {
        "storm": storm,
        "webhooks": len(webhooks),
        "cases": cases,
        "seconds": took,
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[int(len(times) * 0.99)] * 1e3,
        "most_ms": times[-1] * 1e3,
        "cpu_ms": used / len(webhooks) * 1e3,
    }


def main() -> int:
    """Measure, print, and fail when a storm becomes too many cases or takes too long."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--alerts", type=int, default=1000)
    options.add_argument("--services", type=int, default=50)
    options.add_argument("--connections", type=int, default=4)
    options.add_argument("--only", choices=STORMS, help="this storm only")
    given = options.parse_args()
    failed = False
    for storm in [given.only] if given.only else STORMS:
        row = measure(storm, given.alerts, given.services, given.connections)
        answered = ", ".join(f"{row[f'{name}_ms']:.1f} ms ({name})" for name in ("p50", "p99", "most"))
        print(
            f"{storm:<10}{row['webhooks']:5} webhooks, {row['cases']} cases, {row['seconds']:6.2f} s; "
            f"answered in {answered}; {row['cpu_ms']:.2f} ms CPU each",
            flush=True,
        )
        most = 1 if storm == "identical" else MOST_CASES
        failed |= not 1 <= row["cases"] <= most or row["seconds"] > MOST_SECONDS
    return int(failed)


STORMS = ("separate", "grouped", "identical")

if __name__ == "__main__":
    sys.exit(main())
