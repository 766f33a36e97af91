"""What `deliver` does: compose the report, prove that every citation resolves, write it, record it."""

from __future__ import annotations

import re
from typing import Any

from coordinator import gates, validation
from coordinator.case_index import CaseIndex
from coordinator.desk import Desk
from coordinator.errors import ReportUnsound
from coordinator.markdown import markdown
from coordinator.planning import findings_of, scope_of
from coordinator.report import Material, compose
from coordinator.types import CaseState, Doubt, Hypothesis, LedgerRange, Report, Trigger
from specialists.evidence import stands
from specialists.types import Action, Evidence, Finding

REFERENCE = re.compile(r"\[E(\d+)\]")


async def write(state: CaseState, desk: Desk) -> Report:
    """The report, on disk and in the ledger."""
    report = compose(await _material(state, desk))
    text = markdown(report)
    await prove(report, text, desk)
    CaseIndex(desk.home).keep_citations(report.case, report.citations)
    folder = desk.home / "cases" / report.case
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(text, encoding="utf-8")
    (folder / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    await desk.gateway.record_step(
        "report",
        {
            "round": len(state.get("waves", [])),
            "outcome": report.outcome,
            "hypotheses": [
                {"object": h.object, "label": h.label, "confidence": h.confidence} for h in report.hypotheses
            ],
            "citations": {f"E{c.n}": c.call for c in report.citations},
            "ledger": report.ledger.model_dump(mode="json"),
        },
    )
    return report


async def prove(report: Report, text: str, desk: Desk) -> None:
    """Raise ReportUnsound unless every [En] of the text resolves to words in the call's released result."""
    unknown = sorted({int(n) for n in REFERENCE.findall(text)} - {c.n for c in report.citations})
    evidence = {
        c.n: Evidence(call=c.call, tool=c.tool, arguments=c.arguments, quote=c.quote)
        for c in report.citations
    }
    texts = await validation.released_texts(evidence.values(), desk)
    fallen = [n for n, e in evidence.items() if not stands(e, texts.get(e.call, ""))]
    if unknown or fallen:
        wrong = ", ".join(f"[E{n}]" for n in sorted({*unknown, *fallen}))
        raise ReportUnsound(
            f"the report of {report.case} was not delivered: {wrong} do not resolve to words in the ledger; "
            f"see `pointsman cases show {report.case}` and run the case again"
        )


def wait_for_approval(state: CaseState, report: Report) -> dict[str, Any] | None:
    """The job that waits for a person's word on pending actions; none when nothing is pending."""
    heard = {id_ for d in state.get("decisions", []) if d["kind"] == "approval" for id_ in d["status"]}
    waiting = [
        p.action for p in report.proposals
        if p.action.status == "pending" and p.action.approval and p.action.approval not in heard
    ]  # fmt: skip
    if not waiting:
        return None
    return {
        "kind": "approval",
        "text": "; ".join(a.reason for a in waiting),
        "actions": [a.model_dump(mode="json") for a in waiting],
    }


async def _material(state: CaseState, desk: Desk) -> Material:
    verdict = state.get("verdict", {})
    fallen = {(call, quote): False for call, quote in verdict["fallen"]}
    findings = gates.without_fallen(findings_of(state), fallen)
    return Material(
        state=state,
        trigger=Trigger.model_validate(state["trigger"]),
        scope=scope_of(state),
        findings=findings,
        hypotheses=tuple(Hypothesis.model_validate(h) for h in verdict["hypotheses"]),
        doubts=tuple(Doubt.model_validate(d) for d in verdict["doubts"]),
        actions=_actions(state, findings),
        ledger=await _ledger(state["case"], desk),
        known=CaseIndex(desk.home).numbers(state["case"]),
        settled=desk.thresholds.confidence,
    )


def _actions(state: CaseState, findings: tuple[Finding, ...]) -> tuple[Action, ...]:
    """Every action, once, as it stands now: what a person decided and what was done since."""
    denied = {
        id_ for d in state.get("decisions", []) if d["kind"] == "approval"
        for id_, status in d["status"].items() if status != "granted"
    }  # fmt: skip
    latest: dict[str, Action] = {}
    for action in (action for finding in findings for action in finding.actions):
        key = f"{action.tool} {sorted(action.arguments.items())}"
        known = latest.get(key, action)
        approval = action.approval or known.approval
        status = "denied" if approval in denied and action.status == "pending" else action.status
        latest[key] = known.model_copy(update={"approval": approval, "status": status})
    return tuple(latest.values())


async def _ledger(case: str, desk: Desk) -> LedgerRange:
    """Which records of the ledger belong to the case so far."""
    first = last = 0
    head, after = "", 0
    while True:
        page = await desk.gateway.read("gateway__search_ledger", {"case": case, "after": after, "limit": 500})
        records = page.get("records") or []
        if not records:
            return LedgerRange(first=first, last=last, head=head)
        first = first or int(records[0]["seq"])
        last, head = int(records[-1]["seq"]), str(records[-1]["hash"])
        after = last
        if not page.get("next"):
            return LedgerRange(first=first, last=last, head=head)
