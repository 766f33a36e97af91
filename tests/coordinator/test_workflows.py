"""A workflow file runs through the real gateway: steps, gates, checkpoints, edits, repeats, old versions."""

import json
import signal

import pytest

from coordinator.commands import at_stake
from coordinator.gateway_client import GatewayClient
from coordinator.workflows.commands import by_hand

HEAD = "id: repair\nname: Repair\nowner: workshop\ninputs: {n: integer}\nsteps:\n"
BROKEN = "thing {} is broken since 2026-01-31T09:12:00Z"
LOOK = """\
  - id: look
    tool: things__look
    arguments: {n: inputs.n}
    outputs: {words: {type: string, value: text}}
"""


@pytest.fixture
def write(workspace):
    """Write workflows/repair.yaml from its steps."""

    def write(steps: str, head: str = HEAD) -> None:
        folder = workspace.folder / "workflows"
        folder.mkdir(exist_ok=True)
        (folder / "repair.yaml").write_text(head + steps)

    return write


def opened(runner, **inputs):
    return by_hand(runner.workflows.get("repair").workflow, inputs)


async def decide(runner, result, tool="gateway__grant_approval", **more):
    """A person's own word on what waits."""
    [waiting] = result.waiting
    [action] = waiting.actions
    async with GatewayClient(runner.access, runner.access.person) as person:
        return await person.read(tool, {"id": action.approval, "reason": "looked at it", **more})


def add_rule(workspace, rule):
    """Decide by the shipped policy and this rule."""
    policy = workspace.folder / "policy"
    policy.mkdir()
    (policy / "more.cedar").write_text(rule)
    (policy / "default.cedar").write_text(workspace.shipped_policy())
    toml = workspace.folder / "pointsman.toml"
    toml.write_text(toml.read_text().replace("port = 0", 'port = 0\npolicy = "policy"'))


def lines(result):
    return {line.step: (line.status, line.text) for line in result.report.steps}


def test_tools_are_called_with_what_earlier_steps_left(run, workspace, write):
    write(
        LOOK
        + "  - id: judged\n    gate: rule\n    value: look.words.contains('broken')\n"
        + "  - id: told\n    deliver: report\n    shows: {Said: look.words, Number: inputs.n}\n"
    )
    result = run(lambda runner, _: runner.start(opened(runner, n="7")))
    assert workspace.looks() == [7] and result.waiting == ()
    assert (result.report.outcome, result.report.workflow) == ("done", "repair")
    assert result.report.shows == {"Said": "thing 7 is broken since 2026-01-31T09:12:00Z", "Number": 7}
    assert lines(result)["judged"][0] == "done" and result.report.version


def test_a_gate_that_halts_stops_what_comes_after_and_the_rest_goes_on(run, workspace, write):
    write(
        LOOK
        + "  - {id: limit, gate: volume, value: double(inputs.n), most: 5, otherwise: halt, "
        + "text: Too many.}\n"
        + "  - {id: again, tool: things__look, arguments: {n: inputs.n + 100}}\n"
        + "  - {id: aside, tool: things__look, arguments: {n: inputs.n + 200}, after: [look]}\n"
        + "  - {id: told, deliver: report, after: [aside]}\n"
    )
    result = run(lambda runner, _: runner.start(opened(runner, n=7)))
    assert workspace.looks() == [7, 207]
    assert result.report.outcome == "halted"
    assert lines(result)["limit"] == ("halted", "Too many.")
    assert lines(result)["again"] == ("stopped", "limit did not pass")


def test_a_doubt_waits_for_a_person_who_sees_the_figures(run, workspace, write):
    write(
        LOOK
        + "  - {id: limit, gate: volume, value: double(inputs.n), most: 5}\n"
        + "  - {id: again, tool: things__look, arguments: {n: inputs.n + 100}}\n"
        + "  - {id: told, deliver: report}\n"
    )

    async def act(runner, _):
        asked = await runner.start(opened(runner, n=7))
        assert workspace.looks() == [7]
        seen = await decide(runner, asked)
        return seen, await runner.resume(asked.case)

    seen, done = run(act)
    assert seen["arguments"]["shows"] == {"gate": "volume", "value": 7.0, "least": None, "most": 5.0}
    assert workspace.looks() == [7, 107] and done.report.outcome == "done"
    left = done.state["steps"]["limit"]["outputs"]
    assert (left["outcome"], left["decision"], left["reason"]) == ("doubt", "approved", "looked at it")
    assert [d.gate for d in done.report.gates] == []


def test_a_checkpoint_takes_an_edit_of_the_right_type_and_no_other(run, workspace, write):
    write(
        LOOK
        + "  - id: release\n    checkpoint: Look again?\n    shows: {m: inputs.n + 1, words: look.words}\n"
        + "    edit: {m: integer}\n"
        + "  - {id: again, tool: things__look, arguments: {n: release.m}}\n"
        + "  - {id: told, deliver: report}\n"
    )

    async def act(runner, _):
        asked = await runner.start(opened(runner, n=1))
        [action] = asked.waiting[0].actions
        assert runner.index.waiting() == {asked.case: {action.approval}}  # any engine goes on with it
        assert at_stake(action) == ["m: 2 (change it with --edit m=VALUE)", "words: " + BROKEN.format(1)]
        shown = workspace.run("cases", "show", asked.case).stdout
        assert f"waits for a person: pointsman approvals show {action.approval}" in shown
        shown = workspace.run("approvals", "show", action.approval).stdout
        assert "Look again?" in shown and "m: 2 (--edit m=VALUE changes it)" in shown
        for wrong in ({"m": "many"}, {"words": "other"}, {"m": True}):
            with pytest.raises(Exception, match=r"cannot be changed|is of type integer"):
                await decide(runner, asked, edit=wrong)
        await decide(runner, asked, edit={"m": 30})
        done = await runner.resume(asked.case)
        assert runner.index.waiting() == {}
        return done

    done = run(act)
    assert workspace.looks() == [1, 30]
    assert lines(done)["release"][1].startswith("approved by user:")


