"""Decides what a case does next: which steps of its workflow are ready, and the jobs they come to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from coordinator.errors import CoordinatorError
from coordinator.hypotheses import rank
from coordinator.types import CHECKPOINT, CaseState, StepRecord, Trigger
from coordinator.workflows import outputs
from coordinator.workflows.expressions import compile_expression, value_of
from coordinator.workflows.model import (
    CheckpointStep,
    DeliverStep,
    GateStep,
    SpecialistStep,
    Workflow,
)
from coordinator.workflows.reading import read_text
from specialists.types import Action, Card, Cause, Claim, Finding, Scope, Task

LEADS, CLAIMS = 8, 40
FINAL = frozenset(("done", "skipped", "failed", "halted", "rejected", "stopped"))
STOPS = frozenset(("failed", "halted", "rejected", "stopped"))
EVERYBODY = "*"

Job = dict[str, Any]  # {"kind": "investigate" | "tool" | "approval" | "doubt", "step": …, …}


@dataclass
class Due:
    """What comes next: steps that are settled without work, jobs, gates to look at, reports to write."""

    settled: dict[str, StepRecord] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    @property
    def work(self) -> bool:
        """Whether there is anything to do but wait."""
        return bool(self.jobs or self.gates or self.reports)

    def alone(self) -> list[Job]:
        """The one job, where that is a call of a tool and nothing stands beside it."""
        calls = [job for job in self.jobs if job["kind"] == "tool"]
        beside = len(self.jobs) > 1 or self.gates or self.reports
        return [] if beside else calls


def workflow_of(state: CaseState) -> Workflow:
    """The workflow of a case, in the version the case began with."""
    return read_text(state["workflow"]["text"], state["workflow"]["id"]).workflow


def planned_call(state: CaseState) -> Job | None:
    """The call that was planned alone and is to be made now."""
    return next(iter((state.get("due") or {}).get("calls", ())), None)


def next_jobs(state: CaseState, seconds: float) -> Due:
    """What is ready now; only when nothing else is, the wait for a person; nothing at the end."""
    workflow = workflow_of(state)
    due = Due()
    while True:
        while more := _settled(workflow, {**state, "steps": _records(state, due)}):
            due.settled |= more
        view: CaseState = {**state, "steps": _records(state, due)}
        fresh = [
            step for step in workflow.steps if step.id not in view["steps"] and _ready(workflow, step, view)
        ]
        if not fresh:
            break
        for step in fresh:
            _begin(workflow, step, view, seconds, due)
    view = {**state, "steps": _records(state, due)}
    due.jobs += _again(view)
    if due.work:
        return due
    if waits := _waits(view):
        due.jobs = [waits]
    elif again := _repeated(workflow, view):
        due.settled |= again
        more = next_jobs({**state, "steps": _records(state, due)}, seconds)
        return Due({**due.settled, **more.settled}, more.jobs, more.gates, more.reports)
    return due


def _records(state: CaseState, due: Due) -> dict[str, StepRecord]:
    """The records of all steps as they stand now; a step that is to be done again has none."""
    merged = {**state.get("steps", {}), **due.settled}
    return {name: record for name, record in merged.items() if record.get("status")}


def _settled(workflow: Workflow, state: CaseState) -> dict[str, StepRecord]:
    """Steps whose parts are all done, and steps that stop because one before them did."""
    found: dict[str, StepRecord] = {}
    records = state.get("steps", {})
    for step in workflow.steps:
        record = records.get(step.id)
        if record and record["status"] == "running" and "parts" in record:
            parts = [
                records.get(f"{step.id}/{part}", StepRecord(status="")) for part in record.get("parts", [])
            ]
            if all(part["status"] in FINAL for part in parts):
                found[step.id] = _whole(step, parts)
        elif record is None and not isinstance(step, DeliverStep):  # a report tells also what was stopped
            stopped = stopped_by(workflow, step, records)
            if stopped:
                found[step.id] = StepRecord(status="stopped", error=f"{stopped[0]} did not pass")
    return found


def _whole(step: Any, parts: list[StepRecord]) -> StepRecord:
    failed = [part for part in parts if part["status"] in STOPS]
    items = [
        {"status": part["status"], "error": part.get("error", ""), **part.get("outputs", {})}
        for part in parts
    ]
    stops = failed and step.specialist != EVERYBODY if isinstance(step, SpecialistStep) else bool(failed)
    return StepRecord(
        status="failed" if stops else "done",
        error=failed[0].get("error", "") if failed else "",
        outputs={"items": items, "failed": len(failed)},
    )


def stopped_by(workflow: Workflow, step: Any, records: dict[str, StepRecord]) -> list[str]:
    """The steps before this one that keep it from being done."""
    return [name for name in workflow.before(step) if _stops(workflow.step(name), records.get(name))]


def _stops(step: Any, record: StepRecord | None) -> bool:
    if record is None or record["status"] not in STOPS:
        return False
    if record["status"] == "rejected":
        return getattr(step, "on_reject", "stop") == "stop"
    return record["status"] in ("halted", "stopped") or step.on_error == "stop"


def _ready(workflow: Workflow, step: Any, state: CaseState) -> bool:
    records = state.get("steps", {})
    return all(records.get(name, {}).get("status") in FINAL for name in workflow.before(step))


def _begin(workflow: Workflow, step: Any, state: CaseState, seconds: float, due: Due) -> None:
    """Start one step: its jobs, or why there are none."""
    try:
        if step.when and not evaluated(workflow, step, step.when, state, wanted="boolean"):
            due.settled[step.id] = StepRecord(status="skipped", error="its condition is not met")
        elif isinstance(step, GateStep):
            due.gates.append(step.id)
            due.settled[step.id] = StepRecord(status="running")
        elif isinstance(step, DeliverStep):
            due.reports.append(step.id)
            due.settled[step.id] = StepRecord(status="running")
        else:
            _send(workflow, step, state, seconds, due)
    except CoordinatorError as error:
        due.settled[step.id] = StepRecord(status="failed", error=str(error))


def _send(workflow: Workflow, step: Any, state: CaseState, seconds: float, due: Due) -> None:
    if isinstance(step, CheckpointStep):
        due.settled[step.id], jobs = _checkpoint(workflow, step, state)
    else:
        parts = list(_parts(workflow, step, state))
        jobs = [_job(workflow, step, part, item, state, seconds) for part, item in parts]
        spread = step.foreach or parts != [("", None)]
        due.settled[step.id] = (
            StepRecord(status="running", parts=[part for part, _ in parts])
            if spread and parts
            else StepRecord(
                status="skipped" if not parts else "running", error="" if parts else _why_none(step)
            )
        )
    due.jobs += jobs


def _why_none(step: Any) -> str:
    return "the list it is done for is empty" if step.foreach else "there is nothing for it to do"


def _parts(workflow: Workflow, step: Any, state: CaseState) -> Iterator[tuple[str, Any]]:
    """What a step is done for: once (part ""), or for each item, specialist or granted action."""
    if isinstance(step, SpecialistStep) and step.specialist == EVERYBODY:
        named = {s.specialist for s in workflow.steps if isinstance(s, SpecialistStep)}
        yield from ((name, None) for name in _asked(state) if name not in named)
    elif isinstance(step, SpecialistStep) and step.specialist not in _asked(state):
        return
    elif isinstance(step, SpecialistStep) and step.act == "granted":
        yield from ((action.approval, action) for action in _granted_actions(step.id, state))
    elif isinstance(step, SpecialistStep) and step.act == "proposed":
        if (proposed := _proposed(state)) is not None:
            yield "", proposed
    elif step.foreach:
        yield from ((str(n), item) for n, item in enumerate(evaluated(workflow, step, step.foreach, state)))
    else:
        yield "", None


def _job(workflow: Workflow, step: Any, part: str, item: Any, state: CaseState, seconds: float) -> Job:
    key = f"{step.id}/{part}" if part else step.id
    if isinstance(step, SpecialistStep):
        name = part if step.specialist == EVERYBODY else step.specialist
        asked = step.question
        question = str(evaluated(workflow, step, asked, state, item)) if asked is not None else ""
        act = item if isinstance(item, Action) else None
        limit = step.timeout.total_seconds() if step.timeout else seconds
        return _investigation(state, key, name, limit, act, question) | _extras(step, item)
    arguments = evaluated(workflow, step, step.arguments, state, item)
    reason = evaluated(workflow, step, step.reason, state, item) if step.reason is not None else ""
    return {
        "kind": "tool",
        "step": key,
        "tool": step.tool,
        "arguments": arguments,
        "reason": str(reason or step.name),
        "seconds": step.timeout.total_seconds() if step.timeout else 30.0,
        **_extras(step, item),
    }


def _extras(step: Any, item: Any) -> Job:
    made = {name: output.model_dump() for name, output in step.outputs.items()}
    retry = step.retry.model_dump(mode="json") if step.retry.attempts > 1 else None
    extras: Job = {"outputs": made} if made else {}
    extras |= {"retry": retry} if retry else {}
    return extras | ({"item": item} if step.foreach else {})


def _checkpoint(workflow: Workflow, step: CheckpointStep, state: CaseState) -> tuple[StepRecord, list[Job]]:
    """A checkpoint waits for actions that were asked for already, or asks the gateway for a person's word."""
    if step.of is not None:
        actions = [action.model_dump(mode="json") for action in pending_actions(state)]
        if not actions:
            return StepRecord(status="skipped", error="no action waits"), []
        return StepRecord(status="asked", actions=actions), []
    shows = evaluated(workflow, step, dict(step.shows), state)
    return StepRecord(status="running"), [ask_job(step.id, step.checkpoint, shows, step)]


