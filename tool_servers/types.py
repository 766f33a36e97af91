"""The words of the tool servers: what each tool's structured content looks like."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Page(BaseModel):
    """A bounded list; `next_cursor` fetches what follows and is empty at the end."""

    next_cursor: str = ""


class MetricName(BaseModel):
    """A metric that a service has."""

    service: str
    metric: str
    unit: str = ""
    samples: int = 0


class MetricNames(Page):
    """The metrics that exist."""

    metrics: list[MetricName]


class Series(BaseModel):
    """One metric of one service over time; `points` are [time, value] pairs."""

    service: str
    metric: str
    unit: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    points: list[tuple[str, float]]


class SeriesPage(Page):
    """Series of a range query; `step_seconds` is 0 where points stand as recorded."""

    series: list[Series]
    step_seconds: float = 0


class LogLine(BaseModel):
    """One log line; further attributes stand beside the named ones."""

    model_config = ConfigDict(extra="allow")

    timestamp: str
    service: str
    severity: str
    message: str
    trace_id: str = ""


class LogPage(Page):
    """Matching log lines in the order of time; `total` counts every match."""

    lines: list[LogLine]
    total: int


class LogPattern(BaseModel):
    """A log message with its variable parts masked, and how often it was seen in window and baseline."""

    service: str
    severity: str
    template: str
    count: int
    baseline_count: int
    first_seen: str
    last_seen: str
    example: str


class LogPatterns(Page):
    """Log patterns, those that changed most first."""

    patterns: list[LogPattern]
    total: int
    start: str
    end: str
    baseline_start: str
    baseline_end: str


class Edge(BaseModel):
    """Calls from one service to another."""

    caller: str
    callee: str
    calls: int
    errors: int
    p50_ms: float
    p95_ms: float


class Edges(Page):
    """The service graph as the traces show it."""

    edges: list[Edge]


class Span(BaseModel):
    """One timed operation of a trace; `self_ms` is what its children do not account for."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    start: str
    duration_ms: float
    self_ms: float
    status: str
    error: str = ""
    attributes: dict[str, Any] = Field(default_factory=dict)


class Spans(Page):
    """Spans that match; `total` counts every match."""

    spans: list[Span]
    total: int


class Callee(BaseModel):
    """An operation called by another, and how often per call."""

    service: str
    name: str
    per_call: float


class OperationStats(BaseModel):
    """How an operation behaved in a period."""

    calls: int = 0
    errors: int = 0
    p50_ms: float = 0
    p95_ms: float = 0
    self_p50_ms: float = 0
    children_per_call: float = 0
    children: list[Callee] = Field(default_factory=list)


class Operation(OperationStats):
    """An operation of a service in the window, beside the same in the baseline."""

    service: str
    name: str
    baseline: OperationStats


class Operations(Page):
    """Operations, the most time-consuming first."""

    operations: list[Operation]
    total: int
    start: str
    end: str
    baseline_start: str
    baseline_end: str


class Commit(BaseModel):
    """A commit; `diff` is filled only when one commit is asked for."""

    sha: str
    author: str
    timestamp: str
    message: str
    files: list[str] = Field(default_factory=list)
    diff: str = ""


class Commits(Page):
    """Commits, newest first."""

    commits: list[Commit]


class Deploy(BaseModel):
    """A version that went live."""

    timestamp: str
    service: str
    version: str
    previous: str = ""
    commit: str = ""
    actor: str = ""


class Deploys(Page):
    """Deploys, newest first."""

    deploys: list[Deploy]


class Flag(BaseModel):
    """A feature flag or configuration value that changed."""

    timestamp: str
    flag: str
    service: str = ""
    change: str
    actor: str = ""


class Flags(Page):
    """Flag changes, newest first."""

    flags: list[Flag]


class Passage(BaseModel):
    """A passage of a runbook and where it stands."""

    document: str
    title: str
    heading: str
    lines: str
    passage: str
    score: float


class Passages(BaseModel):
    """Passages that answer a query, best first; empty when nothing is relevant."""

    passages: list[Passage]


class Document(BaseModel):
    """Numbered lines of a runbook."""

    document: str
    title: str
    start_line: int
    end_line: int
    total_lines: int
    text: str


class Ingested(BaseModel):
    """What an ingest added to the collection."""

    documents: list[str]
    passages: int
    skipped: list[str] = Field(default_factory=list)


class Comment(BaseModel):
    """A comment on a ticket."""

    timestamp: str
    body: str


class Ticket(BaseModel):
    """A ticket with its comments."""

    id: str
    title: str
    body: str
    severity: str = ""
    service: str = ""
    status: str = "open"
    created: str
    updated: str
    comments: list[Comment] = Field(default_factory=list)


class Sent(BaseModel):
    """What became of a delivery."""

    to: str
    kind: str
    key: str
    again: bool = False  # it had been sent under this key before, and was not sent once more
    reference: str = ""  # a message's id, or what the receiver called it
    digest: str  # SHA-256 of what was sent
    files: dict[str, str] = Field(default_factory=dict)  # SHA-256 of each file, by its path


class Place(BaseModel):
    """A destination the operator has configured."""

    name: str
    kind: str
    trouble: str = ""  # why nothing can be sent there now


class Places(BaseModel):
    """The destinations there are."""

    destinations: list[Place]


class Tickets(Page):
    """Tickets, newest first."""

    tickets: list[Ticket]


class ServiceState(BaseModel):
    """What runs of a service."""

    service: str
    version: str
    previous: list[str] = Field(default_factory=list)
    replicas: int
    restarts: int = 0


class Silence(BaseModel):
    """An alert that is muted until a time."""

    alert: str
    until: str


class ActionDone(BaseModel):
    """What an action changed, on what, and what can be seen now."""

    action: str
    target: str
    before: str
    after: str
    acted_on: str
    clock: str
    note: str


class ActionStatus(BaseModel):
    """The state that actions change."""

    clock: str
    services: list[ServiceState]
    silences: list[Silence]
    actions: list[ActionDone]
