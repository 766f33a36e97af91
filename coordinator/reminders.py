"""Reminds people of checkpoints that wait, and tells when further people may decide one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from coordinator.gateway_client import GatewayClient
from coordinator.planning import workflow_of
from coordinator.types import CaseState, Message, Outgoing, StepRecord
from coordinator.workflows.model import CheckpointStep

LONGEST_TITLE = 200
LONGEST_VALUE = 300


def reminders_of(state: CaseState, now: datetime) -> list[Outgoing]:
    """What is to be sent about the checkpoints at which a case waits from now on."""
    steps = {step.id: step for step in workflow_of(state).steps if isinstance(step, CheckpointStep)}
    asked = (
        (steps[k], r) for k, r in state.get("steps", {}).items() if r["status"] == "asked" and k in steps
    )
    return [one for step, record in asked for one in _of(step, record, state["case"], now)]


def _of(step: CheckpointStep, record: StepRecord, case: str, now: datetime) -> Iterator[Outgoing]:
    actions = [str(action["approval"]) for action in record.get("actions", []) if action.get("approval")]
    own = record.get("approval", "")
    approvals = [own] if own else actions
    if not approvals:
        return
    arguments = record.get("job", {}).get("arguments", {})
    body = {
        "step": step.id,
        "approvals": approvals,
        "question": step.checkpoint,
        "shows": arguments.get("shows", {}),
        "by": step.by,
        "expires": (now + step.expires).isoformat(),
    }
    key = f"{case} {approvals[0]}"
    for n, after in enumerate(step.remind, 1):
        yield Outgoing(
            key=f"{key} reminder {n}", case=case, kind="reminder", to=step.tell, at=now + after, body=body
        )
    if step.escalate is not None:
        to, role = step.escalate.tell or step.tell, {"role": step.escalate.to}
        at = now + step.escalate.after
        yield Outgoing(
            key=f"{key} escalation", case=case, kind="escalation", to=to, at=at, body={**body, **role}
        )


async def still_open(one: Outgoing, gateway: GatewayClient) -> bool:
    """Whether anything of what a message is about is still undecided."""
    found = [await gateway.approval(id_) for id_ in one.body["approvals"]]
    return any(approval["status"] == "pending" for approval in found)


def about(one: Outgoing) -> dict[str, Any]:
    """What the ledger says of a reminder or an escalation besides where it went."""
    role = {"role": one.body["role"]} if "role" in one.body else {}
    return {"step": one.body["step"], "approvals": one.body["approvals"], **role}


def message_of(one: Outgoing) -> Message:
    """A reminder, or the word that a further role may decide, in the forms that destinations take."""
    body = one.body
    waits = f"{one.case} waits: {body['question']}"
    title = " ".join(waits.split())[:LONGEST_TITLE]
    role = body.get("role") or body["by"]
    lines = [f"- {name}: {str(value)[:LONGEST_VALUE]}" for name, value in body["shows"].items()]
    if "role" in body:
        lines.append(f"\nNobody has decided. From now on people with the role {role} may.")
    elif role:
        lines.append(f"\nSomebody with the role {role} decides.")
    lines.append(f"It counts as rejected after {body['expires'][:16].replace('T', ' ')} UTC.")
    lines += [f"Decide: pointsman approvals grant {id_} --reason WHY (or deny)" for id_ in body["approvals"]]
    return Message(
        case=one.case,
        key=one.key,
        title=title,
        text="\n".join(lines),
        short="\n".join([title, *lines])[:4000],
        body={"type": one.kind, "case": one.case, "title": title, **body},
    )
