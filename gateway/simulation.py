"""What a new policy would have said to the calls that stand in the ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.labels import scope_of
from gateway.ledger import Ledger
from gateway.policy import Policy
from gateway.types import Subject, Tool

# How a call was decided, where it was refused after that.
REFUSED = {"denied": "deny", "approval_pending": "request", "approval_denied": "request"}


@dataclass
class Simulation:
    """The calls that were decided again, and those whose decision would be another one."""

    calls: int = 0
    changed: list[dict[str, Any]] = field(default_factory=list)
    indeterminate: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As `policy simulate --json` prints it."""
        return {"calls": self.calls, "changed": self.changed, "indeterminate": self.indeterminate}


async def simulate(ledger: Ledger, policy: Policy, environment: str = "", after: int = 0) -> Simulation:
    """Decide every recorded call again, with the arguments, the time and the labels it had."""
    found = Simulation()
    tools = {tool.public: tool for tool in policy.tools}
    seen: defaultdict[str, set[str]] = defaultdict(set)
    async for record in ledger.export(after=after, bodies=("arguments",)):
        tool = tools.get(record.get("tool", ""))
        before = record.get("verdict") if record["kind"] == "intent" else REFUSED.get(record.get("code", ""))
        scope = scope_of(record.get("run", ""), record.get("case", ""), record.get("subject", ""))
        if record["kind"] == "outcome":
            seen[scope].update(record.get("labels", ()))  # what the run has read from here on
        elif record["kind"] in ("intent", "refusal") and before and record.get("verb") == "call":
            found.calls += 1
            context = {"environment": environment, "labels": seen[scope]}
            _again(found, policy, tool, record, str(before), context)
    return found


def _again(
    found: Simulation,
    policy: Policy,
    tool: Tool | None,
    record: dict[str, Any],
    before: str,
    context: dict[str, Any],
) -> None:
    told = {name: record.get(name, "") for name in ("seq", "call", "time", "subject", "tool")}
    why = _unknown(tool, record)
    if tool is None or why:
        found.indeterminate.append({**told, "why": why})
        return
    subject = Subject(
        record["subject"],
        tuple(record.get("roles", ())),
        tuple(record.get("chain", ())),
        record.get("case", ""),
        record.get("run", ""),
        record.get("task", ""),
    )
    moment = datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
    decision = policy.decide(subject, "call", tool, record["arguments"], {**context, "now": moment})
    if decision.verdict != before:
        rules = [rule.id for rule in decision.rules]
        told |= {"before": before, "after": decision.verdict, "rules": rules, "errors": list(decision.errors)}
        found.changed.append(told)


def _unknown(tool: Tool | None, record: dict[str, Any]) -> str:
    if tool is None:
        return "the tool is not approved any more"
    if not isinstance(record.get("arguments"), dict):
        return "its arguments are not kept"
    if record.get("arguments_blob") != record.get("arguments_digest"):
        return "its arguments were redacted"
    return ""
