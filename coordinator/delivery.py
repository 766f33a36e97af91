"""What `deliver` does: compose the report, prove that every citation resolves, write it, record it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from coordinator import gates, plain_report, validation
from coordinator.desk import Desk
from coordinator.errors import ReportUnsound
from coordinator.gateway_client import GatewayClient
from coordinator.markdown import markdown
from coordinator.planning import findings_of, scope_of, workflow_of
from coordinator.provenance import provenance
from coordinator.report import Material, compose
from coordinator.types import CaseState, Doubt, Hypothesis, LedgerRange, Report, StepRecord, Trigger
from coordinator.workflows.model import DeliverStep
from specialists.evidence import stands
from specialists.types import Action, Evidence, Finding

REFERENCE = re.compile(r"\[E(\d+)\]")


async def write_due(state: CaseState, desk: Desk) -> dict[str, Any]:
    """Write the report that is due, and what its step leaves for later ones."""
    update: dict[str, Any] = {"steps": {}, "outgoing": []}
    workflow = workflow_of(state)
    for name in (state.get("due") or {}).get("reports", []):
        step = workflow.step(name)
        report = await write(state, desk, step)
        update["report"] = report.model_dump(mode="json")
        if step.to:
            update["outgoing"].append({"to": list(step.to), "report": update["report"]})
        update["steps"][name] = StepRecord(status="done", outputs=_leaves(report))
    return update


def _leaves(report: Report) -> dict[str, Any]:
    return {
        "title": report.title,
        "summary": " ".join(sentence.text for sentence in report.summary),
        "outcome": report.outcome,
        "markdown": markdown(report),
    }


async def write(state: CaseState, desk: Desk, step: DeliverStep) -> Report:
    """The report, on disk and in the ledger."""
    if "verdict" in state:
        report = compose(await _material(state, desk))
    else:
        records = await case_records(state["case"], desk.gateway)
        report = plain_report.compose(state, step, _range(records), provenance(records))
    text = markdown(report)
    await prove(report, text, desk)
    desk.index.keep_citations(report.case, report.citations)
    desk.index.keep_report(report.case, md=text, json=report.model_dump_json(indent=2))
    await desk.gateway.record_step(
        "report",
        {
            "round": state.get("rounds", 0),
            "outcome": report.outcome,
            "digests": digests(report),
            "hypotheses": [
                {"object": h.object, "label": h.label, "confidence": h.confidence} for h in report.hypotheses
            ],
            "citations": {f"E{c.n}": c.call for c in report.citations},
            "ledger": report.ledger.model_dump(mode="json"),
        },
    )
    return report


def digests(report: Report) -> dict[str, str]:
    """The SHA-256 of a report in each form."""
    forms = {"md": markdown(report), "json": report.model_dump_json(indent=2)}
    return {form: hashlib.sha256(text.encode()).hexdigest() for form, text in forms.items()}


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
        ledger=_range(records := await case_records(state["case"], desk.gateway)),
        provenance=provenance(records),
        known=desk.index.numbers(state["case"]),
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


async def case_records(case: str, gateway: GatewayClient) -> list[dict[str, Any]]:
    """Every record that the ledger has of a case so far, oldest first."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = await gateway.read("gateway__search_ledger", {"case": case, "after": after, "limit": 500})
        found += page.get("records") or []
        after = page.get("next")
    return found


def _range(records: list[dict[str, Any]]) -> LedgerRange:
    """Which records those are."""
    if not records:
        return LedgerRange()
    first, last = records[0], records[-1]
    return LedgerRange(first=int(first["seq"]), last=int(last["seq"]), head=str(last["hash"]))
