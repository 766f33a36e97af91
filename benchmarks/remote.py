"""What it costs to have a specialist in another process: the same task in both places, pair by pair.

    python benchmarks/remote.py [--specialist logs] [--tasks 20]

Wall time is that of a task; CPU is that of everything that works for it meanwhile: this process, the agent,
the gateway and its tool servers. `over` is what the remote task of a pair took more than the local one: the
mean of the middle half of the pairs, for each column by itself, so that what else the machine does in one
task of twenty does not count. Which place goes first changes with each pair. The tool servers do the same
work for both: their column of `over` is the noise that is left.

Not counted are starting up and the first three pairs, in which connections are opened, the agent's card is
fetched and code is loaded. All that a task costs each time is counted, from the request to the checked
finding. Every task has a token and an id of its own, so nothing is answered from the past.
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
from collections import Counter
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


class Processes:
    """This process and its descendants, by what each does."""

    def __init__(self, agent: int) -> None:
        self.what = {os.getpid(): "coordinator", agent: "agent"}
        for each in psutil.Process().children(recursive=True):
            words = " ".join(each.cmdline())
            what = "gateway" if "gateway" in words else "tools" if "tool_servers" in words else "other"
            self.what.setdefault(each.pid, what)

    def cpu(self) -> Counter[str]:
        """Milliseconds of CPU of each so far, counted by the scheduler in ns."""
        used: Counter[str] = Counter()
        for pid, what in self.what.items():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                used[what] += int((thread / "schedstat").read_text().split()[0]) / 1e6
        return used


async def measure(name: str, tasks: int, url: str, pid: int) -> dict[str, Any]:
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
        processes = Processes(pid)
        for n in range(tasks + WARM):
            places = [("local", here), ("remote", there)]
            for place, specialist in places if n % 2 else reversed(places):
                id_ = f"{case}/{place}-{n}/{name}"
                task = Task(id=id_, case=case, specialist=name, question=opened.question, scope=opened.scope)
                async with desk.toolbox(name, id_) as toolbox:
                    before, started = processes.cpu(), time.perf_counter()
                    events = [event async for event in investigate_checked(specialist, task, toolbox)]
                    took, after = time.perf_counter() - started, processes.cpu()
                found = events[-1]
                assert isinstance(found, Finding) and found.status != "failed" and found.mode == place, found
                if n >= WARM:
                    used = {what: after[what] - before[what] for what in after}
                    figures[place].append({"wall": took * 1e3} | used)
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
        with agent(given.specialist) as (url, pid):
            measured = asyncio.run(measure(given.specialist, given.tasks, url, pid))
    local, remote = measured["figures"]["local"], measured["figures"]["remote"]
    print(
        f"{given.specialist}: {given.tasks} tasks each, {measured['calls']} calls, {measured['cited']} cited"
    )
    over = [
        {what: there[what] - here[what] for what in here} for here, there in zip(local, remote, strict=True)
    ]
    for place, rows in (("local", local), ("remote", remote), ("over", over)):
        row = {what: middle([each[what] for each in rows]) for what in rows[0]}
        used = {what: ms for what, ms in row.items() if what != "wall"}
        parts = ", ".join(f"{what} {ms:.1f}" for what, ms in used.items())
        print(f"{place:<7} {row['wall']:7.1f} ms wall  {sum(used.values()):7.1f} ms CPU ({parts})")
    print(f"without the tool servers: over {sum(used.values()) - used['tools']:.1f} ms CPU")


def middle(values: list[float]) -> float:
    """The mean of the middle half."""
    out = len(values) // 4
    return statistics.fmean(sorted(values)[out : len(values) - out])


if __name__ == "__main__":
    main()
