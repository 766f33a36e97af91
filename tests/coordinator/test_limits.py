"""Limits by tenant: who has as many cases under way as it may waits, and lets the others pass."""

import signal
from collections import Counter
from contextlib import closing

from coordinator.case_index import CaseIndex
from coordinator.types import Trigger


def test_a_case_beyond_its_tenants_limit_lets_those_of_others_pass(workspace):
    settings = workspace.folder / "pointsman.toml"
    told = "[coordinator]\nworkers = 4\ngather_seconds = 0\n[coordinator.limits]\ntenant = 1\n"
    settings.write_text(f"{told}{settings.read_text()}")
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
