"""Remediation: proposes what undoes the cause, does it only through approval, and verifies that it helped."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from specialists.local import indicators, times
from specialists.local.casework import Casebook, backed, quote, same_service
from specialists.local.indicators import FALLING, PAIN
from specialists.local.series import Series, detect, read, spread
from specialists.types import Action, Card, Cause, Claim, Event, Evidence, Progress, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox, ToolResult

BACK = timedelta(hours=24)
SCALABLE = frozenset({"traffic_surge", "cpu_saturated", "workers_saturated", "overloaded", "queue_backlog"})
RESTARTABLE = frozenset({"memory_exhausted", "connections_exhausted", "pool_exhausted", "lock_contention"})
MOST_ACTIONS = 2
MOST_EVIDENCE = 4  # quotations a person is shown for an action
CLEAR = 0.7  # confidence of the first cause from which no second action is offered


class RemediationSpecialist:
    """Proposes actions from the leads; carries one out when told to, and compares before and after."""

    card = Card(
        name="remediation",
        description="Proposes rollback, restart or scale; runs them through approval; verifies recovery.",
        tools=("actions__*", "changes__deploys", "metrics__query_range"),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Propose actions, or carry out the one the task names."""
        book = Casebook(self.card.name, task, toolbox)
        if task.act is None:
            yield await _propose(book)
            return
        yield Progress(specialist=self.card.name, kind="note", text=f"asking to run {said(task.act)}")
        yield await _act(book, task.act)


def said(action: Action) -> str:
    """An action in words."""
    given = ", ".join(f"{k} {v}" for k, v in action.arguments.items())
    return f"{action.tool.partition('__')[2]} ({given})"


async def _propose(book: Casebook) -> Any:
    leads = book.task.leads
    if not leads:
        return book.finding("There is no cause yet to act on.")
    status = await book.ask("actions__status")
    services = {s["service"]: s for s in status.data.get("services", ())} if status else {}
    changes = any(c.category == "change" for c in leads)
    until = book.window.now
    deploys = (
        await book.ask("changes__deploys", start=times.iso(until - BACK), end=times.iso(until), limit=200)
        if changes
        else None
    )
    listed = list(deploys.data.get("deploys", ())) if deploys else []
    actions: list[Action] = []
    for lead in leads[:4]:
        action = _for(lead, services, listed)
        if actions and leads[0].confidence >= CLEAR:
            break
        if action and not any((a.tool, a.arguments) == (action.tool, action.arguments) for a in actions):
            actions.append(action)
    if not actions:
        advice = next((c.remedy for c in leads if c.remedy), "")
        return book.finding(f"No tool here undoes this cause. {advice}".strip())
    return book.finding(
        f"Proposed: {said(actions[0])}. {actions[0].reason}", actions=tuple(actions[:MOST_ACTIONS])
    )


def _for(lead: Cause, services: dict[str, Any], deploys: list[dict[str, Any]]) -> Action | None:
    """The action that undoes a cause, if one does."""
    kind, _, name = lead.object.partition("/")
    if lead.category == "change" and lead.label != "flag_change":
        return _rollback(lead, kind, name, services, deploys)
    service = next((s for s in services if same_service(s, name)), "") if kind in {"service", "app"} else ""
    if not service:
        return None
    if lead.label in SCALABLE:
        return _scale(lead, service, services[service])
    if lead.label in RESTARTABLE:
        return Action(
            tool="actions__restart",
            arguments={"service": service},
            reason=f"A restart of {service} frees what it holds: {lead.statement}",
            risk="Requests in flight are lost, and the trouble comes back unless its cause is removed.",
            undo="None needed; a restart cannot be undone.",
        )
    return None


def _rollback(
    lead: Cause, kind: str, name: str, services: dict[str, Any], deploys: list[dict[str, Any]]
) -> Action | None:
    deploy = _deploy(lead, kind, name, deploys)
    if deploy is None:
        return None
    service = deploy["service"]
    before = services.get(service, {}).get("previous") or []
    target = deploy.get("previous") or (before[0] if before else "")
    if before and target not in before:
        target = before[0]
    current = deploy.get("version", "")
    arguments = {"service": service} | ({"to_version": target} if target else {})
    to = target or "the version before"
    return Action(
        tool="actions__rollback",
        arguments=arguments,
        reason=f"Rolling {service} back from {current or 'its version'} to {to} undoes it: {lead.statement}",
        risk=f"Whatever else {current or 'this version'} brought goes with it; check for data migrations.",
        undo=f"Deploy {service} {current} again." if current else f"Deploy {service} again.",
    )


