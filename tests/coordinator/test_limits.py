"""Limits by workflow and by tenant, and priorities: who has as many as it may waits and lets others pass."""

import signal
import sqlite3
from collections import Counter
from contextlib import closing

from coordinator.case_index import CaseIndex
from coordinator.types import Trigger


def look(workspace, id_: str, n: int, told: str = "") -> None:
    """A workflow file that looks at thing n."""
    folder = workspace.folder / "workflows"
    folder.mkdir(exist_ok=True)
    steps = f"steps:\n  - {{id: look, tool: things__look, arguments: {{n: {n}}}}}\n"
    (folder / f"{id_}.yaml").write_text(f"id: {id_}\nname: Look\nowner: the tests\n{told}{steps}")


def allow(workspace, limits: str) -> None:
    """Set how much may run at once."""
    settings = workspace.folder / "pointsman.toml"
    told = (
        f"[coordinator]\nworkers = 4\nlease_seconds = 1\ngather_seconds = 0\n[coordinator.limits]\n{limits}\n"
    )
    settings.write_text(f"{told}{settings.read_text()}")


def claimed(workspace) -> Counter[str]:
    """How many legs of each queue are in the hands of the process, running or waiting for a place in it."""
    with closing(sqlite3.connect(workspace.home / "engine.db")) as db:
        return Counter(
            name for (name,) in db.execute("SELECT queue_name FROM workflow_status WHERE status = 'PENDING'")
        )


def test_a_case_beyond_its_tenants_limit_lets_those_of_others_pass(workspace):
    allow(workspace, "tenant = 1")
    workspace.close_door("1")
    with closing(CaseIndex(workspace.home)) as index:
        cases = []
        for n, tenant in enumerate(("acme", "acme", "bolt", "")):
            opened = Trigger(kind="manual", title="look", question="What breaks?", tenant=tenant)
            cases.append(index.open_once(opened, f"case {n}")[0])
        up = workspace.start("up", "--port", "0")
        workspace.until(lambda: workspace.looks() == [1, 1, 1])
        standing = [index.get(case).status for case in cases]
        assert Counter(standing[:2]) == {"running": 1, "queued": 1} and standing[2:] == ["running"] * 2
        workspace.open_door("1")
        workspace.until(lambda: {index.get(case).status for case in cases} == {"delivered"})
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0, up.stderr.read()
    assert Counter(workspace.looks()) == {1: 4, 2: 4, 3: 4, 4: 4}


def test_the_stricter_limit_of_file_and_settings_holds_and_the_most_urgent_gets_the_next_place(workspace):
    allow(workspace, "workflow = {one-set = 1}\ntenant = 3")
    look(workspace, "one-set", 1, "limits: {at_once: 2}\n")
    look(workspace, "one-told", 2, "limits: {at_once: 1}\n")
    look(workspace, "one-each", 3, "limits: {tenant: 1}\n")
    look(workspace, "filler", 4)
    look(workspace, "patient", 5, "priority: low\n")
    look(workspace, "urgent", 6, "priority: critical\n")
    for n in range(1, 7):
        workspace.close_door(str(n))
    limited = ("one-set", "one-told", "one-each")
    with closing(CaseIndex(workspace.home)) as index:

        def open_cases(*workflows: str) -> list[str]:
            known = len(index.list())
            told = [
                Trigger(kind="manual", title="look", question="", workflow=w, tenant="acme")
                for w in workflows
            ]
            return [index.open_once(each, f"case {known + n}")[0] for n, each in enumerate(told)]

        cases = open_cases(*limited, *limited, "filler")
        up = workspace.start("up", "--port", "0")
        workspace.until(lambda: sorted(workspace.looks()) == [1, 2, 3, 4])
        for first, second in zip(cases[:3], cases[3:6], strict=True):
            assert {index.get(first).status, index.get(second).status} == {"running", "queued"}
        for later in ("patient", "urgent"):
            cases += open_cases(later)
            workspace.until(lambda later=later: f"cases-{later}" in claimed(workspace))
        assert set(claimed(workspace).values()) == {1}
        workspace.open_door("4")
        workspace.until(lambda: len(workspace.looks()) == 5)
        assert workspace.looks()[-1] == 6
        for n in (1, 2, 3, 5, 6):
            workspace.open_door(str(n))
        workspace.until(lambda: {index.get(case).status for case in cases} == {"delivered"})
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0, up.stderr.read()
    assert Counter(workspace.looks()) == {1: 2, 2: 2, 3: 2, 4: 1, 5: 1, 6: 1}
