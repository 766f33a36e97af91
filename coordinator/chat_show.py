"""Opens what stands behind an answer: `/show N` (call, words in context, records) and `/why` (rules)."""

from __future__ import annotations

from typing import Any

from coordinator.gateway_client import GatewayClient
from coordinator.types import Citation, Proposal

CONTEXT = 2  # lines around the words quoted
LONGEST = 300


async def show(citation: Citation, gateway: GatewayClient) -> list[str]:
    """A citation opened: the tool call, its arguments, the words quoted in context, the ledger's records."""
    held = await gateway.show_call(citation.call)
    lines = [
        f"[E{citation.n}] {citation.tool}({_arguments(citation.arguments)})",
        f"call {citation.call}",
        "",
    ]
    lines += in_context(str(held.get("text", "")), citation.quote)
    lines += ["", "ledger:"]
    return lines + [f"  {record_line(record)}" for record in held.get("records", [])]


def in_context(text: str, quote: str) -> list[str]:
    """The quoted words marked with `>` among the lines around them."""
    start = text.find(quote)
    if start < 0:
        return ["(the quoted words do not stand in the result)"]
    lines = text.splitlines()
    first = text.count("\n", 0, start)
    last = first + quote.rstrip("\n").count("\n")
    shown = range(max(0, first - CONTEXT), min(len(lines), last + CONTEXT + 1))
    return [f"{'>' if first <= n <= last else ' '} {_clip(lines[n])}" for n in shown]


async def why_call(citation: Citation, gateway: GatewayClient) -> list[str]:
    """Which policy rules let the call behind a citation go."""
    held = await gateway.show_call(citation.call)
    intent = next((r for r in held.get("records", []) if r.get("kind") in ("intent", "refusal")), None)
    if intent is None:
        return [f"the ledger holds no decision about call {citation.call}"]
    head = f"[E{citation.n}] {intent['subject']} called {citation.tool}: {_verdict(intent.get('verdict'))}"
    rules = await _rules(intent, citation.tool, citation.arguments, gateway)
    return [head, *rules]


async def why_approval(proposal: Proposal, gateway: GatewayClient) -> list[str]:
    """Which policy rules make an action wait for a person."""
    action = proposal.action
    if not action.approval:
        return [f"A-{proposal.n}: nobody was asked yet ({action.status}), so no rule has decided about it"]
    approval = await gateway.approval(action.approval)
    head = (
        f"A-{proposal.n}: {approval['subject']} wants {action.tool}({_arguments(action.arguments)}); "
        f"{_verdict('request')}"
    )
    state = f"approval {approval['id']} is {approval['status']}, asked {approval.get('requested', '?')}"
    state += f", expires {approval['expires']}" if approval.get("expires") else ""
    return [head, *await _rules(approval, action.tool, action.arguments, gateway), state]


async def _rules(
    decided: dict[str, Any], tool: str, arguments: dict[str, Any], gateway: GatewayClient
) -> list[str]:
    """The rules of a decision, with description and place; the gateway explains ids that came alone."""
    rules = decided.get("rules") or []
    if any(isinstance(rule, str) for rule in rules):
        explained = await gateway.read(
            "gateway__explain_policy",
            {
                "subject": decided["subject"],
                "roles": list(decided.get("roles") or ["specialist"]),
                "tool": tool,
                "arguments": arguments,
            },
        )
        known = {r["id"]: r for r in explained.get("rules", []) if isinstance(r, dict)}
        rules = [known.get(rule, {"id": rule}) if isinstance(rule, str) else rule for rule in rules]
    if not rules:
        return ["  no rule permits it: what policy does not permit is refused"]
    return [rule_line(rule) for rule in rules]


def rule_line(rule: dict[str, Any]) -> str:
    """A policy rule in one line: what it says, its name, where it stands."""
    where = f", {rule['where']}" if rule.get("where") else ""
    advice = f" {rule['advice']}" if rule.get("advice") else ""
    return f"  rule {rule['id']}{where}: {rule.get('description') or 'no description'}{advice}"


def record_line(record: dict[str, Any]) -> str:
    """A ledger record in one line."""
    parts = [
        f"#{record.get('seq')}",
        str(record.get("kind")),
        str(record.get("time", "")),
        str(record.get("subject", "")),
    ]
    if record.get("chain"):
        parts.append(f"for {' › '.join(record['chain'])}")
    for name in ("verdict", "status", "control"):
        if record.get(name):
            parts.append(f"{name} {record[name]}")
    if record.get("rules"):
        parts.append(f"rules {', '.join(_rule_ids(record['rules']))}")
    if record.get("ms") is not None:
        parts.append(f"{record['ms']} ms")
    if record.get("hash"):
        parts.append(f"hash {str(record['hash'])[:16]}…")
    return " · ".join(parts)


def _rule_ids(rules: list[Any]) -> list[str]:
    return [str(r.get("id")) if isinstance(r, dict) else str(r) for r in rules]


def _verdict(verdict: Any) -> str:
    said = {"call": "policy lets it go at once", "request": "policy lets it go once a person agrees"}
    return said.get(str(verdict), "policy refuses it")


def _arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
