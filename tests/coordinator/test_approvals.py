"""An action waits for a person, runs once when granted, and never when denied."""

import json
import signal

import pytest


@pytest.fixture
def waiting(workspace):
    """A case whose action waits for a person, and the gateway that runs meanwhile."""
    workspace.use(probe="Probe", remediation="Mender")
    workspace.start("gateway", "--port", "0")
    workspace.until((workspace.home / "gateway.json").exists)
    done = workspace.run("triage", "alert.json", "--json")
    assert done.returncode == 0, done.stderr
    workspace.result = json.loads(done.stdout)
    return workspace


def approval(workspace) -> str:
    [proposal] = workspace.result["report"]["proposals"]
    assert proposal["action"]["status"] == "pending"
    return proposal["action"]["approval"]


def resumed(workspace) -> dict:
    done = workspace.run("cases", "resume", workspace.result["case"], "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_granted_action_runs_once_and_the_report_tells_recovery(waiting):
    assert waiting.result["status"] == "waiting" and waiting.mends() == []
    assert resumed(waiting)["status"] == "waiting"  # nobody decided: nothing moves
    assert waiting.run("approvals", "grant", approval(waiting)).returncode == 0

    result = resumed(waiting)

    assert waiting.mends() == [1]
    assert result["status"] == "delivered" and result["report"]["outcome"] == "recovered"
    assert result["report"]["proposals"][0]["decided_by"].startswith("user:")
    assert resumed(waiting)["report"] == result["report"] and waiting.mends() == [1]


def test_a_denied_action_never_runs_and_the_report_says_so(waiting):
    assert waiting.run("approvals", "deny", approval(waiting)).returncode == 0
    result = resumed(waiting)
    assert waiting.mends() == []
    assert result["status"] == "delivered"
    assert result["report"]["proposals"][0]["action"]["status"] == "denied"


def test_an_action_cut_off_by_a_crash_is_not_done_again_without_a_new_word(waiting):
    asked = approval(waiting)
    assert waiting.run("approvals", "grant", asked).returncode == 0
    waiting.close_door("mend-1")
    first = waiting.start("cases", "resume", waiting.result["case"])
    waiting.until(lambda: waiting.mends() == [1])
    first.send_signal(signal.SIGKILL)
    first.wait()
    waiting.open_door("mend-1")

    result = resumed(waiting)

    assert waiting.mends() == [1]
    [proposal] = result["report"]["proposals"]
    assert (result["status"], proposal["action"]["status"]) == ("waiting", "pending")
    assert proposal["action"]["approval"] != asked
