"""The words of a workflow file, `workflows/NAME.yaml`; docs/workflows.md explains them to their writers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    WithJsonSchema,
    model_validator,
)

KINDS = ("specialist", "tool", "gate", "checkpoint", "deliver")
TRIGGERS = ("event", "schedule", "condition", "mailbox", "folder")
NAME = r"^[a-z][a-z0-9_]*$"
WORKFLOW_ID = r"^[a-z][a-z0-9-]*$"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
MOST_STEPS = 200


def _duration(told: Any) -> Any:
    if isinstance(told, timedelta):
        return told
    found = DURATION.match(told) if isinstance(told, str) else None
    if found is None:
        raise ValueError(f"{told!r} is no duration: write a number and a unit, such as 30s, 15m, 4h or 7d")
    return timedelta(seconds=float(found[1]) * UNITS[found[2]])


def duration_text(told: timedelta) -> str:
    """A duration as it is written in a file: 90s, 15m, 4h."""
    seconds = told.total_seconds()
    for unit in ("d", "h", "m", "s"):
        if seconds >= UNITS[unit] and seconds % UNITS[unit] == 0:
            return f"{seconds / UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(duration_text),
    WithJsonSchema({"type": "string", "pattern": DURATION.pattern, "examples": ["30s", "15m", "4h"]}),
]
Cel = Annotated[str, Field(min_length=1, max_length=2000, description="an expression in CEL")]
Given = Annotated[Any, Field(description="an expression in CEL where it is text; else the value itself")]
Type = Literal["string", "number", "integer", "boolean", "time", "list", "object", "any"]
StepName = Annotated[str, Field(pattern=NAME, max_length=40)]


class Part(BaseModel):
    """Anything in a workflow file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(Part):
    """A value that a case is opened with."""

    type: Type = "string"
    description: str = ""
    default: Any = None
    required: bool = True

    @model_validator(mode="before")
    @classmethod
    def _short(cls, told: Any) -> Any:
        return {"type": told} if isinstance(told, str) else told


class Output(Part):
    """A named, typed value that a step leaves for later ones."""

    type: Type
    value: Cel = ""  # over `result`; empty: the field of that name

    @model_validator(mode="before")
    @classmethod
    def _short(cls, told: Any) -> Any:
        return {"type": told} if isinstance(told, str) else told


class Retry(Part):
    """How often a step that fails is tried, and for which failures (codes of refusals, docs/refusals.md)."""

    attempts: int = Field(default=3, ge=1, le=20, description="in all, the first one included")
    wait: Duration = Field(default=timedelta(seconds=1), description="before the second attempt")
    grow: float = Field(default=2.0, ge=1, le=10, description="each further wait is so many times longer")
    on: tuple[str, ...] = Field(
        default=("upstream_unavailable", "deadline_exceeded", "limit_exceeded"),
        description="the codes of what is tried again",
    )


class Repeat(Part):
    """A stretch of steps that is done once more, from an earlier step up to this one."""

    from_: StepName = Field(alias="from", description="the first step of the stretch")
    while_: Cel = Field(alias="while", description="whether there is a further round")
    most: int = Field(default=20, ge=2, le=100, description="rounds, the first one included")


class StepBase(Part):
    """What every step has."""

    id: StepName
    name: str = Field(default="", max_length=200, description="what a reader calls it")
    after: tuple[StepName, ...] | None = Field(
        default=None, description="the steps it waits for; left out: the one above; []: none"
    )
    when: Cel | None = Field(default=None, description="it is skipped unless this is true")
    on_error: Literal["stop", "continue"] = Field(
        default="stop", description="whether a failure stops what comes after it"
    )
    repeat: Repeat | None = Field(default=None, description="once this step is done: do a stretch again")

    @property
    def kind(self) -> str:
        """Which of the five kinds it is."""
        return next(kind for kind in KINDS if kind in type(self).model_fields)


class Repeated(StepBase):
    """A step that can be done once for each of a list, and again when it fails."""

    foreach: Cel | None = Field(default=None, description="a list; the step is done for each `item` of it")
    timeout: Duration | None = None
    retry: Retry = Retry(attempts=1)
    outputs: dict[StepName, Output] = {}


class SpecialistStep(Repeated):
    """Asks a specialist; its finding is the result."""

    specialist: str = Field(description='its name; "*": everybody whom no other step names')
    question: Given = Field(default=None, description="what it is asked; left out: what the case asks")
    act: Literal["proposed", "granted"] | None = Field(
        default=None, description="ask for the first proposed action, or do what was granted"
    )