def ask_job(key: str, question: str, shows: dict[str, Any], step: Any) -> Job:
    """The job that asks for a person's word: a call that the gateway holds until somebody agrees."""
    arguments: dict[str, Any] = {"step": key, "question": question, "shows": shows, "by": step.by}
    if isinstance(step, CheckpointStep):
        arguments["expires_seconds"] = step.expires.total_seconds()
        if step.edit:
            arguments["edit"] = dict(step.edit)
        if step.escalate is not None:
            arguments["escalate"] = step.escalate.to
            arguments["escalate_seconds"] = math.ceil(step.escalate.after.total_seconds())
    return {
        "kind": "tool",
        "step": key,
        "tool": CHECKPOINT,
        "arguments": arguments,
        "reason": question,
        "seconds": 30.0,
    }


def _again(state: CaseState) -> Iterator[Job]:
    """The calls that were held and are decided now, to be made again, or to be settled without."""
    answers = decided(state)
    for record in state.get("steps", {}).values():
        approval = record.get("approval", "")
        if record["status"] == "asked" and approval and answers.get(approval):
            yield {**record.get("job", {}), "answer": {"approval": approval, **answers[approval]}}


def _waits(state: CaseState) -> Job | None:
    """The one job that waits for whatever persons have not decided yet."""
    asked = {k: r for k, r in state.get("steps", {}).items() if r["status"] == "asked"}
    for key, record in asked.items():
        if question := record.get("question"):
            return {"kind": "doubt", "step": key, **question}
    actions = [action for record in asked.values() for action in record.get("actions", [])]
    if not actions:
        return None
    steps = [key for key, record in asked.items() if record.get("actions") and not record.get("approval")]
    return {
        "kind": "approval",
        "step": steps[0] if steps else "",
        "text": "; ".join(action["reason"] for action in actions),
        "actions": actions,
    }


