"""The words of the gateway: subject, tool, call, decision, refusal, record."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

Verb = Literal["call", "read", "prompt", "complete", "list"]
Verdict = Literal["call", "request", "deny"]
SUBJECT_NAME = re.compile(r"(?:agent|user):[A-Za-z0-9._@-]{1,100}", re.ASCII)
ROLE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
ApprovalStatus = Literal["pending", "granted", "denied", "used", "expired", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Who acts, as its token says; nothing a caller claims is in here."""

    id: str  # "agent:metrics", "user:ana"
    roles: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()  # who stands behind it, outermost first: ("user:ana", "agent:coordinator")
    case: str = ""
    run: str = ""
    task: str = ""
    token: str = ""  # first 16 hex digits of the token's SHA-256; the token itself goes nowhere
    expires: float = field(default=float("inf"), compare=False)  # when the token does, in seconds since 1970
    told: dict[str, Any] = field(init=False, repr=False, compare=False)  # what the ledger writes of it

    def __post_init__(self) -> None:
        told = {
            "subject": self.id,
            "chain": self.chain,
            "roles": self.roles,
            "run": self.run,
            "case": self.case,
            "task": self.task,
            "token": self.token,
        }
        object.__setattr__(self, "told", {name: value for name, value in told.items() if value})

    @property
    def kind(self) -> str:
        return self.id.partition(":")[0]

    @property
    def name(self) -> str:
        return self.id.partition(":")[2]

    @property
    def work(self) -> str:
        """What it is at work on, its run within its case: consent to a call holds there and nowhere else."""
        return f"{self.case}/{self.run}"


@dataclass(frozen=True, slots=True)
class Tool:
    """An approved tool, exactly as pinned."""

    server: str
    name: str  # the upstream's own name
    public: str  # server__name, ASCII, at most 64 characters
    definition: dict[str, Any]  # the raw definition
    digest: str  # sha256 over the canonical definition and the server's identity
    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True
    labels: tuple[str, ...] = ()
    undo: str = ""  # what undoes a call of it, in the operator's words
    at_once: int = 0  # calls of one subject in flight; 0: no limit, as with the next
    per_minute: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule that determined a decision, with what a person is told about it."""

    id: str
    description: str = ""
    advice: str = ""
    where: str = ""  # file:line
    approvals: int = 1  # how many persons have to agree where this rule lets a call wait for them


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy says about one call. `deny` with no rule means that nothing permitted it."""

    verdict: Verdict
    rules: tuple[Rule, ...] = ()
    errors: tuple[str, ...] = ()
    policy: str = ""  # digest of the policy set
    retry_after: float | None = None  # seconds until the clock alone would make it another decision
    told: dict[str, Any] = field(init=False, repr=False, compare=False)  # what the ledger writes of it

    def __post_init__(self) -> None:
        told = {
            "verdict": self.verdict,
            "rules": tuple(rule.id for rule in self.rules),
            "policy": self.policy,
        }
        object.__setattr__(self, "told", {name: value for name, value in told.items() if value})

    @property
    def approvals(self) -> int:
        """How many persons have to agree: as many as the strictest of its rules asks for."""
        return max((rule.approvals for rule in self.rules), default=1)


@dataclass(frozen=True, slots=True)
class Call:
    """One request on the road, after identify and find."""

    id: str
    verb: Verb
    subject: Subject
    tool: Tool
    arguments: dict[str, Any]
    digest: str  # sha256 of the canonical arguments
    key: str = ""  # the caller's idempotency key, if any
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replay:
    """What the ledger holds under an idempotency key; `running` while no outcome is recorded."""

    call: str
    tool: str
    digest: str  # of the arguments the key was first used with
    status: str  # running | ok | error | unknown | cancelled | ...
    result: dict[str, Any] | None = None  # as released, without secrets


@dataclass(frozen=True, slots=True)
class Grant:
    """That one person agreed: who, why, when, and by which rules the person may."""

    by: str
    reason: str
    time: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """Persons' consent to one exact call: asked for, decided once, used once."""

    id: str
    status: ApprovalStatus
    subject: str
    roles: tuple[str, ...]
    chain: tuple[str, ...]
    case: str
    run: str
    tool: str
    arguments: dict[str, Any]
    digest: str  # of the arguments
    rules: tuple[Rule, ...]
    requested: str
    expires: str
    needed: int = 1  # how many persons have to agree
    grants: tuple[Grant, ...] = ()
    claim: dict[str, Any] = field(default_factory=dict)  # what the requester says for it; nobody checked it
    edit: dict[str, Any] = field(
        default_factory=dict
    )  # what the person changed, where a checkpoint allows it
    decided_by: str = ""
    reason: str = ""
    call: str = ""  # the call that used it