class ToolStep(Repeated):
    """Calls a tool through the gateway, as the agent named like the workflow."""

    tool: str = Field(description="its public name, SERVER__TOOL")
    arguments: dict[str, Given] = {}
    reason: Given = Field(default=None, description="what a person is told who has to agree to the call")


GATES = (
    "answer",
    "rule",
    "freshness",
    "schema",
    "volume",
    "anomaly",
    "completeness",
    "duplicate",
    "cross_check",
)


class GateStep(StepBase):
    """Looks at what is known so far, and passes, doubts or halts."""

    gate: Literal[
        "answer",
        "rule",
        "freshness",
        "schema",
        "volume",
        "anomaly",
        "completeness",
        "duplicate",
        "cross_check",
    ]
    of: StepName | None = Field(default=None, description="schema: the tool step whose result is looked at")
    value: Given = Field(default=None, description="what is measured")
    against: Given = Field(default=None, description="cross_check: what a system of record says")
    within: float = Field(default=0.0, ge=0, description="cross_check: how far apart two numbers may be")
    least: float | None = Field(default=None, description="the smallest value that passes")
    most: float | Duration | None = Field(
        default=None, description="the largest value that passes; a duration for freshness"
    )
    history: int = Field(
        default=8, ge=3, description="anomaly, volume: so many past cases are needed to judge"
    )
    require: tuple[str, ...] = Field(default=(), description="completeness: the fields that must be there")
    checks: tuple[str, ...] = Field(default=(), description="answer: which checks; left out: all")
    text: str = Field(default="", max_length=400, description="what a person reads when it does not pass")
    otherwise: Literal["ask", "note", "halt"] = Field(
        default="ask",
        description="when it does not pass: a person decides, it is noted, or what comes after stops",
    )
    by: str = Field(default="", description="ask: the role of the person who decides")


class Escalation(Part):
    """Who may decide as well when nobody has."""

    after: Duration = Field(description="how long the checkpoint has waited by then")
    to: str = Field(min_length=1, description="a role; from then on its people decide too, by policy")
    tell: str = Field(default="", description="the destination that is told; left out: `tell` of the step")


class CheckpointStep(StepBase):
    """Waits for a person with the right to decide; holds no worker while it waits."""

    checkpoint: str = Field(min_length=1, max_length=400, description="the question")
    of: StepName | None = Field(
        default=None, description="the specialist step whose actions wait; then they are what is decided"
    )
    shows: dict[str, Given] = Field(default={}, description="what is at stake: a label and a value for each")
    by: str = Field(default="", description="the role that decides; policy has the last word")
    edit: dict[StepName, Type] = Field(default={}, description="fields of `shows` that a person may change")
    expires: Duration = timedelta(hours=24)
    tell: str = Field(default="", description="the destination of reminders (docs/delivery.md), or tickets")
    remind: tuple[Duration, ...] = Field(
        default=(), description="after how long, each time, such as [30m, 2h]"
    )
    escalate: Escalation | None = None
    on_reject: Literal["stop", "continue"] = "stop"


class DeliverStep(StepBase):
    """Writes the report: every citation resolves or nothing is delivered."""

    deliver: Literal["report"]
    title: Given = None
    summary: Given = Field(default=None, description="one sentence, or a list of sentences")
    shows: dict[str, Given] = {}
    to: tuple[str, ...] = Field(
        default=(), description="where it goes besides `deliver_to`: destinations (docs/delivery.md), tickets"
    )


def _which(kinds: tuple[str, ...]) -> Callable[[Any], str | None]:
    """Tells which of these kinds something is, by the one key that only this kind has."""

    def which(told: Any) -> str | None:
        keys = told if isinstance(told, dict) else getattr(type(told), "model_fields", {})
        return next((kind for kind in kinds if kind in keys), None)

    return which


Step = Annotated[
    Annotated[SpecialistStep, Tag("specialist")]
    | Annotated[ToolStep, Tag("tool")]
    | Annotated[GateStep, Tag("gate")]
    | Annotated[CheckpointStep, Tag("checkpoint")]
    | Annotated[DeliverStep, Tag("deliver")],
    Discriminator(
        _which(KINDS),
        custom_error_type="step_kind",
        custom_error_message="a step is one of: specialist, tool, gate, checkpoint, deliver",
    ),
]


