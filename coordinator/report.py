"""Composes the report of a case: every sentence with a fact in it carries citations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from coordinator.hypotheses import CONSEQUENCE
from coordinator.types import (
    CaseState,
    Citation,
    Doubt,
    Hypothesis,
    LedgerRange,
    Moment,
    Proposal,
    Provenance,
    Ranked,
    Report,
    Sentence,
    Trigger,
    Work,
)
from specialists.types import Action, Claim, Evidence, Finding, Guidance, Scope

SHOWN = 5  # hypotheses in a report
CONSIDERED = 12
MOMENTS = 16
ALIKE = 2  # moments of one kind and component in the timeline
CITES = 3  # citations after one sentence


@dataclass
class Citer:
    """Numbers evidence in the order of use; what a person may have seen before keeps its number."""

    known: dict[tuple[str, str], int] = field(default_factory=dict)
    citations: dict[int, Citation] = field(default_factory=dict)

    def cite(self, evidence: Iterable[Evidence], limit: int = CITES) -> tuple[int, ...]:
        """The numbers of some pieces of evidence."""
        return tuple(dict.fromkeys(self._number(e) for e in tuple(evidence)[:limit]))

    def _number(self, evidence: Evidence) -> int:
        last = max(self.known.values(), default=0)
        n = self.known.setdefault((evidence.call, evidence.quote), last + 1)
        self.citations[n] = Citation(
            n=n, call=evidence.call, tool=evidence.tool, arguments=evidence.arguments, quote=evidence.quote
        )
        return n


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is made of: everything was checked before."""

    state: CaseState
    trigger: Trigger
    scope: Scope
    findings: tuple[Finding, ...]
    hypotheses: tuple[Hypothesis, ...]
    doubts: tuple[Doubt, ...]
    actions: tuple[Action, ...]
    ledger: LedgerRange
    known: dict[tuple[str, str], int] = field(default_factory=dict)  # numbers given before
    provenance: Provenance = field(default_factory=Provenance)
    settled: float = 0.5  # from this confidence on a cause is called likely

    def claims(self, *kinds: str) -> list[Claim]:
        """The claims of some kinds, the surest first."""
        found = [c for f in self.findings for c in f.claims if c.kind in kinds]
        return sorted(_once(found), key=lambda c: -c.confidence)


def compose(material: Material) -> Report:
    """The report of a case."""
    citer = Citer(known=dict(material.known))
    outcome = _outcome(material)
    summary = _summary(material, outcome, citer)
    since, since_at = _since(material, citer)
    hypotheses = tuple(_ranked(h, citer) for h in material.hypotheses[:SHOWN])
    report = Report(
        case=material.state["case"],
        title=material.trigger.title,
        question=material.trigger.question,
        written=datetime.now(UTC),
        now=material.scope.now,
        outcome=outcome,
        severity=material.trigger.severity,
        summary=(*summary, *since[:1]),
        since=since,
        since_at=since_at,
        impact=_sentences([*_felt(material)[:3], *material.claims("impact")[:2]], citer),
        blast_radius=blast_radius(material.findings, material.scope),
        hypotheses=hypotheses,
        considered=_considered(material, citer),
        timeline=_timeline(material, citer),
        proposals=_proposals(material),
        advice=_advice(material, citer),
        recovery=_sentences(material.claims("recovery")[:4], citer),
        guidance=_guidance(material.findings),
        gates=material.doubts,
        missing=(*(_missing(f) for f in material.findings if f.missing), *_not_asked(material.state)),
        work=tuple(_work(f) for f in material.findings),
        workflow=material.state["workflow"]["id"],
        version=material.state["workflow"]["version"],
        ledger=material.ledger,
        provenance=material.provenance,
    )
    return report.model_copy(update={"citations": tuple(citer.citations[n] for n in sorted(citer.citations))})


def blast_radius(findings: Iterable[Finding], scope: Scope) -> tuple[str, ...]:
    """The components that show symptoms, the surest first."""
    surest: dict[str, float] = {}
    for finding in findings:
        for claim in finding.claims:
            if claim.kind in ("symptom", "impact") and claim.component and claim.confidence >= 0.4:
                surest[claim.component] = max(surest.get(claim.component, 0.0), claim.confidence)
    return tuple(sorted(surest, key=lambda name: (-surest[name], name)))


