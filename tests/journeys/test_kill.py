"""kill -9 in the middle of a case: it is resumed, ends right, and nothing that had finished runs again."""

import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

from tests.journeys.conftest import INCIDENT, POINTSMAN

RECORDING = str(INCIDENT / "recording")


def begin(person, *command):
    """Start a command and give the process, whose progress can be read line by line."""
    return subprocess.Popen(
        [POINTSMAN, *command],
        cwd=person.directory,
        env=person.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process, words):
    """Read its progress up to a line with these words."""
    for line in process.stderr:
        if re.search(words, line):
            return
    raise AssertionError(f"it ended without saying {words!r}")


def gateway_pid(person):
    return json.loads(Path(person.environment["POINTSMAN_HOME"], "gateway.json").read_text())["pid"]


def test_a_case_cut_off_twice_by_kill_ends_right_and_repeats_nothing_finished(person, truth):
    command, case = ["triage", RECORDING], ""
    # In the middle of a task; when some have finished.
    for moment, victim in (("· traces: traces__", "coordinator"), ("✓ changes", "gateway")):
        process = begin(person, *command)
        until(process, moment)
        pid = process.pid if victim == "coordinator" else gateway_pid(person)
        os.kill(pid, signal.SIGKILL)
        said = process.stderr.read()
        code = process.wait(timeout=120)
        process.stderr.close()
        if victim == "gateway":
            assert code == 5 and "pointsman cases resume" in said and "Traceback" not in said
        case = person.json("cases", "list")[0]["id"]
        command = ["cases", "resume", case]

    report = person.json("cases", "resume", case)["report"]
    assert truth["cause"]["commit"] in report["hypotheses"][0]["object"]
    assert person.json("audit", "verify")["ok"] is True

    records = person.records(case=case)
    finished = set()
    for record in records:
        name = (record["subject"], record.get("key"))
        if record["kind"] == "intent" and record.get("key"):
            assert name not in finished, f"{record['tool']} ran again although it had finished"
        if record["kind"] == "outcome" and record["status"] in ("ok", "error"):
            finished.add(name)

    access = Path(person.environment["POINTSMAN_HOME"], "tools", "access.log").read_text()
    ran = Counter(json.loads(line)["server"] for line in access.splitlines())
    meant = Counter(r["server"] for r in person.records(kind="intent") if r["server"] != "gateway")
    assert ran - meant == Counter(), "a server ran something that the ledger does not know"
