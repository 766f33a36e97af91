"""The words of the coordinator: trigger, job, doubt, hypothesis, citation, report.

What a specialist says (finding, claim, cause, evidence) has its words in `specialists.types`.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

from pydantic import Field

from specialists.types import Action, Confidence, Evidence, Guidance, Scope, Value

CHECKPOINT = "gateway__pass_checkpoint"  # the call that a checkpoint holds


class Trigger(Value):
    """What opened a case: an alert, a recorded incident, a question, or what a workflow waits for."""

    kind: Literal["alert", "recording", "question", "schedule", "condition", "mail", "file", "manual"]
    title: str
    question: str  # what the specialists are asked, in the alert's or the person's own words
    scope: Scope = Scope()
    severity: str = ""
    fingerprint: str = ""  # equal for two triggers about the same trouble
    recording: str = ""  # the directory, when a recorded incident is triaged
    payload: dict[str, Any] = Field(default_factory=dict)  # as received
    workflow: str = "incident-triage"  # the id of the workflow that runs it
    inputs: dict[str, Any] = Field(default_factory=dict)  # the workflow's inputs, by name
    tenant: str = ""  # whose case it is, where several share the workers


class Doubt(Value):
    """What a gate says when it is not satisfied."""

    gate: str
    text: str  # one plain sentence: what is doubtful and why
    blocking: bool = False  # a person should look before the report is relied on


class Hypothesis(Value):
    """A cause after all specialists were heard, with what speaks for and against it."""

    rank: int
    category: str
    object: str
    label: str
    component: str = ""
    statement: str
    confidence: Confidence
    evidence: tuple[Evidence, ...]
    against: tuple[Evidence, ...] = ()
    at: datetime | None = None
    remedy: str = ""
    by: tuple[str, ...] = ()  # the specialists that named it
    weighed: tuple[str, ...] = ()  # why its confidence was raised, lowered or capped


class Citation(Value):
    """`[E7]`: words that stand in the released result of one gateway call."""

    n: int
    call: str
    tool: str
    arguments: dict[str, Any]
    quote: str


class Sentence(Value):
    """One sentence of a report and the citations it stands on."""

    text: str
    cites: tuple[int, ...] = ()
    part: str = ""  # which part of an answer it belongs to


class Moment(Value):
    """One line of the timeline."""

    at: datetime
    text: str
    cites: tuple[int, ...] = ()


class Ranked(Value):
    """A hypothesis as the report shows it: evidence replaced by citations."""

    rank: int
    category: str
    object: str
    label: str
    component: str = ""
    statement: str
    confidence: Confidence
    cites: tuple[int, ...]
    against: tuple[int, ...] = ()
    at: datetime | None = None
    remedy: str = ""
    by: tuple[str, ...] = ()
    weighed: tuple[str, ...] = ()


class Proposal(Value):
    """An action in a report, with the short number a person approves it by."""

    n: int  # A-n
    action: Action
    decided_by: str = ""


class Work(Value):
    """What one specialist did for the case."""

    specialist: str
    mode: str
    status: str
    summary: str
    calls: int
    seconds: float
    model: str = ""
    tokens: int = 0  # what a hosted model read and wrote
    dropped: int = 0  # claims and causes that did not stand where they were said to


class StepLine(Value):
    """What became of one step of a workflow, as a report tells it."""

    step: str
    kind: str
    status: str
    text: str = ""  # what it found, who decided, or why it was not done
    call: str = ""


class LedgerRange(Value):
    """Which records of the ledger a report stands on."""

    first: int = 0
    last: int = 0
    head: str = ""


class Used(Value):
    """A tool whose answers a case has read."""

    tool: str
    calls: int
    answered: int


class Version(Value):
    """A version of something that took part: workflow, policy, specialist, model, prompt, pointsman."""

    what: str
    name: str
    version: str


class Decided(Value):
    """What policy decided about a tool, by which rules, and how often."""

    tool: str
    verdict: str  # call, request, or the code of a refusal
    rules: tuple[str, ...] = ()
    times: int = 1


class Agreed(Value):
    """An approval of the case as it stood."""

    approval: str
    tool: str
    status: str
    by: str = ""
    reason: str = ""
    rules: tuple[str, ...] = ()  # by which the last who decided may


class Provenance(Value):
    """What a report stands on, as the ledger has it."""

    data: tuple[Used, ...] = ()
    versions: tuple[Version, ...] = ()
    decisions: tuple[Decided, ...] = ()
    approvals: tuple[Agreed, ...] = ()


class Report(Value):
    """What `deliver` writes: every sentence with a fact in it carries citations that resolve."""

    case: str
    title: str
    question: str
    written: datetime
    now: datetime | None = None  # the clock of the case
    outcome: Literal["likely", "uncertain", "unknown", "recovered", "done", "halted", "rejected", "failed"]
    workflow: str = "incident-triage"  # its id
    version: str = ""  # of its file
    severity: str = ""
    summary: tuple[Sentence, ...]
    since: tuple[Sentence, ...] = ()
    since_at: datetime | None = None
    impact: tuple[Sentence, ...] = ()
    blast_radius: tuple[str, ...] = ()
    hypotheses: tuple[Ranked, ...] = ()
    considered: tuple[Sentence, ...] = ()
    timeline: tuple[Moment, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    advice: tuple[Sentence, ...] = ()
    recovery: tuple[Sentence, ...] = ()
    guidance: tuple[Guidance, ...] = ()
    gates: tuple[Doubt, ...] = ()
    missing: tuple[str, ...] = ()
    work: tuple[Work, ...] = ()
    shows: dict[str, Any] = Field(default_factory=dict)  # what the workflow tells, by label
    steps: tuple[StepLine, ...] = ()  # of a workflow that weighs no hypotheses
    ledger: LedgerRange = LedgerRange()
    provenance: Provenance = Provenance()
    citations: tuple[Citation, ...] = ()

    def citation(self, n: int) -> Citation | None:
        """The citation [En], if the report has it."""
        return next((c for c in self.citations if c.n == n), None)


class Message(Value):
    """What is sent to a destination, in the forms that the kinds of destinations take."""

    case: str
    key: str  # sent once under it
    title: str
    text: str  # Markdown
    short: str  # a few lines, for a chat
    body: dict[str, Any]  # for a webhook
    severity: str = ""
    service: str = ""


class Outgoing(Value):
    """A message that is still to be sent."""

    key: str
    case: str
    kind: Literal["report", "reminder", "escalation"]
    to: str  # the name of a destination
    at: datetime  # not before
    attempts: int = 0
    body: dict[str, Any]  # the report, or what a checkpoint waits for


class StepRecord(TypedDict, total=False):
    """What became of one step of a workflow, or of one part of it (`STEP/PART`)."""

    # running, asked; done, skipped, failed, halted, rejected, stopped; "" = to be done again
    status: Required[str]
    error: str  # why it was not done
    outputs: dict[str, Any]
    parts: list[str]  # what it is done for
    call: str  # in the ledger
    approval: str  # what it waits for
    job: dict[str, Any]  # to be sent again once that is granted
    actions: list[dict[str, Any]]  # what persons are asked to agree to
    question: dict[str, Any]  # what a person who is there is asked
    decision: dict[str, Any]  # who decided, and why
    rounds: int


def merged(known: dict[str, StepRecord], more: dict[str, StepRecord]) -> dict[str, StepRecord]:
    """The records of steps, newer ones in the place of older ones."""
    return {**known, **more}


class CaseState(TypedDict):
    """The state of a run: JSON values only, so that a checkpoint revives no classes."""

    case: str
    trigger: dict[str, Any]
    specialists: NotRequired[list[str]]  # who may be asked; empty = everybody on the roster
    interactive: NotRequired[bool]  # whether a doubt may wait for a person
    workflow: dict[str, str]  # id, version and text: a case ends under what it began with
    offered: NotRequired[dict[str, bool]]  # specialist -> the gateway offers it the tools it needs
    steps: NotRequired[Annotated[dict[str, StepRecord], merged]]
    due: NotRequired[dict[str, list[Any]]]  # gates to look at, reports to write, or the one call to make now
    rounds: NotRequired[int]  # how often `plan` has sent something out
    findings: NotRequired[Annotated[list[dict[str, Any]], operator.add]]
    decisions: NotRequired[Annotated[list[dict[str, Any]], operator.add]]  # what persons answered
    verdict: NotRequired[dict[str, Any]]  # hypotheses and doubts, as validate left them
    report: NotRequired[dict[str, Any] | None]
    outgoing: NotRequired[Annotated[list[dict[str, Any]], operator.add]]  # reports of steps that name where


class Waiting(Value):
    """A run stands still until a person answers."""

    id: str  # the interrupt to answer
    kind: Literal["approval", "doubt"]
    text: str
    actions: tuple[Action, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What a run came to: its report, and what it still waits for."""

    case: str
    report: Report | None
    waiting: tuple[Waiting, ...] = ()
    state: CaseState | None = None

    @property
    def awaited(self) -> frozenset[str]:
        """The approvals it waits for."""
        return frozenset(a.approval for wait in self.waiting for a in wait.actions if a.approval)
