"""The gates of `validate`: small functions that look at a case and say what they doubt, or nothing.

A gate is `Gate(ground) -> Doubt | None`. Caps on confidence are set here by code, never by a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from coordinator.types import Doubt, Hypothesis
from specialists.types import Evidence, Finding, Scope


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on a gate is satisfied; `[coordinator]` of pointsman.toml sets them."""

    confidence: float = 0.5  # the best hypothesis is at least this sure
    margin: float = 0.05  # and this much ahead of a rival elsewhere
    freshness: timedelta = timedelta(minutes=15)  # the newest observation is at most this old
    cap_unsupported: float = 0.6  # cap when only one piece of evidence speaks for it
    cap_stale: float = 0.6  # cap when the data is old
    cap_contradicted: float = 0.7  # cap when evidence speaks against it


@dataclass(frozen=True, slots=True)
class Ground:
    """What the gates look at."""

    findings: tuple[Finding, ...]
    hypotheses: tuple[Hypothesis, ...]
    scope: Scope
    standing: dict[tuple[str, str], bool] = field(default_factory=dict)  # (call, quote) -> it stands
    newest: datetime | None = None  # the latest moment in the results that are cited
    thresholds: Thresholds = Thresholds()


Gate = Callable[[Ground], Doubt | None]


def evidence_stands(ground: Ground) -> Doubt | None:
    """Every quotation stands in the released result that it cites."""
    fallen = sum(not ok for ok in ground.standing.values())
    if not fallen:
        return None
    return Doubt(
        gate="evidence",
        text=f"{fallen} of {len(ground.standing)} quotations do not stand in the ledger's record of the call "
        "they cite; what rested on them alone was dropped",
    )


def something_found(ground: Ground) -> Doubt | None:
    """Somebody named a cause."""
    if ground.hypotheses:
        return None
    return Doubt(
        gate="cause", text="no specialist found a cause it could support with evidence", blocking=True
    )


def sure_enough(ground: Ground) -> Doubt | None:
    """The best hypothesis is confident enough to act on."""
    if not ground.hypotheses:
        return None
    best, least = ground.hypotheses[0].confidence, ground.thresholds.confidence
    if best >= least:
        return None
    return Doubt(
        gate="confidence",
        text=f"the best explanation is only {best:.2f} sure (the gate asks for {least:.2f})",
        blocking=True,
    )


def ahead_of_rivals(ground: Ground) -> Doubt | None:
    """No explanation elsewhere is about as likely."""
    if len(ground.hypotheses) < 2:
        return None
    best = ground.hypotheses[0]
    rival = next((h for h in ground.hypotheses[1:] if not _same_place(best, h)), None)
    if rival is None or best.confidence - rival.confidence >= ground.thresholds.margin:
        return None
    return Doubt(
        gate="margin",
        text=f"two explanations are about as likely: {_place(best)} ({best.confidence:.2f}) and "
        f"{_place(rival)} ({rival.confidence:.2f})",
    )


def data_is_fresh(ground: Ground) -> Doubt | None:
    """The newest data that is cited is close to the clock of the case."""
    newest, now = ground.newest, ground.scope.now
    if newest is None or now is None or now - newest <= ground.thresholds.freshness:
        return None
    minutes = int((now - newest).total_seconds() // 60)
    return Doubt(
        gate="freshness", text=f"the newest data that is cited is {minutes} minutes older than the case"
    )


def all_were_heard(ground: Ground) -> Doubt | None:
    """No specialist failed, and every observer could look."""
    failed = [f.specialist for f in ground.findings if f.status == "failed"]
    if not failed:
        return None
    return Doubt(
        gate="coverage",
        text=f"{', '.join(dict.fromkeys(failed))} could not finish; the report stands without",
    )


GATES: tuple[Gate, ...] = (
    something_found,
    evidence_stands,
    sure_enough,
    ahead_of_rivals,
    data_is_fresh,
    all_were_heard,
)


def doubts(ground: Ground, gates: Iterable[Gate] = GATES) -> tuple[Doubt, ...]:
    """What the gates doubt, in their order."""
    return tuple(d for gate in gates if (d := gate(ground)) is not None)


def capped(ground: Ground) -> tuple[Hypothesis, ...]:
    """The hypotheses with confidence capped where evidence is thin, old or disputed; their order stays."""
    stale = data_is_fresh(ground) is not None
    limits = ground.thresholds
    result: list[Hypothesis] = []
    for hypothesis in ground.hypotheses:
        caps = [(result[-1].confidence, "no surer than the explanation before it")] if result else []
        if len(hypothesis.evidence) < 2:
            caps.append((limits.cap_unsupported, "only one piece of evidence speaks for it"))
        if stale:
            caps.append((limits.cap_stale, "the data is old"))
        if hypothesis.against:
            caps.append((limits.cap_contradicted, "there is evidence against it"))
        result.append(_capped(hypothesis, caps))
    return tuple(result)


def without_fallen(findings: Iterable[Finding], standing: dict[tuple[str, str], bool]) -> tuple[Finding, ...]:
    """The findings without quotations that do not stand, and without what rested on those alone."""

    def keep(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
        return tuple(e for e in evidence if standing.get((e.call, e.quote), True))

    kept = []
    for finding in findings:
        claims = tuple(
            c.model_copy(update={"evidence": left}) for c in finding.claims if (left := keep(c.evidence))
        )
        causes = tuple(
            c.model_copy(update={"evidence": left, "against": keep(c.against)})
            for c in finding.causes
            if (left := keep(c.evidence))
        )
        kept.append(finding.model_copy(update={"claims": claims, "causes": causes}))
    return tuple(kept)


def _capped(hypothesis: Hypothesis, caps: list[tuple[float, str]]) -> Hypothesis:
    cap, why = min(caps, default=(1.0, ""))
    if hypothesis.confidence <= cap:
        return hypothesis
    weighed = (*hypothesis.weighed, f"capped at {cap:.2f}: {why}")
    return hypothesis.model_copy(update={"confidence": cap, "weighed": weighed})


def _same_place(one: Hypothesis, other: Hypothesis) -> bool:
    return one.object == other.object or (bool(one.component) and one.component == other.component)


def _place(hypothesis: Hypothesis) -> str:
    return hypothesis.component or hypothesis.object
