"""The first answer of the chat: what is wrong, since when, how bad, why, what else, what to do."""

from __future__ import annotations

from coordinator.markdown import proposal_line
from coordinator.report import one_line
from coordinator.types import Report, Sentence


def overview(report: Report) -> tuple[Sentence, ...]:
    """What is wrong, since when, how bad, why, what else was considered, what to do."""
    radius = ", ".join(report.blast_radius)
    affected = [Sentence(text=f"{radius} show symptoms.")] if radius else []
    parts = (
        ("What is wrong", [report.summary[0]]),
        ("Since when", list(report.since)),
        ("How bad", [*report.impact[:3], *affected]),
        ("Recovery", list(report.recovery)),
        ("Why", [s for s in report.summary[1:] if s not in (*report.since, *report.recovery)]),
        ("What else was considered", _varied(report)),
        ("What to do", list(to_do(report))),
        ("Doubts", [Sentence(text=one_line(d.text)) for d in report.gates]),
    )
    return tuple(s.model_copy(update={"part": part}) for part, said in parts for s in said)


def _varied(report: Report) -> list[Sentence]:
    """A few of the explanations that were considered: rivals first, then what was ruled out."""
    rivals = report.considered[: max(0, len(report.hypotheses) - 1)]
    ruled_out = report.considered[len(rivals) :]
    return [*rivals[:2], *ruled_out[:3]]


def to_do(report: Report) -> tuple[Sentence, ...]:
    """What to do: advice, proposals and how to approve them, guidance."""
    said = [*report.advice]
    for proposal in report.proposals:
        how = (
            f" /approve A-{proposal.n} WHY or /deny A-{proposal.n} WHY."
            if proposal.action.status == "pending"
            else ""
        )
        said.append(Sentence(text=proposal_line(proposal) + how))
    said += [Sentence(text=f"Runbook: {g.title} ({g.where}).") for g in report.guidance[:1]]
    if not said:
        said.append(Sentence(text="No action is proposed: nothing here undoes the cause safely."))
    return tuple(said)
