"""A case survives kill -9 of the coordinator or of the gateway; finished tool calls are not made again."""

import json
import signal
from collections import Counter


def test_a_case_goes_on_after_kill_9_and_repeats_no_finished_call(workspace):
    workspace.close_door("3")
    first = workspace.start("triage", "alert.json")
    workspace.until(lambda: 3 in workspace.looks())
    first.send_signal(signal.SIGKILL)
    first.wait()
    workspace.open_door("3")

    case = workspace.case()
    resumed = workspace.run("cases", "resume", case, "--json")

    assert resumed.returncode == 0, resumed.stderr
    report = json.loads(resumed.stdout)["report"]
    assert report["hypotheses"][0]["object"] == "service/thing"
    made = Counter(workspace.looks())
    assert (made[1], made[2], made[4]) == (1, 1, 1)  # only the call that was cut off may run again
    verified = workspace.run("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_case_goes_on_after_the_gateway_was_killed(workspace):
    gateway = workspace.start("gateway", "--port", "0")
    about = workspace.home / "gateway.json"
    workspace.until(about.exists)
    workspace.close_door("3")
    first = workspace.start("triage", "alert.json")
    workspace.until(lambda: 3 in workspace.looks())
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    said = first.communicate(timeout=60)[1]
    assert first.returncode == 5
    assert "cases resume" in said.splitlines()[-1]
    workspace.open_door("3")

    resumed = workspace.run("cases", "resume", workspace.case(), "--json")

    assert resumed.returncode == 0, resumed.stderr
    made = Counter(workspace.looks())
    assert (made[1], made[2], made[4]) == (1, 1, 1)


def test_resuming_a_finished_case_does_nothing_again(workspace):
    done = workspace.run("triage", "alert.json", "--json")
    assert done.returncode == 0, done.stderr
    again = workspace.run("cases", "resume", json.loads(done.stdout)["case"], "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["report"] == json.loads(done.stdout)["report"]
    assert workspace.looks() == [1, 2, 3, 4]
