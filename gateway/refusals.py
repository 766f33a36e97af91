"""How a refusal looks on the wire, and how policy's no and an approval's state become one."""

from __future__ import annotations

from typing import Any

from gateway.errors import Refusal, RpcError
from gateway.types import Approval, Call, Decision

APPROVAL = "pointsman-approval"  # the key of our own question in an `input_required` result
REFUSED = -32010  # for methods whose result cannot say that something went wrong


def why_not(decision: Decision) -> str:
    """The rules that said no, or that none said yes, in one line."""
    if decision.errors:
        return f"policy could not be evaluated ({decision.errors[0]})"
    rules = "; ".join(f"rule {rule.id}: {rule.description} {rule.advice}".strip() for rule in decision.rules)
    return rules or "no rule permits it; ask the operator for a rule, or use something else"


def denied(call: Call, decision: Decision) -> Refusal:
    """Policy said no: by which rule, or because no rule said yes."""
    message = f"{call.subject.id} may not {call.verb} {call.tool.public}: {why_not(decision)}"
    if decision.retry_after is not None:
        message += f" It will be another decision in {_span(decision.retry_after)}."
    return Refusal("denied", message, rules=decision.rules, retry_after=decision.retry_after)


def _span(seconds: float) -> str:
    minutes = int(seconds // 60) + 1
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def waiting(call: Call, decision: Decision, approval: Approval) -> Refusal:
    """A person has to agree first, or has said no."""
    if approval.status == "denied":
        why = f" ({approval.reason})" if approval.reason else ""
        message = f"{call.tool.public} was denied by {approval.decided_by}{why}: do something else"
        return Refusal("approval_denied", message, rules=approval.rules, approval=approval.id)
    left = approval.needed - len(approval.grants)
    who = "a person's approval" if left == 1 else f"the approval of {left} different persons"
    message = (
        f"{call.tool.public} needs {who}: {approval.id} waits until {approval.expires}; "
        f"after `pointsman approvals grant {approval.id} --reason WHY` make exactly this call again"
    )
    return Refusal("approval_pending", message, rules=decision.rules or approval.rules, approval=approval.id)


def refusal_data(refusal: Refusal) -> dict[str, Any]:
    """The refusal as a program reads it."""
    data: dict[str, Any] = {
        "code": refusal.code,
        "message": refusal.message,
        "rules": [
            {"id": r.id, "description": r.description, "advice": r.advice, "where": r.where}
            for r in refusal.rules
        ],
    }
    if refusal.approval:
        data["approval"] = refusal.approval
    if refusal.retry_after is not None:
        data["retry_after"] = refusal.retry_after
    return data


def refusal_result(refusal: Refusal, call: Call | None, era: str, state: str = "") -> dict[str, Any]:
    """The refusal as a tool result; with a sealed state, as a question that only tells where to look."""
    meta: dict[str, Any] = {"pointsman/call": call.id} if call is not None else {}
    meta["pointsman/refusal"] = refusal_data(refusal)
    if state:
        question = {
            "method": "elicitation/create",
            "params": {
                "mode": "form",
                "message": f"Approval {refusal.approval}: {refusal.message}. Answering looks again, no more.",
                "requestedSchema": {"type": "object", "properties": {}},
            },
        }
        return {
            "resultType": "input_required",
            "inputRequests": {APPROVAL: question},
            "requestState": state,
            "_meta": meta,
        }
    text = {"type": "text", "text": f"{refusal.code}: {refusal.message}"}
    result: dict[str, Any] = {"content": [text], "isError": True, "_meta": meta}
    return {**result, "resultType": "complete"} if era == "modern" else result


def refusal_error(refusal: Refusal, call: Call | None, uri: object = None) -> RpcError:
    """The refusal as a JSON-RPC error, for methods that have no result to put it in."""
    data = refusal_data(refusal)
    if call is not None:
        data["call"] = call.id
    if isinstance(uri, str):
        data["uri"] = uri
    number = -32602 if refusal.code == "unknown_tool" else REFUSED
    return RpcError(f"{refusal.code}: {refusal.message}", number=number, data=data)
