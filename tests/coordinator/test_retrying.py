"""Going again from a step: it and what stands after it are done anew, an action only with a new approval."""

import pytest

from coordinator.cases import Go
from coordinator.errors import UsageError
from coordinator.gateway_client import GatewayClient
from coordinator.planning import findings_of
from coordinator.retrying import after, again_from
from coordinator.types import Trigger
from coordinator.workflows.reading import read_text

WORKFLOW = """
id: mending
name: Mending
owner: the tests
steps:
  - {id: one, tool: things__look, arguments: {n: 1}}
  - {id: side, tool: things__look, arguments: {n: 3}, after: []}
  - {id: mend, tool: things__mend, arguments: {n: 1}, after: [one]}
  - {id: two, tool: things__look, arguments: {n: 2}}
  - {id: report, deliver: report, after: [two, side]}
"""
POLICY = """
@id("mends") @description("The workflow mends once somebody agrees.") @advice("Wait.")
permit (principal == Agent::"mending", action in Action::"request", resource in Server::"things");
"""


def test_a_step_is_done_again_with_what_stands_after_it_and_an_action_is_asked_for_anew(workspace, run):
    (workspace.folder / "workflows").mkdir()
    (workspace.folder / "workflows" / "mending.yaml").write_text(WORKFLOW)
    (workspace.folder / "policy").mkdir()
    (workspace.folder / "policy" / "all.cedar").write_text(workspace.shipped_policy() + POLICY)
    opened = Trigger(kind="manual", title="mend", question="Mend it.", workflow="mending")

    async def act(runner, _):
        async def agree(result) -> str:
            [waiting] = result.waiting
            approval = waiting.actions[0].approval
            async with GatewayClient(runner.access, runner.access.person) as person:
                await person.read("gateway__grant_approval", {"id": approval, "reason": "mend it"})
            return approval

        halted = await runner.start(opened)
        first, case = await agree(halted), halted.case
        done = await runner.resume(case)
        assert done.report and not done.waiting
        assert sorted(workspace.looks()) == [1, 2, 3] and workspace.mends() == [1]

        halted = await runner.resume(case, Go(attempt=1, step="mend"))
        assert halted.report is None and workspace.mends() == [1]
        assert (await runner.resume(case, Go(attempt=1))).waiting == halted.waiting
        assert await agree(halted) != first
        again = await runner.resume(case, Go(attempt=1))
        assert again.report and not again.waiting
        assert sorted(workspace.looks()) == [1, 2, 2, 3] and workspace.mends() == [1, 1]
        assert len(again.report.provenance.approvals) == 2

        late = await runner.resume(case, Go(attempt=2, step="two"))
        assert late.report and sorted(workspace.looks()) == [1, 2, 2, 2, 3] and workspace.mends() == [1, 1]
        with pytest.raises(UsageError, match="it has one, side, mend, two, report"):
            await runner.resume(case, Go(attempt=3, step="three"))

    run(act)


def test_what_stands_after_a_step_is_whatever_waits_for_it():
    workflow = read_text(WORKFLOW).workflow
    assert after(workflow, "one") == ["one", "mend", "two", "report"]
    assert after(workflow, "side") == ["side", "report"]


def test_findings_and_parts_of_steps_to_be_done_again_are_withdrawn():
    found = {"specialist": "metrics", "status": "abstained", "summary": "Fine."}
    state = {
        "case": "INC-1",
        "trigger": {},
        "workflow": {"id": "mending", "version": "1", "text": WORKFLOW},
        "steps": {
            "one": {"status": "done"},
            "side": {"status": "running", "parts": ["0"]},
            "side/0": {"status": "done"},
            "two": {"status": "done"},
            "two#": {"status": "counted", "rounds": 3},
        },
        "findings": [{"task": "INC-1/two", **found}, {"task": "INC-1/one", **found}],
        "report": {"title": "old"},
    }
    update = again_from(state, "two")
    assert set(update["steps"]) == {"two", "two#", "side", "side/0"} and update["report"] is None
    left = findings_of({**state, "findings": state["findings"] + update["findings"]})
    assert [finding.task for finding in left] == ["INC-1/one"]