def clock(moment: datetime, date: bool = True) -> str:
    """A moment in words: `2026-01-31 09:12:05 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC" if date else "%H:%M:%S")


def percent(confidence: float) -> str:
    """A confidence as people say it."""
    return f"{confidence * 100:.0f} %"


def one_line(text: str) -> str:
    """A sentence that ends in a full stop."""
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _outcome(material: Material) -> Literal["likely", "uncertain", "unknown", "recovered"]:
    if any(c.confidence >= 0.5 for c in material.claims("recovery")) and _acted(material):
        return "recovered"
    if not material.hypotheses:
        return "unknown"
    return "likely" if material.hypotheses[0].confidence >= material.settled else "uncertain"


def _acted(material: Material) -> bool:
    return any(action.status == "done" for action in material.actions)


def _summary(material: Material, outcome: str, citer: Citer) -> tuple[Sentence, ...]:
    told = one_line(material.trigger.title)  # what started the case is no finding of ours
    said = [Sentence(text=f"The alert says: {told}" if material.trigger.payload else told)]
    if outcome == "recovered":
        recovery = material.claims("recovery")[0]
        said.append(Sentence(text=one_line(recovery.text), cites=citer.cite(recovery.evidence)))
    if not material.hypotheses:
        said.append(
            Sentence(text="No cause was found that evidence supports; what was seen is listed below.")
        )
        said += [s for s in _sentences(material.claims("symptom")[:3], citer)]
        return tuple(said)
    best = material.hypotheses[0]
    lead = "Most likely" if outcome != "uncertain" else "Uncertain, but the best explanation is"
    said.append(
        Sentence(
            text=f"{lead} ({percent(best.confidence)} sure): {one_line(best.statement)}",
            cites=citer.cite(best.evidence),
        )
    )
    return tuple(said)


def _since(material: Material, citer: Citer) -> tuple[tuple[Sentence, ...], datetime | None]:
    """Since when it goes wrong: the first confident symptom, and when the alert fired."""
    symptoms = [c for c in material.claims("symptom", "impact") if c.at is not None and c.confidence >= 0.5]
    said: list[Sentence] = []
    first: datetime | None = None
    if symptoms:
        earliest = min(symptoms, key=lambda c: (c.at, -c.confidence))
        first = earliest.at
        assert first is not None
        text = f"It began at {clock(first)}: {_without_clock(earliest.text, first)}"
        said.append(Sentence(text=text, cites=citer.cite(earliest.evidence)))
    fired = material.trigger.scope.onset
    if fired is not None and material.trigger.kind != "question":
        said.append(Sentence(text=f"The alert fired at {clock(fired)}."))
    return tuple(said), first or material.scope.onset


def _felt(material: Material) -> list[Claim]:
    """The symptoms that users feel first: errors, then slowness, of what the case is about."""
    symptoms = material.claims("symptom")
    about = [c for c in symptoms if c.component in material.scope.services] or symptoms

    def order(claim: Claim) -> int:
        words = claim.text.lower()
        return 0 if "error" in words or "fail" in words else 1 if "latency" in words or "slow" in words else 2

    return sorted(about, key=order)


def _without_clock(text: str, at: datetime) -> str:
    """A sentence without the time that is said beside it."""
    told = clock(at, date=False)
    for words in (f" at {told} UTC", f" since {told} UTC", f" from {told} UTC"):
        text = text.replace(words, "")
    return one_line(text)


def _ranked(hypothesis: Hypothesis, citer: Citer) -> Ranked:
    kept = hypothesis.model_dump(exclude={"evidence", "against"})
    return Ranked(**kept, cites=citer.cite(hypothesis.evidence, 6), against=citer.cite(hypothesis.against, 4))


def _considered(material: Material, citer: Citer) -> tuple[Sentence, ...]:
    """What else was considered and why it is not the answer."""
    said = [
        Sentence(
            text=f"{one_line(h.statement)} {why_not(h)}",
            cites=citer.cite((*h.evidence[:2], *h.against[:2]), 4),
        )
        for h in material.hypotheses[1:SHOWN]
    ]
    ruled_out = material.claims("ruled_out")[: CONSIDERED - len(said)]
    return (*said, *_sentences(ruled_out, citer))


def why_not(hypothesis: Hypothesis | Ranked) -> str:
    """Why a hypothesis is not the first, in a sentence."""
    if CONSEQUENCE in hypothesis.weighed:
        return "That is a consequence: the change named first explains it."
    said = f"Less likely ({percent(hypothesis.confidence)})"
    if against := [w for w in hypothesis.weighed if not w.startswith("raised")]:
        return f"{said}: {'; '.join(against)}."
    pieces = len(hypothesis.evidence) if isinstance(hypothesis, Hypothesis) else len(hypothesis.cites)
    return f"{said}: {pieces} {'piece' if pieces == 1 else 'pieces'} of evidence."


def _timeline(material: Material, citer: Citer) -> tuple[Moment, ...]:
    kinds = ("symptom", "change", "cause", "impact", "recovery")
    seen: Counter[tuple[str, str]] = Counter()
    moments = []
    for claim in material.claims(*kinds):
        seen[claim.kind, claim.component] += claim.at is not None
        if claim.at is not None and seen[claim.kind, claim.component] <= ALIKE and len(moments) < MOMENTS:
            text = _without_clock(claim.text, claim.at)
            moments.append(Moment(at=claim.at, text=text, cites=citer.cite(claim.evidence, 2)))
    fired = material.trigger.scope.onset
    if fired is not None and material.trigger.kind != "question":
        moments.append(Moment(at=fired, text=f"The alert fired: {one_line(material.trigger.title)}"))
    return tuple(sorted(moments, key=lambda m: m.at))


def _advice(material: Material, citer: Citer) -> tuple[Sentence, ...]:
    if not material.hypotheses or not material.hypotheses[0].remedy or _acted(material):
        return ()
    best = material.hypotheses[0]
    return (Sentence(text=one_line(best.remedy), cites=citer.cite(best.evidence, 2)),)


def _proposals(material: Material) -> tuple[Proposal, ...]:
    answers = [d for d in material.state.get("decisions", []) if d["kind"] == "approval"]
    by = {id_: name for answer in answers for id_, name in answer.get("by", {}).items()}
    return tuple(
        Proposal(n=n, action=_brief(a, material), decided_by=by.get(a.approval, ""))
        for n, a in enumerate(material.actions, start=1)
    )


def _brief(action: Action, material: Material) -> Action:
    """An action whose reason does not repeat a cause that the report names anyway."""
    reason = action.reason
    for hypothesis in material.hypotheses:
        reason = reason.replace(f": {hypothesis.statement}", ".")
    return action.model_copy(update={"reason": reason})


def _not_asked(state: CaseState) -> tuple[str, ...]:
    """The specialists that had nothing to look with."""
    names = [name for name, offered in state.get("offered", {}).items() if not offered]
    return (f"not asked: {', '.join(names)}; the gateway offers none of their tools",) if names else ()


def _missing(finding: Finding) -> str:
    """What a specialist could not see, in one line."""
    rest = len(finding.missing) - 1
    return f"{finding.specialist}: {finding.missing[0]}" + (f" (and {rest} more)" if rest else "")


def _guidance(findings: tuple[Finding, ...]) -> tuple[Guidance, ...]:
    passages = [g for f in findings for g in f.guidance]
    return tuple(sorted(passages, key=lambda g: -g.score)[:3])


def _work(finding: Finding) -> Work:
    return Work(**{name: getattr(finding, name) for name in Work.model_fields})


def _sentences(claims: Iterable[Claim], citer: Citer) -> tuple[Sentence, ...]:
    return tuple(Sentence(text=one_line(c.text), cites=citer.cite(c.evidence)) for c in claims)


def _once(claims: Iterable[Claim]) -> list[Claim]:
    seen: dict[tuple[str, str], Claim] = {}
    for claim in claims:
        seen.setdefault((claim.kind, claim.text), claim)
    return list(seen.values())