class TriggerBase(Part):
    """What every trigger has."""

    inputs: dict[StepName, Given] = Field(default={}, description="inputs of the case, over `event`")
    title: Given = Field(default=None, description="the title of the case, over `event`")
    tenant: Given = Field(default=None, description="whose case it is, over `event`; for limits by tenant")


class EventTrigger(TriggerBase):
    """What is sent to POST /hooks/SOURCE."""

    event: str = Field(description='the name of a hook in pointsman.toml; "*": any')
    when: Cel | None = Field(default=None, description="over `event`; left out: always")


class ScheduleTrigger(TriggerBase):
    """A time table."""

    schedule: str = Field(description="cron: minute hour day month weekday")
    timezone: str = "UTC"
    missed: Literal["skip", "once", "all"] = Field(
        default="once", description="what becomes of times at which nothing ran"
    )


class Condition(Part):
    """A tool's answer, measured now and then."""

    tool: str
    arguments: dict[str, Any] = {}
    value: Cel = Field(description="a number, over `result`")
    above: float | None = None
    below: float | None = None
    clear: float | None = Field(default=None, description="the value at which it is over; hysteresis")
    for_: Duration = Field(
        default=timedelta(0), alias="for", description="how long it holds before it counts"
    )
    every: Duration = timedelta(minutes=1)

    @model_validator(mode="after")
    def _one_bound(self) -> Condition:
        if (self.above is None) == (self.below is None):
            raise ValueError("a condition has either `above` or `below`")
        return self


class ConditionTrigger(TriggerBase):
    """A value that is too high or too low for too long."""

    condition: Condition


class Mailbox(Part):
    """Where mail is: a maildir, or an IMAP mailbox whose password is in the environment."""

    maildir: str | None = None
    imap: str | None = Field(default=None, description="imaps://HOST[:PORT]/FOLDER")
    user: str = ""
    password_env: str = ""
    ca: str = Field(default="", description="imaps: a PEM file with who signed the server's certificate")
    every: Duration = timedelta(seconds=30)

    @model_validator(mode="after")
    def _one_place(self) -> Mailbox:
        if (self.maildir is None) == (self.imap is None):
            raise ValueError("a mailbox has either `maildir` or `imap`")
        return self


class MailboxTrigger(TriggerBase):
    """A message that arrives."""

    mailbox: Mailbox
    when: Cel | None = None


class FolderTrigger(TriggerBase):
    """A file that arrives."""

    folder: str
    pattern: str = "*"
    when: Cel | None = None


AnyTrigger = Annotated[
    Annotated[EventTrigger, Tag("event")]
    | Annotated[ScheduleTrigger, Tag("schedule")]
    | Annotated[ConditionTrigger, Tag("condition")]
    | Annotated[MailboxTrigger, Tag("mailbox")]
    | Annotated[FolderTrigger, Tag("folder")],
    Discriminator(
        _which(TRIGGERS),
        custom_error_type="trigger_kind",
        custom_error_message="a trigger is one of: event, schedule, condition, mailbox, folder",
    ),
]


class CaseLimits(Part):
    """How many cases of a workflow run at once, over all workers; a limit of the settings holds besides."""

    at_once: Annotated[int, Field(ge=1)] | None = Field(default=None, description="cases of this workflow")
    tenant: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="cases of one tenant (`tenant` of a trigger) in this workflow"
    )


class Workflow(Part):
    """A workflow file."""

    id: Annotated[str, Field(pattern=WORKFLOW_ID, max_length=40)]
    name: str = Field(min_length=1, max_length=120)
    description: str = ""
    owner: str = Field(min_length=1, max_length=120, description="who answers for it")
    priority: Literal["critical", "high", "normal", "low"] | None = Field(
        default=None, description="whose cases come first; left out: by the severity of what opened each"
    )
    limits: CaseLimits = CaseLimits()
    triggers: tuple[AnyTrigger, ...] = ()
    inputs: dict[StepName, Input] = {}
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MOST_STEPS)]

    def step(self, id_: str) -> Any:
        """The step of this id."""
        return next(step for step in self.steps if step.id == id_)

    def before(self, step: Any) -> tuple[str, ...]:
        """The steps it waits for: those it names, else the one above it."""
        if step.after is not None:
            return step.after
        place = [each.id for each in self.steps].index(step.id)
        return (self.steps[place - 1].id,) if place else ()
