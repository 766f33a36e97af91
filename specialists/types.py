"""The words of a specialist: task, evidence, claim, cause, action, finding, and the events on the way.

Everything here is frozen and travels as JSON (LangGraph state, A2A, the ledger), so every model
round-trips through `model_dump(mode="json")` and `model_validate`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox

Confidence = Annotated[float, Field(ge=0.0, le=1.0)]


class Value(BaseModel):
    """A frozen value; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Scope(Value):
    """What a case is about and when: the limits inside which a specialist looks."""

    now: datetime | None = None  # the clock of the case; a recording's clock stands still
    onset: datetime | None = None  # when the alert fired or the trouble was noticed, if known
    namespace: str = ""
    services: tuple[str, ...] = ()  # named by the alert or the person; empty = unknown
    alert: dict[str, Any] = Field(default_factory=dict)  # Alertmanager v4 alert, as received


class Task(Value):
    """One piece of work for one specialist within one case."""

    id: str  # stable over a retry and a resume; part of every idempotency key
    case: str
    specialist: str
    question: str  # the person's or the alert's own words
    scope: Scope = Scope()
    leads: tuple[Cause, ...] = ()  # causes found by others so far, best first (for changes, remediation …)
    claims: tuple[Claim, ...] = ()  # claims found by others so far
    seconds: float = 60.0  # deadline
    act: Action | None = None  # for remediation: carry out this action, then verify recovery


class Evidence(Value):
    """Words that stand in the result of one gateway call."""

    call: str  # the gateway's call id
    tool: str  # public name, `server__tool`
    arguments: dict[str, Any]
    quote: str  # a literal substring of the result's text


class Claim(Value):
    """A statement with a confidence and the evidence it stands on; without evidence it is dropped."""

    kind: Literal["symptom", "cause", "ruled_out", "change", "impact", "context", "recovery"]
    text: str  # one plain sentence
    confidence: Confidence
    evidence: tuple[Evidence, ...]
    component: str = ""  # the service, node or object it is about
    at: datetime | None = None  # when it happened, for the timeline


class Cause(Value):
    """A hypothesis: what is broken, where, and the evidence for and against."""

    category: str  # e.g. "Scheduling_Fault", "change", "saturation", "dependency"
    object: str  # e.g. "app/cart", "node/worker-1", "service/orders", "commit/1a2b3c"
    label: str  # the stable slug of the fault, e.g. "oom_killed", "bad_deploy"
    statement: str  # one plain sentence
    confidence: Confidence
    evidence: tuple[Evidence, ...]
    against: tuple[Evidence, ...] = ()
    at: datetime | None = None  # when it began
    remedy: str = ""  # what to do, in words


class Action(Value):
    """A proposed change to the world; it runs only through the gateway, with a person's approval."""

    tool: str  # public name
    arguments: dict[str, Any]
    reason: str
    risk: str = ""
    undo: str = ""
    approval: str = ""  # the gateway's approval id, once it is pending
    status: Literal["proposed", "pending", "denied", "done", "failed"] = "proposed"


class Guidance(Value):
    """A passage of a runbook. Guidance helps a person; it is never evidence."""

    title: str
    passage: str
    where: str  # document and place in it
    call: str
    score: float = 0.0


class Usage(Value):
    """What a hosted model was asked in one task, and what that cost."""

    provider: str
    model: str  # as the settings name it
    prompt: str  # digest of the system prompt
    version: str = ""  # as the provider named what answered
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    hosted: int = 0  # calls of the provider's own tools, as it reported them
    responses: tuple[str, ...] = ()  # ids of the answers


class Finding(Value):
    """What a specialist found, or why it found nothing."""

    task: str
    specialist: str
    mode: Literal["local", "remote", "cloud"] = "local"
    status: Literal["found", "abstained", "failed"]
    summary: str  # one or two plain sentences
    claims: tuple[Claim, ...] = ()
    causes: tuple[Cause, ...] = ()  # best first
    actions: tuple[Action, ...] = ()
    guidance: tuple[Guidance, ...] = ()
    missing: tuple[str, ...] = ()  # what could not be seen, in words
    calls: int = 0  # gateway calls made
    seconds: float = 0.0
    model: str = ""  # model and prompt digest, when a model reasoned
    dropped: int = 0  # claims dropped because their evidence did not stand
    usage: Usage | None = None  # what a hosted model cost, also where the local specialist answered instead

    @property
    def tokens(self) -> int:
        """The tokens a hosted model read and wrote for this finding."""
        return self.usage.input_tokens + self.usage.output_tokens if self.usage else 0


class Progress(Value):
    """Something that happened on the way, for the person who waits."""

    specialist: str
    kind: Literal["started", "tool", "note", "finished"]
    text: str
    tool: str = ""
    call: str = ""
    seconds: float = 0.0


Event = Progress | Finding


class Card(Value):
    """What a specialist says of itself."""

    name: str
    description: str
    tools: tuple[str, ...]  # public names or `server__*` patterns it needs
    version: str = "1"


class Specialist(Protocol):
    """One verb. The last event of the iterator is the Finding; nothing follows it."""

    card: Card

    def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]: ...


Task.model_rebuild()
