"""Decides what a case does next: which specialists are asked, in which order, with which leads."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from coordinator.hypotheses import rank
from coordinator.types import CaseState, Trigger
from specialists.types import Action, Card, Cause, Claim, Finding, Scope, Task

WAVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("observe", ("kubernetes", "metrics", "logs", "traces")),
    ("explain", ("changes", "runbooks", "research")),
    ("remedy", ("remediation",)),
)
LEADS, CLAIMS = 8, 40
LIKELY = 0.5

Job = dict[str, Any]  # {"kind": "investigate", "task": Task} | {"kind": "approval" | "doubt", …}


def next_jobs(state: CaseState, seconds: float) -> tuple[str, list[Job]]:
    """The next wave that has work, and its jobs; no wave when everything was asked."""
    done = set(state.get("waves", []))
    for wave, _ in WAVES:
        if wave in done:
            continue
        asked = [n for n, offered in state.get("offered", {}).items() if offered and _wave_of(n) == wave]
        if jobs := [_investigation(state, name, wave, seconds) for name in asked]:
            return wave, jobs
    for wave, action in _acts(state):
        if wave not in done:
            return wave, [_investigation(state, "remediation", wave, seconds, action)]
    return "", []


def _acts(state: CaseState) -> list[tuple[str, Action]]:
    """What remediation is told to do: request the first proposal, then do what a person granted.

    Requesting is making the call, which the gateway holds until a person agrees; doing is making it again.
    """
    actions = [a for f in findings_of(state) for a in f.actions]
    proposed = next((a for a in actions if a.status == "proposed"), None)
    agreed = set(granted(state))
    pending = {a.approval: a for a in actions if a.status == "pending" and a.approval in agreed}
    requests = [("request", proposed)] if proposed and _worth_acting(state) else []
    return requests + [(f"act-{approval}", action) for approval, action in pending.items()]


def _worth_acting(state: CaseState) -> bool:
    """A person is only asked to agree to an action when its cause is at least as likely as not."""
    ranked = rank(findings_of(state), scope_of(state))
    return bool(ranked) and ranked[0].confidence >= LIKELY


def _wave_of(specialist: str) -> str:
    """The wave a specialist belongs to; one we do not know observes."""
    return next((wave for wave, names in WAVES if specialist in names), WAVES[0][0])


def granted(state: CaseState) -> list[str]:
    """The approvals that a person granted."""
    answers = [d for d in state.get("decisions", []) if d["kind"] == "approval"]
    return [id_ for answer in answers for id_, status in answer["status"].items() if status == "granted"]


def tools_offered(card: Card, tools: Collection[str]) -> bool:
    """Whether the gateway offers a specialist anything it needs; one that needs nothing always works."""
    return not card.tools or any(fnmatchcase(tool, pattern) for tool in tools for pattern in card.tools)


def task_id(case: str, specialist: str, wave: str) -> str:
    """The same for the same work of the same case, so that every idempotency key is stable."""
    return f"{case}/{wave}/{specialist}"


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
    by_task = {f["task"]: Finding.model_validate(f) for f in state.get("findings", [])}
    return tuple(by_task.values())


def _investigation(
    state: CaseState, specialist: str, wave: str, seconds: float, act: Action | None = None
) -> Job:
    trigger = Trigger.model_validate(state["trigger"])
    findings = findings_of(state)
    task = Task(
        id=task_id(state["case"], specialist, wave),
        case=state["case"],
        specialist=specialist,
        question=trigger.question,
        scope=scope_of(state),
        leads=_leads(findings, scope_of(state)),
        claims=_claims(findings),
        seconds=seconds,
        act=act,
    )
    return {"kind": "investigate", "task": task.model_dump(mode="json")}


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
