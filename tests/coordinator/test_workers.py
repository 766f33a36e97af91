"""`pointsman worker`: several processes share the cases of one PostgreSQL database, and some of them die."""

import json
import select
import signal
import subprocess
from collections import Counter
from contextlib import closing

import pytest

from coordinator.case_index import CaseIndex
from coordinator.types import Trigger
from tests.coordinator.conftest import Workspace
from tests.databases import own_database, run_name, start_server

CASES = 8


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL server."""
    server = start_server(run_name())
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def shared(workspace: Workspace, postgres: str) -> Workspace:
    """A workspace whose cases are kept in a database of its own, with the gateway running."""
    url = own_database(postgres)
    settings = workspace.folder / "pointsman.toml"
    told = f'[coordinator]\ndatabase = "{url}"\nlease_seconds = 2\nworkers = 3\n'
    settings.write_text(f"{told}\n{settings.read_text()}")
    workspace.database = url
    workspace.start("gateway", "--port", "0")
    workspace.until((workspace.home / "gateway.json").exists)
    return workspace


def workers(workspace: Workspace, number: int) -> list[subprocess.Popen[str]]:
    """Start workers side by side and wait until each takes cases."""
    started = [workspace.start("worker", "--json") for _ in range(number)]
    for process in started:
        ready, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if ready else ""
        why = process.communicate(timeout=10)[1] if process.poll() is not None else "no line within 60 s"
        assert line, why
        assert json.loads(line)["at_once"] == 3
    return started


def test_every_case_ends_once_though_workers_are_killed_and_no_finished_call_is_made_again(shared):
    with closing(CaseIndex(shared.home, shared.database)) as index:
        opened = Trigger(kind="schedule", title="things break", question="What breaks?")
        keys = [f"tick {n}" for n in range(CASES)]
        cases = [index.open_once(opened, key)[0] for key in keys * 2]
        assert len(set(cases)) == CASES
        shared.close_door("4")
        team = workers(shared, 2)
        for n in range(2):
            shared.until(lambda n=n: shared.looks().count(4) > n)  # one is in the middle of its last call
            team[n].send_signal(signal.SIGKILL)
            team[n].wait()
        team = workers(shared, 1)
        shared.open_door("4")
        shared.until(lambda: Counter(row.status for row in index.list()) == {"delivered": CASES})
        for process in team:
            process.send_signal(signal.SIGTERM)
        for process in team:
            assert process.wait(60) == 0, process.stderr.read()
        assert index.in_queue() == set() and index.alive(60) == set()
        assert index.report(cases[0]).case == cases[0]
    made = Counter(shared.looks())
    assert (made[1], made[2], made[3]) == (CASES, CASES, CASES)
    assert shared.run("audit", "verify").returncode == 0
