"""Composes the report of a workflow that weighs no hypotheses: what each step came to, and who decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from coordinator.planning import evaluated, findings_of, workflow_of
from coordinator.report import one_line
from coordinator.types import (
    CaseState,
    Doubt,
    LedgerRange,
    Provenance,
    Report,
    Sentence,
    StepLine,
    StepRecord,
    Work,
)
from coordinator.workflows.expressions import ExpressionFailed
from coordinator.workflows.model import DeliverStep, GateStep, Workflow

Outcome = Literal["done", "halted", "rejected", "failed"]


def compose(state: CaseState, step: DeliverStep, ledger: LedgerRange, provenance: Provenance) -> Report:
    """The report of a case, as its `deliver` step words it."""
    workflow, trigger = workflow_of(state), state["trigger"]
    outcome = outcome_of(workflow, state)
    given = _worded(workflow, step, step.summary, state, [])
    said = [one_line(str(each)) for each in (given if isinstance(given, list) else [given])]
    title = _worded(workflow, step, step.title, state, trigger["title"])
    return Report(
        case=state["case"],
        title=str(title),
        question=trigger["question"],
        written=datetime.now(UTC),
        outcome=outcome,
        severity=trigger.get("severity", ""),
        summary=tuple(Sentence(text=text) for text in said or [_in_short(workflow, state, outcome)]),
        shows={label: _worded(workflow, step, value, state, None) for label, value in step.shows.items()},
        steps=tuple(_line(each, state) for each in workflow.steps if each.id != step.id),
        gates=tuple(_doubts(workflow, state)),
        work=tuple(
            Work(**{name: getattr(f, name) for name in Work.model_fields}) for f in findings_of(state)
        ),
        workflow=workflow.id,
        version=state["workflow"]["version"],
        ledger=ledger,
        provenance=provenance,
    )


def _worded(workflow: Workflow, step: DeliverStep, given: Any, state: CaseState, otherwise: Any) -> Any:
    """What the step says; something else where what it needs is not there, since a step failed."""
    try:
        return evaluated(workflow, step, given, state) if given is not None else otherwise
    except ExpressionFailed:
        return otherwise


def outcome_of(workflow: Workflow, state: CaseState) -> Outcome:
    """What a case came to, by its worst step."""
    kinds = [record["status"] for record in _records(workflow, state).values()]
    for status, outcome in (("failed", "failed"), ("halted", "halted"), ("rejected", "rejected")):
        if status in kinds:
            return outcome  # type: ignore[return-value]
    return "done"


def _records(workflow: Workflow, state: CaseState) -> dict[str, StepRecord]:
    steps = state.get("steps", {})
    return {step.id: steps[step.id] for step in workflow.steps if step.id in steps}


def _in_short(workflow: Workflow, state: CaseState, outcome: Outcome) -> str:
    bad = [name for name, record in _records(workflow, state).items() if record["status"] == outcome]
    return f"{workflow.name}: {outcome}" + (f" at {', '.join(bad)}." if bad else ".")


def _line(step: Any, state: CaseState) -> StepLine:
    record = state.get("steps", {}).get(step.id) or StepRecord(status="waiting")
    return StepLine(
        step=step.name or step.id,
        kind=step.kind,
        status=record["status"],
        text=_told(record),
        call=record.get("call", ""),
    )


def _told(record: StepRecord) -> str:
    outputs = record.get("outputs", {})
    if record.get("error"):
        return str(record.get("error"))
    if by := outputs.get("by"):
        return f"{outputs.get('decision')} by {by}: {outputs.get('reason', '')}"
    if "outcome" in outputs:
        figures = ", ".join(
            f"{k} {_short(v)}" for k, v in (outputs.get("figures") or {}).items() if v is not None
        )
        return f"{outputs['outcome']}: {figures}" if figures else str(outputs["outcome"])
    hidden = ("result", "text", "call", "items", "markdown")
    told = outputs.get("summary") or ", ".join(
        f"{k} {_short(v)}" for k, v in outputs.items() if k not in hidden
    )
    return str(told)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _doubts(workflow: Workflow, state: CaseState) -> list[Doubt]:
    records = _records(workflow, state)
    return [
        Doubt(gate=f"{step.id} ({step.gate})", text=records[step.id].get("error", ""))
        for step in workflow.steps
        if isinstance(step, GateStep) and records.get(step.id, {}).get("error")
        if records[step.id].get("outputs", {}).get("passed") is False
    ]
