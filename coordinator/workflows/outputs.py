"""Which variables a step's expressions may use, of which type, and the values they have in a run."""

from __future__ import annotations

from typing import Any

from coordinator.workflows.model import (
    CheckpointStep,
    DeliverStep,
    GateStep,
    Repeated,
    SpecialistStep,
    ToolStep,
    Workflow,
)

CASE = {
    "case.id": "string",
    "case.title": "string",
    "case.question": "string",
    "case.severity": "string",
    "case.kind": "string",
    "case.confidence": "number",  # of the best hypothesis so far; 0 without one
    "case.pending": "list",  # proposed actions that wait for a person
    "case.granted": "list",  # and those a person has granted
    "case.payload": "object",  # what opened it, as received
    "now": "time",
}
RESERVED = {"case", "inputs", "now", "item", "result", "text", "event"}
COMMON = {"status": "string", "error": "string"}
REPEATED = {"items": "list", "failed": "integer"}
BY_KIND: dict[type, dict[str, str]] = {
    ToolStep: {"result": "any", "text": "string", "call": "string"},
    SpecialistStep: {"summary": "string", "confidence": "number", "result": "any"},
    GateStep: {"outcome": "string", "passed": "boolean", "figures": "object", "decision": "string"},
    CheckpointStep: {"decision": "string", "reason": "string", "by": "string"},
    DeliverStep: {"title": "string", "summary": "string", "outcome": "string", "markdown": "string"},
}
IMPLICIT = {*COMMON, *REPEATED, *(name for kinds in BY_KIND.values() for name in kinds)}


def inputs_kinds(workflow: Workflow) -> dict[str, str]:
    """The inputs of a workflow and their types."""
    return {f"inputs.{name}": each.type for name, each in workflow.inputs.items()}


def leaves(step: Any) -> dict[str, str]:
    """What a step leaves for later ones, by name."""
    if isinstance(step, Repeated) and (step.foreach or getattr(step, "specialist", "") == "*"):
        return {**COMMON, **REPEATED}
    kinds = {**COMMON, **BY_KIND[type(step)]}
    if isinstance(step, Repeated):
        kinds |= {name: output.type for name, output in step.outputs.items()}
    if isinstance(step, CheckpointStep):
        kinds |= dict(step.edit)
    return kinds


def kinds_at(workflow: Workflow, step: Any) -> dict[str, str]:
    """Every variable that an expression of this step may use, and its type."""
    return kinds_of(workflow, upstream(workflow, step))


def kinds_of(workflow: Workflow, steps: list[str]) -> dict[str, str]:
    """Every variable that these steps leave, beside what a case has from the beginning."""
    kinds = {**CASE, **inputs_kinds(workflow)}
    for name in steps:
        kinds |= {f"{name}.{field}": kind for field, kind in leaves(workflow.step(name)).items()}
    return kinds


def upstream(workflow: Workflow, step: Any) -> list[str]:
    """The steps that are done before this one, in the order of the file."""
    found: set[str] = set()
    todo = list(workflow.before(step))
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += workflow.before(workflow.step(name))
    return [each.id for each in workflow.steps if each.id in found]