def _repeated(workflow: Workflow, state: CaseState) -> dict[str, StepRecord]:
    """The steps that are done once more, as an empty record each."""
    records = state.get("steps", {})
    for step in workflow.steps:
        repeat = step.repeat
        if repeat is None or records.get(step.id, {}).get("status") not in ("done", "skipped"):
            continue
        rounds = records.get(f"{step.id}#", {}).get("rounds", 0)
        if rounds + 1 < repeat.most and evaluated(workflow, step, repeat.while_, state, wanted="boolean"):
            order = [each.id for each in workflow.steps]
            first, last = order.index(repeat.from_), order.index(step.id)
            again = {name: StepRecord(status="") for name in order[first : last + 1]}
            return again | {f"{step.id}#": StepRecord(status="counted", rounds=rounds + 1)}
    return {}


# -- what expressions see ---------------------------------------------------------------------------


def evaluated(
    workflow: Workflow, step: Any, given: Any, state: CaseState, item: Any = None, wanted: str = "any"
) -> Any:
    """A value of the file, or the expression's, with what the step may see."""
    kinds = outputs.kinds_at(workflow, step)
    if getattr(step, "foreach", None):
        kinds["item"] = "any"
    seen = Seen(workflow, state, item)
    if isinstance(given, str):
        return compile_expression(given, kinds, wanted).value(seen)
    return value_of(given, kinds, seen)