def _deploy(lead: Cause, kind: str, name: str, deploys: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The deploy that made a change live."""
    if kind == "commit":
        for deploy in deploys:
            sha = deploy.get("commit") or ""
            if sha and (sha.startswith(name) or name.startswith(sha)):
                return deploy
    for deploy in deploys:
        same_time = lead.at is not None and times.parse(deploy["timestamp"]) == lead.at
        if same_time or (kind == "service" and same_service(deploy["service"], name)):
            return deploy
    return None


def _scale(lead: Cause, service: str, state: dict[str, Any]) -> Action:
    now = max(1, int(state.get("replicas") or 1))
    wanted = max(now + 1, math.ceil(now * 2))
    return Action(
        tool="actions__scale",
        arguments={"service": service, "replicas": wanted},
        reason=f"{service} has {now} replicas and more work than they can do: {lead.statement}",
        risk="What it calls gets more load too; watch databases and quotas.",
        undo=f"Scale {service} back to {now} replicas.",
    )


async def _act(book: Casebook, action: Action) -> Any:
    """Run the action (ApprovalPending passes through to the caller), then look whether it helped."""
    result = await book.toolbox.call(action.tool, action.arguments, _claim(book, action))
    book.calls += 1
    if result.is_error:
        failed = action.model_copy(update={"status": "failed"})
        why = result.text.strip().splitlines()[0] if result.text.strip() else "an error without words"
        book.missing.append(f"{action.tool}: {why[:300]}")
        return book.finding(f"{said(action)} did not run: {why[:300]}", actions=(failed,), status="failed")
    done = action.model_copy(update={"status": "done"})
    claims = await _verify(book, result)
    verdict = claims[0].text if claims else "Whether it helped cannot be seen yet."
    return book.finding(f"{said(action)} ran. {verdict}", actions=(done,), claims=backed(claims))


def _claim(book: Casebook, action: Action) -> dict[str, Any]:
    """What a person who is asked to agree is told: why, at which risk, how to undo it, on which evidence."""
    quoted = [piece for lead in book.task.leads[:1] for piece in lead.evidence[:MOST_EVIDENCE]]
    return {
        "reason": action.reason,
        "risk": action.risk,
        "undo": action.undo,
        "evidence": [{"call": piece.call, "quote": piece.quote[:500]} for piece in quoted],
    }


async def _verify(book: Casebook, acted: ToolResult) -> list[Claim]:
    """What the violated indicators show after the action, compared with the quiet time before."""
    moment = book.window.now
    end = times.parse((acted.data or {}).get("clock")) or moment
    measured = [
        c for c in book.task.claims if c.kind == "symptom" and c.evidence[0].tool.startswith("metrics__")
    ]
    services = sorted({c.component for c in measured if c.component})
    metrics = await book.ask(
        "metrics__query_range",
        services=services,
        start=times.iso(book.window.start),
        end=times.iso(max(end, moment)),
    )
    if metrics is None:
        return []
    claims: list[Claim] = []
    for raw in metrics.data.get("series", ()):
        series = read(raw)
        if services and not any(same_service(series.service, s) for s in services):
            continue
        claim = _recovered(series, metrics, moment)
        if claim:
            claims.append(claim)
    if not claims:
        book.missing.append(f"metrics: nothing after {times.clock(moment)} shows whether it helped")
    own = book.alert
    claims.sort(
        key=lambda c: (not same_service(c.component, own.service), not (own.metric and own.metric in c.text))
    )
    return claims[:4]


def _recovered(series: Series, result: ToolResult, moment: datetime) -> Claim | None:
    """Whether an indicator that was bad before a moment is as usual again after it."""
    kind = indicators.kind(series.metric, series.unit)
    split = int(np.searchsorted(series.t, moment.timestamp(), side="right"))
    if kind not in PAIN or len(series.t) - split < 3:
        return None
    past = Series(series.service, series.metric, series.unit, series.t[:split], series.v[:split])
    shift = detect(past)
    if shift is None or shift.up == (kind in FALLING):
        return None
    began = int(np.searchsorted(series.t, shift.onset.timestamp()))
    usual, after = series.v[:began], series.v[split:]
    tail = after[-max(3, len(after) // 3) :]
    band = 5.0 * spread(usual)
    level = float(np.median(tail))
    good = abs(level - shift.before) <= max(band, 0.1 * abs(shift.after - shift.before))
    inside = np.abs(after - shift.before) <= max(band, 0.1 * abs(shift.after - shift.before))
    since = times.at(float(series.t[split + int(np.argmax(inside))])) if good else None
    largest = max(abs(shift.after), abs(shift.before), abs(level))
    text = [
        indicators.write(v, series.metric, series.unit, largest) for v in (shift.after, level, shift.before)
    ]
    words: Evidence | None = quote(result, f"{series.service} {series.metric}", "last=", width=260)
    if words is None:
        return None
    if good:
        sentence = (
            f"{series.metric} of {series.service} recovered at {times.clock(since)}: {text[0]} → {text[1]} "
            f"(before the incident {text[2]})."
        )
    else:
        sentence = (
            f"{series.metric} of {series.service} has not recovered: it stands at {text[1]}, "
            f"before the incident it was {text[2]}."
        )
    return Claim(
        kind="recovery",
        text=sentence,
        confidence=0.9,
        evidence=(words,),
        component=series.service,
        at=since,
    )
