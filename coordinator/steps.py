"""Does the steps of a workflow that call a tool, and takes in what persons decided."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from coordinator.desk import Desk
from coordinator.types import StepRecord
from coordinator.workflows.expressions import ExpressionFailed, as_type, compile_expression
from coordinator.workflows.model import Retry
from specialists.errors import ApprovalPending, GatewayLost
from specialists.toolbox import ToolResult
from specialists.types import Action

LARGEST_RESULT = 64 * 1024  # bytes of a result that later steps may use whole
LONGEST_TEXT = 4_000
GONE = ("upstream_unavailable", "deadline_exceeded", "protocol_error", "ledger_unavailable")


async def call(job: dict[str, Any], desk: Desk) -> dict[str, Any]:
    """Make the call of a step through the gateway, as the workflow's own agent; its record."""
    answer = job.get("answer")
    if answer and answer["status"] != "granted":
        record = _refused(answer)
    else:
        record = await _tried(job, desk)
    if kept := job.get("keep"):  # what the gate measured, beside what a person decided about it
        record["outputs"] = {**kept, **record.get("outputs", {})}
    if record["status"] != "asked":
        await desk.gateway.record_step("step", _told(job, record))
    return {"steps": {job["step"]: record}}


async def _tried(job: dict[str, Any], desk: Desk) -> StepRecord:
    retry = Retry.model_validate(job["retry"]) if job.get("retry") else Retry(attempts=1)
    wait = retry.wait.total_seconds()
    waits = sum(wait * retry.grow**n for n in range(retry.attempts - 1))
    async with desk.hand(job["step"], retry.attempts * job["seconds"] + waits) as toolbox:
        toolbox.seconds = job["seconds"]
        for attempt in range(1, retry.attempts + 1):
            try:
                result = await toolbox.call(job["tool"], job["arguments"], {"reason": job["reason"]})
            except ApprovalPending as pending:
                return _asked(job, pending)
            code = result.refusal.code if result.refusal else "failed" if result.is_error else ""
            if not code or attempt == retry.attempts or code not in retry.on:
                return _done(job, result)
            await asyncio.sleep(wait)
            wait *= retry.grow
    raise GatewayLost(f"{job['tool']}: no attempt was made")


def _asked(job: dict[str, Any], pending: ApprovalPending) -> StepRecord:
    action = Action(
        tool=job["tool"],
        arguments=job["arguments"],
        reason=job["reason"] or f"{job['step']} calls {job['tool']}",
        approval=pending.approval_id,
        status="pending",
    )
    again = {name: value for name, value in job.items() if name != "answer"}
    return StepRecord(
        status="asked", approval=pending.approval_id, actions=[action.model_dump(mode="json")], job=again
    )


def _refused(answer: dict[str, Any]) -> StepRecord:
    by = f" by {answer['by']}" if answer.get("by") else ""
    why = f": {answer['reason']}" if answer.get("reason") else ""
    decision = {**answer, "decision": "rejected" if answer["status"] == "denied" else answer["status"]}
    outputs = {name: decision.get(name, "") for name in ("decision", "reason", "by")}
    error = f"{answer['status']}{by}{why}"
    return StepRecord(status="rejected", error=error, outputs=outputs, decision=decision)


def _done(job: dict[str, Any], result: ToolResult) -> StepRecord:
    """What a call came to: outputs of the declared types, or why it failed."""
    if result.refusal and result.refusal.code in GONE and not job.get("retry") and not result.call:
        raise GatewayLost(f"{job['tool']}: {result.refusal.message}")
    if result.refusal or result.is_error:
        said = f"{result.refusal.code}: {result.refusal.message}" if result.refusal else result.text
        return StepRecord(status="failed", error=said[:LONGEST_TEXT], call=result.call)
    outputs: dict[str, Any] = {"text": result.text[:LONGEST_TEXT], "call": result.call}
    if result.data is not None and len(json.dumps(result.data)) <= LARGEST_RESULT:
        outputs["result"] = result.data
    answer = job.get("answer")
    if answer:
        edit = answer.get("edit") or {}
        outputs |= {
            "decision": "approved",
            "by": answer.get("by", ""),
            "reason": answer.get("reason", ""),
            **edit,
        }
    try:
        outputs |= declared(job, result.data, result.text)
    except ExpressionFailed as error:
        return StepRecord(status="failed", error=str(error), call=result.call, outputs=outputs)
    record = StepRecord(status="done", call=result.call, outputs=outputs)
    if answer:
        record["decision"] = answer
    return record


def declared(job: dict[str, Any], data: Any, text: str) -> dict[str, Any]:
    """The outputs that a step declares, out of its result; ExpressionFailed where one is not of its type."""
    seen = {"result": data, "text": text, "item": job.get("item")}
    kinds = {"result": "any", "text": "string"} | ({"item": "any"} if "item" in job else {})
    found = {}
    for name, output in (job.get("outputs") or {}).items():
        value = compile_expression(output["value"] or f"result.{name}", kinds).value(seen)
        try:
            found[name] = as_type(value, output["type"])
        except ValueError as error:
            raise ExpressionFailed(f"the output `{name}`: {error}") from None
    return found


def answered(job: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """A person's answer: kept with the decisions; the step that asked by itself is done with it."""
    update: dict[str, Any] = {"decisions": [answer]}
    if job.get("step"):
        decision = {"decision": answer.get("answer", "decided")}
        update["steps"] = {job["step"]: StepRecord(status="done", decision=answer, outputs=decision)}
    return update


def _told(job: dict[str, Any], record: StepRecord) -> dict[str, Any]:
    """What the ledger keeps of a step."""
    outputs = {
        name: value for name, value in record.get("outputs", {}).items() if name not in ("text", "result")
    }
    return {
        "step": job["step"],
        "tool": job["tool"],
        "status": record["status"],
        "call": record.get("call", ""),
        "outputs": outputs,
        **({"error": record.get("error")} if record.get("error") else {}),
        **({"decision": record.get("decision")} if record.get("decision") else {}),
    }
