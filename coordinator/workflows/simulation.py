"""Runs a changed workflow file over past cases: which of them would have ended otherwise.

Nothing is called. What tools and specialists left is taken from the ledger, gates and conditions are worked
out anew; where a changed file needs what no past case left, that case is `indeterminate`, and it says why.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from coordinator.errors import CoordinatorError
from coordinator.gateway_client import GatewayClient
from coordinator.planning import FINAL, evaluated, stopped_by
from coordinator.types import CaseState, StepRecord
from coordinator.workflows.model import CheckpointStep, DeliverStep, GateStep, Workflow
from coordinator.workflows.reading import Source

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Ending:
    """How a case ended, or would have: to a person, halted, straight through …, and at which step."""

    outcome: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """A past case that would have ended otherwise."""

    case: str
    title: str
    was: Ending
    would: Ending
    why: str = ""


@dataclass
class Simulation:
    """What a changed file would have made of past cases."""

    workflow: str
    cases: int = 0
    changed: list[Changed] = field(default_factory=list)
    indeterminate: list[tuple[str, str]] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "workflow": self.workflow,
            "cases": self.cases,
            "changed": [
                {
                    "case": each.case,
                    "title": each.title,
                    "was": each.was.outcome,
                    "would": each.would.outcome,
                    "at": each.would.step or each.was.step,
                    "why": each.why,
                }
                for each in self.changed
            ],
            "indeterminate": [{"case": case, "why": why} for case, why in self.indeterminate],
            "sentences": self.sentences(),
        }

    def sentences(self) -> list[str]:
        """What changes, in sentences with numbers."""
        moved = Counter(
            (each.was.outcome, each.would.outcome, each.would.step or each.was.step) for each in self.changed
        )
        said = [
            f"{n} more {'case' if n == 1 else 'cases'} would have {PHRASES[would]}"
            f"{f' at {step}' if step else ''} (until now {NOUNS[was]})."
            for (was, would, step), n in moved.most_common()
        ]
        if self.indeterminate:
            said.append(f"{len(self.indeterminate)} cannot be told: what the file needs was not recorded.")
        return said or [f"None of {self.cases} past cases would have ended otherwise."]

    def as_text(self) -> str:
        """For a person: the sentences, and a line a case."""
        lines = [f"{self.workflow}: {self.cases} past cases", *self.sentences()]
        lines += [f"  {c.case}  {c.was.outcome} -> {c.would.outcome}  {c.title}" for c in self.changed[:50]]
        lines += [f"  {case}  ?  {why}" for case, why in self.indeterminate[:20]]
        return "\n".join(lines)


PHRASES = {
    "through": "gone straight through",
    "person": "gone to a person",
    "halted": "been halted",
    "failed": "failed",
    "rejected": "been rejected",
}
NOUNS = {
    "through": "straight through",
    "person": "to a person",
    "halted": "halted",
    "failed": "failed",
    "rejected": "rejected",
}


async def simulate(source: Source, gateway: GatewayClient, limit: int) -> Simulation:
    """What this file would have made of the latest cases of its workflow."""
    workflow = source.workflow
    told = Simulation(workflow.id)
    for case, records in (await _cases(workflow.id, gateway, limit)).items():
        told.cases += 1
        opened = next(r for r in records if r["step"] == "trigger")["body"]
        was = _ended(records)
        try:
            would, why = _replay(source, case, opened, records)
        except CoordinatorError as error:
            told.indeterminate.append((case, str(error)))
            continue
        if (would.outcome, would.step if would.outcome != "through" else "") != (
            was.outcome,
            was.step if was.outcome != "through" else "",
        ):
            told.changed.append(Changed(case, str(opened.get("title", "")), was, would, why))
    return told


async def _cases(workflow: str, gateway: GatewayClient, limit: int) -> dict[str, list[dict[str, Any]]]:
    """The steps of the latest cases of a workflow, oldest first within each."""
    opened = await _pages(gateway, {"kind": "step", "about": workflow, "newest": True}, limit)
    found: dict[str, list[dict[str, Any]]] = {}
    for record in opened:
        case = str(record.get("case", ""))
        found[case] = await _pages(gateway, {"kind": "step", "case": case}, 10_000)
    return found


async def _pages(gateway: GatewayClient, wanted: dict[str, Any], most: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = 0
    while len(found) < most:
        asked = {**wanted, "limit": min(PAGE, most - len(found)), **({"after": after} if after else {})}
        page = await gateway.read("gateway__search_ledger", asked)
        found += page["records"]
        if wanted.get("newest") or not page.get("next"):
            break
        after = int(page["next"])
    return found


def _ended(records: list[dict[str, Any]]) -> Ending:
    """How a case ended, as its records tell."""
    for record in records:
        body = record["body"]
        if record["step"] == "gate" and body.get("outcome") == "halt":
            return Ending("halted", body["step"])
        if record["step"] == "step" and body.get("tool") == "gateway__pass_checkpoint":
            return Ending("rejected" if body["status"] == "rejected" else "person", body["step"])
        if record["step"] == "step" and body.get("status") == "failed":
            return Ending("failed", body["step"])
    doubt = next((r["body"]["step"] for r in records if r["body"].get("asks")), None)
    return Ending("person", doubt) if doubt else Ending("through")


def _replay(
    source: Source, case: str, opened: dict[str, Any], records: list[dict[str, Any]]
) -> tuple[Ending, str]:
    """How the case would have ended by this file, and why."""
    workflow = source.workflow
    left = {
        r["body"]["step"]: r["body"]
        for r in records
        if r["step"] in ("step", "finding") and r["body"].get("step")
    }
    gates = {r["body"]["step"]: r["body"] for r in records if r["step"] == "gate" and "figures" in r["body"]}
    text = {"id": workflow.id, "version": source.version, "text": source.text}
    state: CaseState = {
        "case": case,
        "trigger": {"payload": {}, "question": "", **opened},
        "workflow": text,
        "steps": {},
    }
    steps = state.get("steps", {})
    while True:
        ready = [s for s in workflow.steps if s.id not in steps and _ready(workflow, s, steps)]
        if not ready:
            return Ending("through"), ""
        for step in ready:
            if stopped_by(workflow, step, steps):
                steps[step.id] = StepRecord(status="stopped")
            elif step.when and not evaluated(workflow, step, step.when, state, wanted="boolean"):
                steps[step.id] = StepRecord(status="skipped")
            else:
                ending, why = _step(workflow, step, state, left, gates)
                if ending is not None:
                    return ending, why


def _ready(workflow: Workflow, step: Any, steps: dict[str, StepRecord]) -> bool:
    return all(name in steps and steps[name]["status"] in FINAL for name in workflow.before(step))


def _step(
    workflow: Workflow, step: Any, state: CaseState, left: dict[str, Any], gates: dict[str, Any]
) -> tuple[Ending | None, str]:
    steps = state.get("steps", {})
    if isinstance(step, CheckpointStep):
        return Ending("person", step.id), step.checkpoint
    if isinstance(step, DeliverStep):
        steps[step.id] = StepRecord(status="done")
        return None, ""
    if isinstance(step, GateStep):
        passes, why = _gate(workflow, step, state, gates.get(step.id))
        if passes or step.otherwise == "note":
            told = {"outcome": "pass" if passes else "doubt", "passed": passes, "figures": {}, "decision": ""}
            steps[step.id] = StepRecord(status="done", outputs=told)
            return None, ""
        return Ending("halted" if step.otherwise == "halt" else "person", step.id), why
    body = left.get(step.id)
    if body is None:
        raise CoordinatorError(f"{step.id} was not done in this case")
    status = (
        "done" if body.get("status") in ("done", "answered", "abstained", "skipped") else str(body["status"])
    )
    steps[step.id] = StepRecord(status=status, outputs=body.get("outputs", {}), error=body.get("error", ""))
    return (Ending("failed", step.id), body.get("error", "")) if status == "failed" else (None, "")


def _gate(
    workflow: Workflow, step: GateStep, state: CaseState, then: dict[str, Any] | None
) -> tuple[bool, str]:
    """What a gate would have said: by its value where that can be worked out, else by recorded figures."""
    if step.gate == "rule":
        value = evaluated(workflow, step, step.value, state)
        return value is True, step.text or str(step.value)
    figures = (then or {}).get("figures", {})
    if step.gate == "volume":
        value = evaluated(workflow, step, step.value, state)
        most = step.most if isinstance(step.most, int | float) else None
        fits = (step.least is None or value >= step.least) and (most is None or value <= most)
        return fits, f"{value:g}"
    if step.gate == "cross_check":
        value, other = (evaluated(workflow, step, each, state) for each in (step.value, step.against))
        numbers = isinstance(value, int | float) and isinstance(other, int | float)
        return (
            abs(value - other) <= step.within + 1e-9 if numbers else value == other
        ), f"{value} and {other}"
    if then is None:
        raise CoordinatorError(f"the gate {step.id} was not there then, and needs its history")
    if step.gate == "freshness" and isinstance(step.most, timedelta):
        return figures["age_seconds"] <= step.most.total_seconds(), f"{figures['age_seconds']:.0f} s old"
    if step.gate == "anomaly" and "distance" in figures:
        limit = step.most if isinstance(step.most, int | float) else figures["most"]
        return figures["distance"] <= limit, f"{figures['distance']:.1f} deviations"
    if step.gate == "completeness":
        least = step.least if step.least is not None else 1.0
        return figures["share"] >= least, ", ".join(figures["missing"])
    return then["outcome"] == "pass", then.get("text", "")
