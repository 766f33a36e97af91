"""An action waits for a person, runs once when granted, and never when denied."""

import json
import signal

import pytest

from coordinator.gateway_client import GatewayClient


@pytest.fixture(autouse=True)
def mender(workspace):
    """Something that can be mended, and a specialist that proposes it."""
    workspace.serve("things", "actions")
    workspace.use(probe="Probe", remediation="Mender")


async def decide(runner, result, tool):
    """A person's own word on the one action that waits."""
    [proposal] = result.report.proposals
    assert proposal.action.status == "pending"
    async with GatewayClient(runner.access, runner.access.person) as person:
        await person.read(tool, {"id": proposal.action.approval, "reason": "as proposed"})


def test_a_granted_action_runs_once_and_the_report_tells_recovery(workspace, run):
    async def act(runner, opened):
        asked = await runner.start(opened)
        assert [w.kind for w in asked.waiting] == ["approval"]
        assert (await runner.resume(asked.case)).waiting and workspace.mends() == []  # nobody decided yet
        await decide(runner, asked, "gateway__grant_approval")
        done = await runner.resume(asked.case)
        return done, await runner.resume(asked.case)

    done, again = run(act)
    assert workspace.mends() == [1]
    assert done.waiting == () and done.report.outcome == "recovered"
    assert done.report.proposals[0].decided_by.startswith("user:")
    assert again.report == done.report


def test_a_denied_action_never_runs_and_the_report_says_so(workspace, run):
    async def act(runner, opened):
        asked = await runner.start(opened)
        await decide(runner, asked, "gateway__deny_approval")
        return await runner.resume(asked.case)

    result = run(act)
    assert workspace.mends() == [] and result.waiting == ()
    assert result.report.proposals[0].action.status == "denied"


def test_nobody_is_asked_to_act_on_a_cause_that_is_hardly_likely(workspace, run):
    workspace.use(probe="Unsure", remediation="Mender")
    result = run(lambda runner, opened: runner.start(opened))
    assert result.waiting == ()
    assert [p.action.status for p in result.report.proposals] == ["proposed"]


def test_an_action_cut_off_by_a_crash_is_not_done_again_without_a_new_word(workspace):
    workspace.start("gateway", "--port", "0")
    workspace.until((workspace.home / "gateway.json").exists)
    asked = json.loads(workspace.run("triage", "alert.json", "--json").stdout)
    [before] = asked["report"]["proposals"]
    assert (
        workspace.run("approvals", "grant", before["action"]["approval"], "--reason", "yes").returncode == 0
    )
    workspace.close_door("mend-1")
    first = workspace.start("cases", "resume", asked["case"])
    workspace.until(lambda: workspace.mends() == [1])
    first.send_signal(signal.SIGKILL)
    first.wait()
    # The gateway sees the caller's connection end and cuts the call off; only then may the tool go on.
    workspace.until(
        lambda: '"cancelled"' in workspace.run("audit", "search", "--status", "cancelled", "--json").stdout
    )
    workspace.open_door("mend-1")

    result = json.loads(workspace.run("cases", "resume", asked["case"], "--json").stdout)

    assert workspace.mends() == [1]
    [after] = result["report"]["proposals"]
    assert (result["status"], after["action"]["status"]) == ("waiting", "pending")
    assert after["action"]["approval"] != before["action"]["approval"]


def test_gateway_and_coordinator_may_both_die_while_a_person_thinks(workspace):
    gateway = workspace.start("gateway", "--port", "0")
    workspace.until((workspace.home / "gateway.json").exists)
    asked = json.loads(workspace.run("triage", "alert.json", "--json").stdout)  # this coordinator has ended
    [proposal] = asked["report"]["proposals"]
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()

    granted = workspace.run("approvals", "grant", proposal["action"]["approval"], "--reason", "as proposed")
    assert granted.returncode == 0, granted.stderr
    assert workspace.mends() == []
    first = json.loads(workspace.run("cases", "resume", asked["case"], "--json").stdout)
    again = json.loads(workspace.run("cases", "resume", asked["case"], "--json").stdout)

    assert workspace.mends() == [1]
    assert first["report"]["outcome"] == "recovered" and again["report"] == first["report"]
    assert json.loads(workspace.run("audit", "verify", "--json").stdout)["ok"]
