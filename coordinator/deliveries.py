"""Sends the report of a case where the operator wants it: each destination is a tool on the gateway.

`tickets` opens a ticket with the first message of a case and comments on it with every further one; other
names are destinations of the delivery server. A report that is sent again, such as after a crash, arrives
once: its key is the case and the last record it stands on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from coordinator.errors import CoordinatorError
from coordinator.gateway_client import GatewayClient
from coordinator.markdown import OUTCOMES, markdown
from coordinator.types import Message, Report
from specialists.toolbox import Toolbox, ToolResult

log = logging.getLogger("coordinator.deliveries")
TICKETS = "tickets"
LONGEST_TICKET = 60_000
ATTEMPTS = (0.0, 0.5, 2.0)  # seconds before each
FINAL = ("denied", "approval_pending", "unknown_tool", "quarantined", "key_conflict", "invalid_arguments")
TOOLS = {"files": "write_report", "email": "send_email", "webhook": "send_webhook", "chat": "post_message"}


class NotDelivered(CoordinatorError):
    """A destination that a report did not reach."""

    code = "not_delivered"


async def send(report: Report, destinations: Iterable[str], gateway: GatewayClient) -> list[dict[str, Any]]:
    """Deliver a report everywhere; what became of it at each destination, which also stands in the ledger."""
    told = await deliver(message_of(report), destinations, gateway, f"deliver/{report.ledger.last}")
    for became in told:
        await gateway.record_step("delivery", {"report": report.ledger.last, **became})
    return told


async def deliver(
    message: Message, destinations: Iterable[str], gateway: GatewayClient, work: str
) -> list[dict[str, Any]]:
    """Send a message everywhere: `to` and `status` of each, and why it failed or what was sent."""
    told, names = [], list(dict.fromkeys(destinations))
    if not names:
        return []
    async with _hand(gateway, work) as hand:
        kinds: Mapping[str, str] | None = None
        for name in names:
            try:
                if kinds is None:
                    kinds = await _kinds(hand) if set(names) - {TICKETS} else {}
                became = await _send(message, name, kinds, hand)
            except CoordinatorError as error:
                log.warning("%s: not delivered to %s: %s", message.case, name, error)
                became = {"to": name, "status": "failed", "why": str(error)}
            told.append(became)
    return told


async def close(case: str, gateway: GatewayClient) -> None:
    """Say in the tickets of a case that its alerts are over, and close them."""
    page = await gateway.read("gateway__search_ledger", {"case": case, "kind": "step", "limit": 1000})
    sent = [r["body"] for r in page["records"] if r.get("step") == "delivery"]
    tickets = {body["reference"] for body in sent if body["to"] == TICKETS and body["status"] == "sent"}
    if not tickets:
        return
    async with _hand(gateway, "close") as hand:
        for ticket in sorted(tickets):
            words = f"Every alert of case {case} is resolved."
            asked = {"id": ticket, "body": words, "key": f"{case} closed"}
            try:
                await _call(hand, "tickets__comment", asked)
                await _call(hand, "tickets__set_status", {"id": ticket, "status": "closed"})
            except NotDelivered as error:
                log.warning("%s: ticket %s was not closed: %s", case, ticket, error)


@asynccontextmanager
async def _hand(gateway: GatewayClient, work: str) -> AsyncIterator[Toolbox]:
    """A toolbox whose token is for this case and this piece of work."""
    case = gateway.case
    token = await gateway.issue_token("agent:coordinator", "coordinator", run=case, task=f"{case}/{work}")
    toolbox = Toolbox(
        gateway.access.url, token=token, case=case, run=case, task=f"{case}/{work}", pool=gateway.pool
    )
    async with toolbox:
        yield toolbox


async def _kinds(hand: Toolbox) -> dict[str, str]:
    """The kind of each destination, by name."""
    answer = await _call(hand, "delivery__destinations", {})
    return {one["name"]: one["kind"] for one in answer.data["destinations"]}


async def _send(message: Message, name: str, kinds: Mapping[str, str], hand: Toolbox) -> dict[str, Any]:
    if name == TICKETS:
        return await _ticket(message, hand)
    if name not in kinds:
        known = ", ".join([TICKETS, *sorted(kinds)])
        raise NotDelivered(f"no destination {name!r}: known are {known}; add [tool_servers.delivery.{name}]")
    kind = kinds[name]
    asked = {"to": name, "key": message.key, **_content(kind, message)}
    answer = await _call(hand, f"delivery__{TOOLS[kind]}", asked)
    sent = answer.data
    return {
        "to": name, "kind": kind, "status": "sent", "call": answer.call,
        "digest": sent["digest"], "reference": sent["reference"], "files": sent["files"],
    }  # fmt: skip


def _content(kind: str, message: Message) -> dict[str, Any]:
    """What is sent to a destination of a kind."""
    if kind == "webhook":
        return {"body": message.body}
    if kind == "chat":
        return {"text": message.short}
    titled = {"title": message.title, "markdown": message.text}
    report = message.body["type"] == "report"  # the latest takes the place of the one before
    name = message.case if report else message.key.replace(" ", "-")
    return titled | ({"name": name} if kind == "files" else {})


def message_of(report: Report) -> Message:
    """A report in the forms that destinations take."""
    body = report.model_dump(mode="json")
    return Message(
        case=report.case,
        key=f"{report.case} {report.ledger.last}",
        title=headline(report),
        text=markdown(report),
        short=short(report),
        body={"type": "report", "case": report.case, "outcome": report.outcome, "report": body},
        severity=report.severity[:100],
        service=report.blast_radius[0][:100] if report.blast_radius else "",
    )


def headline(report: Report) -> str:
    """The report in a subject line."""
    words = " ".join(f"{report.case}: {OUTCOMES[report.outcome]}: {report.title}".split())
    return words if len(words) <= 200 else words[:199] + "…"


def short(report: Report) -> str:
    """The report in a few lines."""
    lines = [headline(report), *(sentence.text for sentence in report.summary)]
    waits = [p for p in report.proposals if p.action.status == "pending"]
    lines += [f"Waits for a person: A-{p.n} {p.action.reason}" for p in waits]
    lines.append(
        f"Ledger {report.ledger.first} to {report.ledger.last}: pointsman cases verify {report.case}"
    )
    return "\n".join(lines)[:4000]


async def _ticket(message: Message, hand: Toolbox) -> dict[str, Any]:
    """A ticket for the case; a comment where there is one already."""
    text = message.text[:LONGEST_TICKET]
    opened = await _call(
        hand,
        "tickets__create",
        {
            "title": message.title, "body": text, "severity": message.severity,
            "service": message.service, "key": message.case,
        },
    )  # fmt: skip
    ticket, call = opened.data, opened.call
    if ticket["body"] != text:
        asked = {"id": ticket["id"], "body": text, "key": message.key}
        call = (await _call(hand, "tickets__comment", asked)).call
    return {"to": TICKETS, "kind": TICKETS, "status": "sent", "call": call, "reference": ticket["id"]}


async def _call(hand: Toolbox, tool: str, arguments: dict[str, Any]) -> ToolResult:
    """Call a tool that may be called again under its own key; NotDelivered when it does not go."""
    why = ""
    for wait in ATTEMPTS:
        await asyncio.sleep(wait)
        result = await hand.note(tool, arguments)
        if not result.refusal and not result.is_error:
            return result
        why = result.refusal.message if result.refusal else result.text
        if result.refusal and result.refusal.code in FINAL:
            break
    raise NotDelivered(f"{tool}: {why[:400]}")
