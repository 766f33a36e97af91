"""Ranks causes: merges what the specialists suspect, weighs agreement and contradiction, puts a change before
the symptom it explains."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from coordinator.types import Hypothesis
from specialists.types import Cause, Claim, Evidence, Finding, Scope

COMPONENT_KINDS = ("app", "service", "deployment", "statefulset", "daemonset", "pod", "node", "database")
AGREEMENT = 0.6  # how much of another specialist's confidence counts as support
CONTRADICTION = 0.5  # how much of a ruling-out claim's confidence counts against
CONSEQUENCE = "it is a consequence: a change explains it"
CEILING = 0.97  # nobody is ever surer than this
PLAUSIBLE_CHANGE = 0.3  # a change less likely than this explains nothing
CHANGE_LEAD = timedelta(minutes=30)  # a change this long before the first symptom may still explain it
CHANGE_SLACK = timedelta(minutes=3)  # a change recorded this little after the first symptom still may


@dataclass(frozen=True, slots=True)
class Suspect:
    """A cause on its way to becoming a hypothesis."""

    cause: Cause
    component: str
    by: tuple[str, ...]
    confidence: float
    weighed: tuple[str, ...] = ()
    against: tuple[Evidence, ...] = ()
    order: int = 0  # the specialist's own order breaks ties

    def moved(self, confidence: float, why: str) -> Suspect:
        """The same suspect with another confidence and the reason for it."""
        bounded = min(max(confidence, 0.0), CEILING)
        return replace(self, confidence=bounded, weighed=(*self.weighed, why))


def rank(findings: Iterable[Finding], scope: Scope) -> tuple[Hypothesis, ...]:
    """All causes that were found, merged and weighed, best first."""
    findings = tuple(findings)
    claims = tuple((f.specialist, c) for f in findings for c in f.claims)
    suspects = _merge(findings, known_components(findings, scope))
    suspects = [_with_agreement(s, suspects) for s in suspects]
    suspects = [_with_contradiction(s, claims) for s in suspects]
    suspects = _changes_before_symptoms(suspects, claims, scope)
    suspects.sort(key=lambda s: (-round(s.confidence, 4), s.order))
    return tuple(_hypothesis(n, s) for n, s in enumerate(suspects, start=1))


def known_components(findings: Iterable[Finding], scope: Scope) -> tuple[str, ...]:
    """Every component that the case has named so far, longest first."""
    names = set(scope.services)
    for finding in findings:
        names.update(c.component for c in finding.claims if c.component)
        names.update(n for c in finding.causes if (n := _named(c.object)))
    return tuple(sorted(names, key=lambda n: (-len(n), n)))


def component_of(cause: Cause, known: Iterable[str]) -> str:
    """The component a cause is about: its object, else the first known name its words mention."""
    return _named(cause.object) or next((n for n in known if n and n in cause.statement), "")


def _named(object_: str) -> str:
    kind, _, name = object_.partition("/")
    return name if kind.lower() in COMPONENT_KINDS else ""


def _merge(findings: tuple[Finding, ...], known: tuple[str, ...]) -> list[Suspect]:
    """One suspect for each (object, label); the surest wording stands, evidence of all is kept."""
    merged: dict[tuple[str, str], Suspect] = {}
    order = 0
    for finding in findings:
        for cause in finding.causes:
            key = (cause.object, cause.label)
            order += 1
            new = Suspect(
                cause, component_of(cause, known), (finding.specialist,), cause.confidence,
                against=cause.against, order=order,
            )  # fmt: skip
            merged[key] = _joined(merged[key], new) if key in merged else new
    return list(merged.values())


def _joined(old: Suspect, new: Suspect) -> Suspect:
    best, other = (old, new) if old.confidence >= new.confidence else (new, old)
    evidence = _union(best.cause.evidence, other.cause.evidence)
    by = tuple(dict.fromkeys((*old.by, *new.by)))
    joined = replace(
        best,
        cause=best.cause.model_copy(update={"evidence": evidence}),
        by=by,
        order=min(old.order, new.order),
        against=_union(best.against, other.against),
    )
    if len(by) == len(old.by):
        return joined
    raised = 1 - (1 - best.confidence) * (1 - 0.5 * other.confidence)
    return joined.moved(raised, f"raised: {_names(by)} named the same cause independently")


def _union(first: tuple[Evidence, ...], second: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    seen = {(e.call, e.quote): e for e in (*first, *second)}
    return tuple(seen.values())


def _with_agreement(suspect: Suspect, all_: list[Suspect]) -> Suspect:
    """Raised when other specialists suspect the same component for their own reasons."""
    others: dict[str, float] = {}
    for other in all_:
        if other is suspect or not other.component or other.component != suspect.component:
            continue
        for name in other.by:
            if name not in suspect.by:
                others[name] = max(others.get(name, 0.0), other.confidence)
    if not others:
        return suspect
    raised = suspect.confidence
    for confidence in others.values():
        raised += (1 - raised) * suspect.confidence * AGREEMENT * confidence
    return suspect.moved(raised, f"raised: {_names(others)} also point at {suspect.component}")


def _with_contradiction(suspect: Suspect, claims: tuple[tuple[str, Claim], ...]) -> Suspect:
    """Lowered when another specialist ruled the component out."""
    for name, claim in claims:
        if claim.kind == "ruled_out" and name not in suspect.by and _contradicts(claim, suspect):
            lowered = suspect.confidence * (1 - CONTRADICTION * claim.confidence)
            suspect = replace(suspect, against=_union(suspect.against, claim.evidence))
            suspect = suspect.moved(lowered, f"lowered: {name} found that {_lower_first(claim.text)}")
    return suspect


def _contradicts(claim: Claim, suspect: Suspect) -> bool:
    """Whether a ruling-out claim speaks against a suspect: its component as a whole, or its very fault.

    Ruling out a deploy says nothing about the component it went to.
    """
    if not claim.component or claim.component != suspect.component:
        return False
    if all(e.tool.startswith("changes__") for e in claim.evidence):
        return False
    text = claim.text.lower()
    fault = {word for word in suspect.cause.label.lower().split("_") if len(word) > 2}
    subject = re.findall(r"[\w.-]+", text.partition(":")[0].rstrip("."))
    return claim.component.lower() in subject or any(word in text for word in fault)


def _changes_before_symptoms(
    suspects: list[Suspect], claims: tuple[tuple[str, Claim], ...], scope: Scope
) -> list[Suspect]:
    """A change on the component that went wrong first ranks before the symptoms it explains."""
    first = first_symptom(claims, scope)
    changes = [s for s in suspects if is_change(s.cause) and s.cause.confidence >= PLAUSIBLE_CHANGE]
    settled: set[str] = set()
    for change in sorted(changes, key=lambda s: -s.confidence):
        if change.component in settled:
            continue
        settled.add(change.component)
        explained = [s for s in suspects if _explains(change, s, first)]
        if not explained:
            continue
        top = min(max(change.confidence, max(s.confidence for s in explained) + 0.03), CEILING)
        if top > change.confidence:
            why = f"raised: it explains what was seen at {change.component}"
            suspects = _replaced(suspects, change, change.moved(top, why))
        for symptom in explained:
            below = min(symptom.confidence, top - 0.02)
            suspects = _replaced(suspects, symptom, symptom.moved(below, CONSEQUENCE))
    return suspects


def is_change(cause: Cause) -> bool:
    """Whether a cause is something that somebody did: a deploy, a commit, a flag."""
    kind = cause.object.partition("/")[0].lower()
    return cause.category.lower() in ("change", "deploy") or kind in ("commit", "deploy", "flag", "release")


def first_symptom(claims: Iterable[tuple[str, Claim]], scope: Scope) -> datetime | None:
    """When the first confident symptom was seen, else when the alert fired."""
    moments = [c.at for _, c in claims if c.kind == "symptom" and c.at is not None and c.confidence >= 0.5]
    return min(moments) if moments else scope.onset


def _explains(change: Suspect, symptom: Suspect, first: datetime | None) -> bool:
    if is_change(symptom.cause) or not change.component or change.component != symptom.component:
        return False
    began = symptom.cause.at or first
    if change.cause.at is None or began is None:
        return change.confidence >= 0.5
    return began - CHANGE_LEAD <= change.cause.at <= began + CHANGE_SLACK


def _replaced(suspects: list[Suspect], old: Suspect, new: Suspect) -> list[Suspect]:
    return [new if s is old else s for s in suspects]


def _hypothesis(rank_: int, suspect: Suspect) -> Hypothesis:
    cause = suspect.cause
    return Hypothesis(
        rank=rank_,
        category=cause.category,
        object=cause.object,
        label=cause.label,
        component=suspect.component,
        statement=cause.statement,
        confidence=round(suspect.confidence, 3),
        evidence=cause.evidence,
        against=suspect.against,
        at=cause.at,
        remedy=cause.remedy,
        by=suspect.by,
        weighed=suspect.weighed,
    )


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".") if text[1:2].islower() else text.rstrip(".")
