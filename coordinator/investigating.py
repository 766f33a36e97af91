"""Asks a specialist for one step of a case; whatever happens to it becomes a finding that says so."""

from __future__ import annotations

import asyncio
from typing import Any

from coordinator.desk import Desk, words
from coordinator.steps import declared
from coordinator.types import StepRecord
from coordinator.workflows.expressions import ExpressionFailed
from specialists import tracing
from specialists.errors import GatewayLost
from specialists.evidence import investigate_checked
from specialists.types import Finding, Progress, Task


async def investigate(job: dict[str, Any], desk: Desk) -> dict[str, Any]:
    """Do a step that asks a specialist: its finding, and what the step leaves for later ones."""
    finding = await _investigate(Task.model_validate(job["task"]), job["step"], desk)
    return {"findings": [finding.model_dump(mode="json")], "steps": {job["step"]: _record(job, finding)}}


def _record(job: dict[str, Any], finding: Finding) -> StepRecord:
    found = finding.model_dump(mode="json")
    outputs = {
        "summary": finding.summary,
        "confidence": max((cause.confidence for cause in finding.causes), default=0.0),
    }
    try:
        made = declared(job, found, finding.summary)
    except ExpressionFailed as error:
        return StepRecord(status="failed", error=str(error), outputs=outputs)
    if finding.status == "failed" and job.get("outputs"):
        return StepRecord(status="failed", error=finding.summary, outputs=outputs)
    return StepRecord(status="done", outputs=outputs | made)


async def _investigate(task: Task, step: str, desk: Desk) -> Finding:
    """Ask one specialist; whatever happens to it becomes a finding, unless the gateway itself is gone."""
    told: dict[str, Any] = {tracing.CASE: task.case, tracing.TASK: task.id}
    with tracing.agent(task.specialist, **told) as span:
        finding = await _asked(task, desk)
        if span is not None:
            span.set_attributes({tracing.MODE: finding.mode, tracing.STATUS: finding.status})
    if finding.status == "failed":
        await desk.gateway.read("gateway__search_ledger", {"case": task.case, "limit": 1})  # is it there?
    await desk.gateway.record_step("finding", {"step": step, **_summary(finding)})
    return finding


async def _asked(task: Task, desk: Desk) -> Finding:
    finding: Finding | None = None
    try:
        opened = desk.toolbox(task.specialist, task.id, task.seconds)
        async with asyncio.timeout(task.seconds), opened as toolbox:
            async for event in investigate_checked(desk.roster.specialist(task.specialist), task, toolbox):
                if isinstance(event, Progress):
                    desk.tell(event)
                else:
                    finding = event
    except GatewayLost:
        raise
    except Exception as error:
        finding = _failed(task, f"{task.specialist} could not finish: {words(error) or type(error).__name__}")
    return finding or _failed(task, f"{task.specialist} ended without a finding")


def _failed(task: Task, why: str) -> Finding:
    return Finding(task=task.id, specialist=task.specialist, status="failed", summary=why, missing=(why,))


def _summary(finding: Finding) -> dict[str, Any]:
    return {
        "task": finding.task,
        "specialist": finding.specialist,
        "mode": finding.mode,
        "model": finding.model,
        "usage": finding.usage.model_dump(mode="json") if finding.usage else None,
        "status": finding.status,
        "summary": finding.summary,
        "causes": [
            {"object": c.object, "label": c.label, "confidence": c.confidence} for c in finding.causes
        ],
        "evidence": sorted({e.call for c in (*finding.claims, *finding.causes) for e in c.evidence}),
        "dropped": finding.dropped,
    }