@pytest.mark.parametrize(
    ("then", "looks", "outcome"), [("stop", [1], "rejected"), ("continue", [1, 2], "rejected")]
)
def test_a_rejection_stops_or_is_taken_into_account(run, workspace, write, then, looks, outcome):
    write(
        LOOK
        + f"  - {{id: release, checkpoint: Look again, on_reject: {then}}}\n"
        + "  - {id: again, tool: things__look, arguments: {n: inputs.n + 1}}\n"
        + "  - {id: told, deliver: report, after: [look]}\n"
    )

    async def act(runner, _):
        asked = await runner.start(opened(runner, n=1))
        await decide(runner, asked, "gateway__deny_approval")
        return await runner.resume(asked.case)

    assert run(act).state["steps"]["release"]["outputs"]["reason"] == "looked at it"
    assert workspace.looks() == looks


def test_what_changes_things_waits_for_consent_and_runs_once(run, workspace, write):
    write("  - {id: mend, tool: things__mend, arguments: {n: inputs.n}}\n  - {id: told, deliver: report}\n")
    add_rule(workspace, 'permit (principal == Agent::"repair", action in Action::"request", resource);')

    async def act(runner, _):
        asked = await runner.start(opened(runner, n=4))
        assert workspace.mends() == []
        await decide(runner, asked)
        done = await runner.resume(asked.case)
        return done, await runner.resume(asked.case)

    done, _ = run(act)
    assert workspace.mends() == [4] and done.report.outcome == "done"


def test_each_of_a_list_and_again_while_it_is_wanted(run, workspace, write):
    write(
        "  - id: each\n    tool: things__look\n    foreach: '[1, 2, 3]'\n"
        + "    arguments: {n: item * inputs.n}\n"
        + "  - id: once\n    tool: things__look\n    arguments: {n: 100}\n"
        + "  - id: fails\n    tool: things__look\n    arguments: {n: \"'many'\"}\n    on_error: continue\n"
        + "  - {id: told, deliver: report}\n"
    )
    result = run(lambda runner, _: runner.start(opened(runner, n=10)))
    assert sorted(workspace.looks()) == [10, 20, 30, 100]
    assert result.state["steps"]["each"]["outputs"]["failed"] == 0
    assert lines(result)["fails"][0] == "failed" and result.report.outcome == "failed"


def test_a_case_ends_under_the_version_it_began_with(run, workspace, write):
    write(
        LOOK + "  - {id: release, checkpoint: Go on}\n  - {id: told, deliver: report, title: \"'first'\"}\n"
    )

    async def act(runner, _):
        asked = await runner.start(opened(runner, n=1))
        write(LOOK + "  - {id: told, deliver: report, title: \"'second'\"}\n")
        other = await runner.start(opened(runner, n=2))
        await decide(runner, asked)
        return await runner.resume(asked.case), other

    old, new = run(act)
    assert (old.report.title, new.report.title) == ("first", "second")
    assert old.report.version != new.report.version


def test_a_case_cut_off_in_a_step_goes_on_and_repeats_nothing(workspace, write):
    write(
        LOOK + "  - {id: slow, tool: things__look, arguments: {n: 2}}\n" + "  - {id: told, deliver: report}\n"
    )
    workspace.start("gateway", "--port", "0")
    workspace.until((workspace.home / "gateway.json").exists)
    workspace.close_door("2")
    first = workspace.start("workflows", "run", "repair", "--input", "n=1")
    workspace.until(lambda: workspace.looks() == [1, 2])
    first.send_signal(signal.SIGKILL)
    first.wait()
    workspace.open_door("2")
    result = json.loads(workspace.run("cases", "resume", workspace.case(), "--json").stdout)
    assert (result["status"], result["report"]["outcome"]) == ("delivered", "done")
    assert workspace.looks().count(1) == 1


def test_what_comes_after_a_failed_step_is_stopped_all_along_the_way(run, workspace, write):
    write(
        "  - {id: fails, tool: things__look, arguments: {n: \"'many'\"}}\n"
        + "  - {id: calm, gate: rule, value: fails.call == ''}\n"
        + "  - {id: again, tool: things__look, arguments: {n: inputs.n}}\n"
        + "  - {id: told, deliver: report, title: \"'Call ' + fails.call\"}\n"
    )
    result = run(lambda runner, _: runner.start(opened(runner, n=1)))
    assert {name: record["status"] for name, record in result.state["steps"].items()} == {
        "fails": "failed",
        "calm": "stopped",
        "again": "stopped",
        "told": "done",
    }
    assert workspace.looks() == []


def test_where_several_persons_have_to_agree_none_of_them_changes_what_the_others_saw(run, workspace, write):
    write("  - {id: release, checkpoint: Go on, shows: {m: inputs.n}, edit: {m: integer}}\n")
    action = 'Action::"request/gateway__pass_checkpoint"'
    add_rule(workspace, f'@approvals("2") permit (principal is Agent, action == {action}, resource);')

    async def act(runner, _):
        asked = await runner.start(opened(runner, n=1))
        with pytest.raises(Exception, match="needs 2 persons, who have to agree to the same"):
            await decide(runner, asked, edit={"m": 30})
        return await decide(runner, asked)

    assert (run(act)["status"], workspace.looks()) == ("pending", [])
