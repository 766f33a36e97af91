"""A loaded gateway, killed at moments chosen by chance; its long form is `benchmarks/crash.py`."""

import json
import subprocess
import sys

import pytest

from tests.gateway.world import ROOT


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_kill_9_under_load_loses_nothing(database: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "crash.py"), "--times", "5", "--database", database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    lost = ("executed_without_intent", "released_without_outcome", "failed_verifications", "still_open")
    assert [found[name] for name in lost] == [0, 0, 0, 0]
    assert found["kills"] == 5 and found["executed"] and found["released"]
