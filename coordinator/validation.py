"""What `validate` does: check quotations in the ledger, rank hypotheses, cap confidence, run the gates."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from coordinator import data_gates, gates, hypotheses
from coordinator.desk import Desk
from coordinator.planning import findings_of, scope_of, workflow_of
from coordinator.types import CaseState, Doubt, StepRecord
from coordinator.workflows.model import GateStep
from specialists.evidence import stands
from specialists.types import Evidence, Finding

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
OBSERVED = ("kubernetes__", "metrics__", "logs__", "traces__")


async def run_gates(state: CaseState, desk: Desk) -> dict[str, Any]:
    """Look at every gate that is due; what each came to, and the verdict if one weighed hypotheses."""
    workflow = workflow_of(state)
    update: dict[str, Any] = {"steps": {}}
    for name in (state.get("due") or {}).get("gates", []):
        step = workflow.step(name)
        if step.gate != "answer":
            update["steps"][name] = await data_gates.look(workflow, step, state, desk)
            continue
        update["verdict"] = await judge(state, desk)
        update["steps"][name] = _answer(step, state, update["verdict"])
    return update


def _answer(step: GateStep, state: CaseState, verdict: dict[str, Any]) -> StepRecord:
    """What the gate over hypotheses came to."""
    if question := question_for_a_person(state, verdict):
        return StepRecord(status="asked", question=question)
    chosen = [d for d in verdict["doubts"] if not step.checks or d["gate"] in step.checks]
    blocking = [d["text"] for d in chosen if d["blocking"]]
    figures = {"doubts": [d["gate"] for d in chosen]}
    return data_gates.outcome(step, not blocking, figures, "; ".join(blocking))


async def judge(state: CaseState, desk: Desk) -> dict[str, Any]:
    """The verdict: hypotheses with their final confidence, and what the gates doubt; recorded."""
    findings = findings_of(state)
    cited = cited_by(findings)
    texts = await released_texts(cited, desk)
    standing = {(e.call, e.quote): stands(e, texts.get(e.call, "")) for e in cited}
    sound = gates.without_fallen(findings, standing)
    scope = scope_of(state)
    ground = gates.Ground(
        findings=sound,
        hypotheses=hypotheses.rank(sound, scope),
        scope=scope,
        standing=standing,
        newest=newest_moment((e.tool, texts.get(e.call, "")) for e in cited),
        thresholds=desk.thresholds,
    )
    doubts = gates.doubts(ground)
    ranked = gates.capped(ground)
    verdict = {
        "hypotheses": [h.model_dump(mode="json") for h in ranked],
        "doubts": [d.model_dump(mode="json") for d in doubts],
        "fallen": [list(key) for key, ok in standing.items() if not ok],
    }
    await desk.gateway.record_step(
        "gate",
        {
            "round": state.get("rounds", 0),
            "doubts": verdict["doubts"],
            "ranking": [
                {"object": h.object, "label": h.label, "confidence": h.confidence, "weighed": list(h.weighed)}
                for h in ranked[:10]
            ],
        },
    )
    return verdict


def question_for_a_person(state: CaseState, verdict: dict[str, Any]) -> dict[str, Any] | None:
    """What a person is asked about blocking doubts; nothing when nobody is there or it was answered."""
    blocking = [d for d in verdict["doubts"] if Doubt.model_validate(d).blocking]
    answered = any(d["kind"] == "doubt" for d in state.get("decisions", []))
    if not blocking or answered or not state.get("interactive"):
        return None
    return {
        "text": "; ".join(d["text"] for d in blocking) + ". Deliver the report as it is?",
        "doubts": blocking,
    }


def cited_by(findings: Iterable[Finding]) -> list[Evidence]:
    """Every piece of evidence, once."""
    found: dict[tuple[str, str], Evidence] = {}
    for finding in findings:
        for holder in (*finding.claims, *finding.causes):
            for evidence in (*holder.evidence, *getattr(holder, "against", ())):
                found[evidence.call, evidence.quote] = evidence
    return list(found.values())


async def released_texts(evidence: Iterable[Evidence], desk: Desk) -> dict[str, str]:
    """The text that the gateway released for each call that is cited."""
    calls = list(dict.fromkeys(e.call for e in evidence))
    shown = await asyncio.gather(*(desk.gateway.show_call(call) for call in calls))
    return {call: str(answer.get("text", "")) for call, answer in zip(calls, shown, strict=True)}


def newest_moment(results: Iterable[tuple[str, str]]) -> datetime | None:
    """The latest moment that stands in the results of observers."""
    found = [
        max(moments)
        for tool, text in results
        if tool.startswith(OBSERVED) and (moments := MOMENT.findall(text))
    ]
    return max((datetime.fromisoformat(m.replace("Z", "+00:00")) for m in found), default=None)
