"""What it costs to have a specialist in another process: the same tasks in both places, in turn, in one run.

    python benchmarks/remote.py [--specialist logs] [--tasks 20]

Wall time is that of a task; CPU is that of everything that works for it: this process, the agent, the gateway
and its tool servers. Every task has a token and an id of its own, so nothing is answered from the past.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from coordinator import trigger
from coordinator.private_gateway import bundled_recording
from coordinator.session import open_session
from specialists.evidence import investigate_checked
from specialists.roster import Roster
from specialists.settings import Remote, SpecialistsSettings
from specialists.types import Finding, Task

TOKEN = "a-token-of-the-benchmark"
WARM = 3


@contextmanager
def agent(name: str) -> Any:
    """The specialist served by another process; gives its URL and process id."""
    reading, writing = os.pipe()
    pointsman = str(Path(sys.executable).with_name("pointsman"))
    command = [pointsman, "specialists", "serve", name, "--port", "0", "--ready-fd", str(writing)]
    process = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as ready:
            yield json.loads(ready.readline())["url"], process.pid
    finally:
        process.terminate()
        process.wait()


def cpu() -> float:
    """Seconds of CPU of this process and of all its descendants so far, counted by the scheduler in ns."""
    me = psutil.Process()
    pids = [each.pid for each in (me, *me.children(recursive=True))]
    threads = [entry for pid in pids for entry in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((entry / "schedstat").read_text().split()[0]) for entry in threads) / 1e9


async def measure(name: str, tasks: int, url: str) -> dict[str, Any]:
    """Wall and CPU milliseconds of each task in both places."""
    recording = bundled_recording()
    assert recording is not None
    opened = trigger.from_recording(recording)
    settings = SpecialistsSettings(specialists={name: Remote(mode="remote", url=url)})
    here, there = Roster(SpecialistsSettings()).specialist(name), Roster(settings).specialist(name)
    figures: dict[str, Any] = {"local": [], "remote": []}
    async with (
        open_session(None, recording) as session,
        session.runner.desk(case := session.runner.index.open_case(opened)) as desk,
    ):
        for n in range(tasks + WARM):
            for place, specialist in (("local", here), ("remote", there)):
                id_ = f"{case}/{place}-{n}/{name}"
                task = Task(id=id_, case=case, specialist=name, question=opened.question, scope=opened.scope)
                async with desk.toolbox(name, id_) as toolbox:
                    before, started = cpu(), time.perf_counter()
                    events = [event async for event in investigate_checked(specialist, task, toolbox)]
                    took, used = time.perf_counter() - started, cpu() - before
                found = events[-1]
                assert isinstance(found, Finding) and found.status != "failed" and found.mode == place, found
                if n >= WARM:
                    figures[place].append((took * 1e3, used * 1e3))
        calls, cited = found.calls, len({e.call for c in found.claims for e in c.evidence})
    return {"figures": figures, "calls": calls, "cited": cited}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--specialist", default="logs")
    options.add_argument("--tasks", type=int, default=20)
    given = options.parse_args()
    os.environ["POINTSMAN_SPECIALIST_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"POINTSMAN_HOME": f"{home}/home", "XDG_STATE_HOME": f"{home}/state"}
        with agent(given.specialist) as (url, _):
            measured = asyncio.run(measure(given.specialist, given.tasks, url))
    shown: dict[str, tuple[float, float]] = {}
    for place, rows in measured["figures"].items():
        walls, used = zip(*rows, strict=True)
        shown[place] = statistics.median(walls), statistics.median(used)
    print(
        f"{given.specialist}: {given.tasks} tasks each, {measured['calls']} calls, {measured['cited']} cited"
    )
    for place, (wall, used) in shown.items():
        print(f"{place:<7} {wall:7.1f} ms wall (median)  {used:7.1f} ms CPU (median)")
    over = [there - here for here, there in zip(shown["local"], shown["remote"], strict=True)]
    print(f"{'over':<7} {over[0]:7.1f} ms wall           {over[1]:7.1f} ms CPU")


if __name__ == "__main__":
    main()
