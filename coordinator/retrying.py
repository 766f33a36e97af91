"""Takes a case back to one of its steps: that one and what stands after it are to be done again."""

from __future__ import annotations

from typing import Any

from coordinator.errors import UsageError
from coordinator.planning import FINAL, task_id, workflow_of
from coordinator.types import CaseState, StepRecord
from coordinator.workflows.model import DeliverStep, Workflow


def again_from(state: CaseState, step: str) -> dict[str, Any]:
    """What changes in the state of a case: the records of steps to be done again are empty, their findings
    and the report withdrawn. All else stays: outputs of other steps, decisions, verdict.

    What had not finished is done again too, since its calls are made under the keys of a new attempt.
    """
    workflow, records = workflow_of(state), state.get("steps", {})
    again = set(after(workflow, step)) | {
        name.partition("/")[0]
        for name, record in records.items()
        if record["status"] not in FINAL and "#" not in name and record["status"]
    }
    gone = [name for name in records if name.partition("/")[0].partition("#")[0] in again]
    tasks = {task_id(state["case"], name) for name in gone}
    update: dict[str, Any] = {
        "steps": {name: StepRecord(status="") for name in gone},
        "findings": [
            {"task": task, "withdrawn": True}
            for task in sorted({finding["task"] for finding in state.get("findings", [])} & tasks)
        ],
        "due": {},
    }
    if any(isinstance(each, DeliverStep) and each.id in again for each in workflow.steps):
        update["report"] = None
    return update


def after(workflow: Workflow, step: str) -> list[str]:
    """A step and every one that waits for it, directly or not; UsageError when there is no such step."""
    names = [each.id for each in workflow.steps]
    if step not in names:
        raise UsageError(
            f"{workflow.id} has no step {step!r} to go again from: it has {', '.join(names)} "
            f"(see `pointsman workflows show {workflow.id}`)"
        )
    found = {step}
    while more := {s.id for s in workflow.steps if found & set(workflow.before(s))} - found:
        found |= more
    return [name for name in names if name in found]