class Seen(dict[str, Any]):
    """The values of variables, worked out when an expression asks for them."""

    def __init__(self, workflow: Workflow, state: CaseState, item: Any = None) -> None:
        super().__init__({"item": item} if item is not None else {})
        self._workflow, self._state = workflow, state

    def __contains__(self, name: object) -> bool:
        return self.get(str(name)) is not None

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a variable; nothing when it has none."""
        if dict.__contains__(self, name):
            return dict.get(self, name)
        first, _, rest = name.partition(".")
        if name == "now":
            found: Any = (scope_of(self._state).now or datetime.now(UTC)).isoformat()
        elif first == "inputs":
            found = inputs_of(self._workflow, self._state).get(rest)
        elif first == "case":
            found = _case(rest, self._state)
        else:
            record = self._state.get("steps", {}).get(first, {})
            found = record.get(rest) if rest == "status" else record.get("outputs", {}).get(rest)
            if rest == "error":
                found = record.get("error", "")
        self[name] = found
        return found if found is not None else default


def inputs_of(workflow: Workflow, state: CaseState) -> dict[str, Any]:
    """The inputs of a case: what it was opened with, and defaults."""
    given = state["trigger"].get("inputs") or {}
    return {name: given.get(name, each.default) for name, each in workflow.inputs.items()}


def _case(name: str, state: CaseState) -> Any:
    trigger = state["trigger"]
    if name == "confidence":
        ranked = rank(findings_of(state), scope_of(state))
        return ranked[0].confidence if ranked else 0.0
    if name == "pending":
        return [action.model_dump(mode="json") for action in pending_actions(state)]
    if name == "granted":
        return granted(state)
    return state["case"] if name == "id" else trigger.get(name)


# -- actions and decisions --------------------------------------------------------------------------


def pending_actions(state: CaseState) -> list[Action]:
    """The actions of the report that wait, and that nobody has decided yet."""
    heard = decided(state).keys()
    proposals = (state.get("report") or {}).get("proposals", [])
    actions = [Action.model_validate(proposal["action"]) for proposal in proposals]
    return [a for a in actions if a.status == "pending" and a.approval and a.approval not in heard]


def _proposed(state: CaseState) -> Action | None:
    """The first proposed action, if no action was asked for yet."""
    actions = [a for f in findings_of(state) for a in f.actions]
    return next((a for a in actions if a.status == "proposed"), None)


def _granted_actions(step: str, state: CaseState) -> list[Action]:
    """The granted actions that this step has not done yet."""
    agreed, records = set(granted(state)), state.get("steps", {})
    actions = [a for f in findings_of(state) for a in f.actions]
    pending = {a.approval: a for a in actions if a.status == "pending" and a.approval in agreed}
    return [action for approval, action in pending.items() if f"{step}/{approval}" not in records]


def decided(state: CaseState) -> dict[str, dict[str, Any]]:
    """What persons decided, by approval: status, by, reason, edit."""
    found: dict[str, dict[str, Any]] = {}
    for answer in state.get("decisions", []):
        if answer["kind"] == "approval":
            for id_, status in answer["status"].items():
                more = {name: answer.get(name, {}).get(id_) for name in ("by", "reason", "edit")}
                found[id_] = {"status": status, **{k: v for k, v in more.items() if v}}
    return found


def granted(state: CaseState) -> list[str]:
    """The approvals that a person granted."""
    return [id_ for id_, answer in decided(state).items() if answer["status"] == "granted"]


# -- specialists ------------------------------------------------------------------------------------


def specialists_of(workflow: Workflow, roster: Collection[str], wanted: Collection[str]) -> list[str]:
    """The specialists that a workflow asks, of those there are and (if any are named) those wanted."""
    named = {step.specialist for step in workflow.steps if isinstance(step, SpecialistStep)}
    if not named:
        return []
    there = [name for name in roster if EVERYBODY in named or name in named]
    return [name for name in wanted if name in there] if wanted else there


def _asked(state: CaseState) -> list[str]:
    return [name for name, offered in state.get("offered", {}).items() if offered]


def tools_offered(card: Card, tools: Collection[str]) -> bool:
    """Whether the gateway offers a specialist anything it needs; one that needs nothing always works."""
    return not card.tools or any(fnmatchcase(tool, pattern) for tool in tools for pattern in card.tools)


def task_id(case: str, step: str) -> str:
    """The same for the same step of the same case, so that every idempotency key is stable."""
    return f"{case}/{step}"


def scope_of(state: CaseState) -> Scope:
    """The limits of the case, its onset moved to the first confident symptom if the trigger knew none."""
    scope = Trigger.model_validate(state["trigger"]).scope
    if scope.onset is not None:
        return scope
    return scope.model_copy(update={"onset": earliest_symptom(findings_of(state))})


def earliest_symptom(findings: tuple[Finding, ...]) -> datetime | None:
    """When the first confident symptom was seen."""
    claims = [c for f in findings for c in f.claims if c.kind == "symptom" and c.confidence >= 0.5]
    return min((c.at for c in claims if c.at is not None), default=None)


def findings_of(state: CaseState) -> tuple[Finding, ...]:
    """The findings so far, as specialists gave them; one that ran again replaces what it said before."""
    by_task = {f["task"]: f for f in state.get("findings", [])}
    return tuple(Finding.model_validate(f) for f in by_task.values() if not f.get("withdrawn"))


def _investigation(
    state: CaseState, step: str, specialist: str, seconds: float, act: Action | None, question: str
) -> Job:
    trigger = Trigger.model_validate(state["trigger"])
    findings = findings_of(state)
    task = Task(
        id=task_id(state["case"], step),
        case=state["case"],
        specialist=specialist,
        question=question or trigger.question,
        scope=scope_of(state),
        leads=_leads(findings, scope_of(state)),
        claims=_claims(findings),
        seconds=seconds,
        act=act,
    )
    return {"kind": "investigate", "step": step, "task": task.model_dump(mode="json")}


def _leads(findings: tuple[Finding, ...], scope: Scope) -> tuple[Cause, ...]:
    return tuple(
        Cause(
            category=h.category,
            object=h.object,
            label=h.label,
            statement=h.statement,
            confidence=h.confidence,
            evidence=h.evidence,
            against=h.against,
            at=h.at,
            remedy=h.remedy,
        )
        for h in rank(findings, scope)[:LEADS]
    )


def _claims(findings: tuple[Finding, ...]) -> tuple[Claim, ...]:
    claims = [c for f in findings for c in f.claims]
    return tuple(sorted(claims, key=lambda c: -c.confidence)[:CLAIMS])
