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


CHAIN = """
id: chain
name: Chain
owner: the tests
steps:
  - {id: one, tool: things__look, arguments: {n: 1}}
  - {id: two, tool: things__look, arguments: {n: 2}}
  - {id: three, tool: things__look, arguments: {n: 3}}
  - {id: report, deliver: report}
"""


def test_a_chain_of_calls_goes_on_at_the_one_that_was_cut_off(workspace):
    (workspace.folder / "workflows").mkdir()
    (workspace.folder / "workflows" / "chain.yaml").write_text(CHAIN)
    workspace.close_door("3")
    first = workspace.start("workflows", "run", "chain")
    workspace.until(lambda: 3 in workspace.looks())
    first.send_signal(signal.SIGKILL)
    first.wait()
    workspace.open_door("3")

    resumed = workspace.run("cases", "resume", workspace.case(), "--json")

    assert resumed.returncode == 0, resumed.stderr
    told = json.loads(resumed.stdout)
    assert [step["status"] for step in told["report"]["steps"]] == ["done"] * 3
    made = Counter(workspace.looks())
    assert (made[1], made[2]) == (1, 1)  # finished, and neither checkpoint nor ledger lets them run again
    exported = workspace.run("audit", "export", "--jsonl").stdout.splitlines()
    records = [json.loads(line) for line in exported]
    issued = [r["body"] for r in records if r["kind"] == "token" and r["body"]["for"] == "agent:chain"]
    assert [body["task"] for body in issued] == [f"{told['case']}/chain"] * 2  # one for each run of the case
    steps = [r["body"]["step"] for r in records if r.get("step") == "step"]
    assert steps == ["one", "two", "three"]


def test_a_case_goes_on_after_the_gateway_was_killed(workspace):
    gateway = workspace.start("gateway", "--port", "0")
    about = workspace.home / "gateway.json"
    workspace.until(about.exists)
    workspace.close_door("3")
    first = workspace.start("triage", "alert.json")
    workspace.until(lambda: 3 in workspace.looks())
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    said = first.communicate(timeout=120)[1]
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
