"""The report as Markdown, the form that people read, mail and keep."""

from __future__ import annotations

import json
from collections.abc import Iterable

from coordinator.report import clock, one_line
from coordinator.types import Agreed, Proposal, Ranked, Report, Sentence

OUTCOMES = {
    "likely": "cause found",
    "uncertain": "uncertain, a person should look",
    "unknown": "no cause found",
    "recovered": "recovered",
    "done": "done",
    "halted": "halted by a gate",
    "rejected": "rejected by a person",
    "failed": "failed",
}


def markdown(report: Report) -> str:
    """The whole report."""
    sections = [
        _head(report),
        _section("Summary", [_said(s) for s in report.summary]),
        *(_stepwise(report) if report.steps else _weighed(report)),
        _section("Who worked on it", _work(report)),
        _section("Data used", _data(report)),
        _section("Versions", _versions(report)),
        _section("Decisions", _decisions(report)),
        _section("Evidence", _evidence(report)),
        _section("Ledger", [_ledger(report)]),
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _weighed(report: Report) -> list[str]:
    """What a workflow that weighs hypotheses found."""
    return [
        _section("Since when, how bad, how far", _extent(report)),
        _section("Most likely cause", _cause(report)),
        _section("What else was considered, and why not", [f"- {_said(s)}" for s in report.considered]),
        _section("Timeline", _timeline(report)),
        _section("What to do", _to_do(report)),
        _section("Recovery", [f"- {_said(s)}" for s in report.recovery]),
        _section("Guidance", _guidance(report)),
        _section("Doubts and what could not be seen", _doubts(report)),
        _section("Approvals", _approvals(report)),
    ]


def _stepwise(report: Report) -> list[str]:
    """What any other workflow found, step by step."""
    about = [f"- {label}: {_shown(value)}" for label, value in report.shows.items()]
    return [
        _section("What it is about", about),
        _section("Steps", _steps(report)),
        _section("Doubts", _doubts(report)),
        _section("Approvals", _approvals(report)),
    ]


def _shown(value: object) -> str:
    return _cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _steps(report: Report) -> list[str]:
    rows = [f"| {s.step} | {s.kind} | {s.status} | {_cell(s.text)[:300]} | {s.call} |" for s in report.steps]
    return ["| Step | Kind | What became of it | In short | Call |", "|---|---|---|---|---|", *rows]


def refs(cites: Iterable[int]) -> str:
    """`[E1][E2]`, or nothing."""
    return "".join(f"[E{n}]" for n in cites)


def proposal_line(proposal: Proposal) -> str:
    """A proposed action in one line, with the number to approve it by."""
    action = proposal.action
    arguments = ", ".join(f"{k}={v}" for k, v in action.arguments.items())
    state = {
        "pending": "waits for a person to agree",
        "denied": "was denied",
        "done": "was done",
        "failed": "failed",
    }.get(action.status, "is proposed")
    ahead = action.status in ("proposed", "pending")
    risk = f" Risk: {one_line(action.risk)}" if action.risk and ahead else ""
    undo = f" To undo: {one_line(action.undo)}" if action.undo else ""
    return f"A-{proposal.n} `{action.tool}({arguments})` {state}. {one_line(action.reason)}{risk}{undo}"


def _said(sentence: Sentence) -> str:
    cites = refs(sentence.cites)
    return f"{sentence.text} {cites}" if cites else sentence.text


def _section(title: str, lines: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines) if lines else ""


def _head(report: Report) -> str:
    facts = [f"Case {report.case}", OUTCOMES[report.outcome]]
    if report.severity:
        facts.append(f"severity {report.severity}")
    if report.now:
        facts.append(f"as of {clock(report.now)}")
    return f"# {report.title}\n\n{' · '.join(facts)}"


def _extent(report: Report) -> list[str]:
    radius = [f"- Blast radius: {', '.join(report.blast_radius)}."] if report.blast_radius else []
    return [f"- {_said(s)}" for s in (*report.since, *report.impact)] + radius


def _cause(report: Report) -> list[str]:
    if not report.hypotheses:
        return ["No explanation is supported by evidence."]
    best = report.hypotheses[0]
    lines = [f"**{one_line(best.statement)}** {refs(best.cites)}", "", _facts(best)]
    if best.weighed:
        lines.append(f"How it was weighed: {'; '.join(best.weighed)}.")
    if best.against:
        lines.append(f"Evidence against it: {refs(best.against)}")
    if len(report.hypotheses) > 1:
        lines += ["", "| | explanation | confidence | evidence | against |", "|---|---|---|---|---|"]
        lines += [
            f"| {h.rank} | {_cell(h.statement)} | {h.confidence:.2f} | {refs(h.cites)} | {refs(h.against)} |"
            for h in report.hypotheses
        ]
    return lines


def _facts(best: Ranked) -> str:
    began = f" · since {clock(best.at)}" if best.at else ""
    named = f" · named by {', '.join(best.by)}" if best.by else ""
    return (
        f"Confidence {best.confidence:.2f} · {best.category} · `{best.object}` · {best.label}{began}{named}"
    )


def _timeline(report: Report) -> list[str]:
    if not report.timeline:
        return []
    rows = [f"| {clock(m.at)} | {_cell(m.text)} | {refs(m.cites)} |" for m in report.timeline]
    return ["| Time | What happened | Evidence |", "|---|---|---|", *rows]


def _to_do(report: Report) -> list[str]:
    lines = [f"- {_said(s)}" for s in report.advice]
    lines += [f"- {proposal_line(p)}" for p in report.proposals]
    if not lines and report.hypotheses and report.outcome != "recovered":
        best = report.hypotheses[0]
        lines.append(f"- Look at {best.component or best.object} first; no safe action could be proposed.")
    return lines


def _guidance(report: Report) -> list[str]:
    return [f"- {g.title} ({g.where}): {_cell(g.passage)[:400]}" for g in report.guidance]


def _doubts(report: Report) -> list[str]:
    return [f"- {d.gate}: {one_line(d.text)}" for d in report.gates] + [
        f"- not seen: {one_line(m)}" for m in report.missing
    ]


def _approvals(report: Report) -> list[str]:
    agreed = {a.approval: a for a in report.provenance.approvals}
    lines = [
        f"- A-{p.n}: approval `{p.action.approval}`, {p.action.status}"
        + (f", decided by {p.decided_by}" if p.decided_by else "")
        + _reason(agreed.pop(p.action.approval, None))
        for p in report.proposals
        if p.action.approval
    ]
    return lines + [
        f"- approval `{a.approval}` of `{a.tool}`, {a.status}{f', by {a.by}' if a.by else ''}{_reason(a)}"
        for a in agreed.values()
    ]


def _reason(agreed: Agreed | None) -> str:
    """By which rules, and with what words, somebody decided."""
    if agreed is None:
        return ""
    rules = f" (may by {', '.join(agreed.rules)})" if agreed.rules else ""
    return rules + (f": {one_line(agreed.reason)}" if agreed.reason else "")


def _data(report: Report) -> list[str]:
    return [f"- `{u.tool}`: {u.calls} calls, {u.answered} answered" for u in report.provenance.data]


def _versions(report: Report) -> list[str]:
    return [f"- {v.what} {v.name}: `{v.version}`" for v in report.provenance.versions if v.version]


def _decisions(report: Report) -> list[str]:
    return [
        f"- `{d.tool}`: {d.verdict}{f' by {rules}' if (rules := ', '.join(d.rules)) else ''}, {d.times} times"
        for d in report.provenance.decisions
    ]


def _work(report: Report) -> list[str]:
    rows = [
        f"| {w.specialist} | {w.mode} | {w.status} | {w.calls} | {w.seconds:.1f} s | {_cell(w.summary)} |"
        for w in report.work
    ]
    if not rows:
        return []
    notes = [
        f"- {w.specialist} asked {w.model or 'a model'}: {w.tokens} tokens" for w in report.work if w.tokens
    ]
    notes += [
        f"- {w.specialist}: {w.dropped} left out, since the words do not stand in the call that was cited"
        for w in report.work
        if w.dropped
    ]
    head = ["| Specialist | Mode | Outcome | Calls | Time | In short |", "|---|---|---|---|---|---|"]
    return [*head, *rows, *([""] if notes else []), *notes]


def _evidence(report: Report) -> list[str]:
    return [
        f"- [E{c.n}] `{c.tool}` {_arguments(c.arguments)}, call `{c.call}`: “{_cell(c.quote)[:300]}”"
        for c in report.citations
    ]


def _arguments(arguments: dict[str, object]) -> str:
    return ", ".join(f"{k}={v}" for k, v in arguments.items()) or "without arguments"


def _ledger(report: Report) -> str:
    ledger = report.ledger
    return (
        f"This report stands on the ledger's records {ledger.first} to {ledger.last} of this case; "
        f"the head then was `{ledger.head}`. It was made by the workflow {report.workflow}"
        + (f", version {report.version}" if report.version else "")
        + f". Prove it with `pointsman cases verify {report.case}`."
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
