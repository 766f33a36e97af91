"""The rules of evidence, and the one way in which every specialist is asked, wherever it runs.

A claim stands on words that stand literally in the result of a gateway call made in this task, or on
evidence that came with the task. Guidance (runbooks, memory) helps people and is not evidence.
What does not stand is dropped and counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from specialists.errors import ApprovalPending, SpecialistsError
from specialists.toolbox import SHORTEST_QUOTE, Toolbox
from specialists.types import Action, Cause, Claim, Event, Evidence, Finding, Progress, Specialist, Task

log = logging.getLogger(__name__)

# What a provider reports of its own tools (the record of it) is advice as well: nothing here saw it happen.
GUIDANCE_TOOLS = ("runbooks__*", "memory__*", "gateway__record_model", "hosted/*")
MOST = {"claims": 60, "causes": 20, "actions": 10, "guidance": 10, "missing": 40}
MOST_EVIDENCE = 20
LONGEST_TEXT = 2_000
LONGEST_QUOTE = 4_000

Holder = TypeVar("Holder", Claim, Cause)
Good = Callable[[Evidence], bool]


def stands(evidence: Evidence, text: str) -> bool:
    """Whether the quoted words stand literally in the text of the result they cite."""
    return len(evidence.quote.strip()) >= SHORTEST_QUOTE and evidence.quote in text


def is_guidance(tool: str) -> bool:
    """Whether what this tool returns is advice, which is never evidence."""
    return any(fnmatchcase(tool, pattern) for pattern in GUIDANCE_TOOLS)


async def investigate_checked(specialist: Specialist, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
    """Ask a specialist: `started`, what happens on the way (tool calls included), `finished`, one Finding.

    Whatever it does (raises, hangs, lies, says nothing), the Finding comes and says so.
    """
    name, calls, started = specialist.card.name, 0, time.monotonic()
    yield Progress(specialist=name, kind="started", text=task.question)
    events: asyncio.Queue[Progress | None] = asyncio.Queue()
    with toolbox.heard_by(lambda event: events.put_nowait(event.model_copy(update={"specialist": name}))):
        working = asyncio.create_task(_work(specialist, task, toolbox, events), name=f"specialist {name}")
        try:
            while (event := await events.get()) is not None:
                calls += event.kind == "tool"
                yield event
            finding = await working
        finally:
            working.cancel()
            await asyncio.wait({working})
    seconds = round(time.monotonic() - started, 3)
    finding = finding.model_copy(update={"calls": calls, "seconds": seconds})
    yield Progress(specialist=name, kind="finished", text=finding.summary, seconds=seconds)
    yield finding


def checked(finding: Finding, task: Task, toolbox: Toolbox) -> Finding:
    """The finding without what does not stand and within bounds; `dropped` counts the claims that went."""
    inherited = _inherited(task)

    def good(evidence: Evidence) -> bool:
        return evidence in inherited or _made_here(evidence, toolbox)

    claims, causes = _standing(finding.claims, good), _standing(finding.causes, good)
    gone = finding.dropped + len(finding.claims) - len(claims) + len(finding.causes) - len(causes)
    actions = tuple(_as_the_gateway_has_it(action, toolbox) for action in finding.actions)
    changes: dict[str, Any] = {"claims": claims, "causes": causes, "actions": actions, "dropped": gone}
    if gone:
        name = finding.specialist
        log.warning("%s: %d claims dropped in task %s: their evidence does not stand", name, gone, task.id)
        if finding.status == "found" and not (claims or causes or finding.actions or finding.guidance):
            summary = f"All {gone} claims were dropped: the words they cite do not stand in any result."
            changes |= {"status": "abstained", "summary": summary}
    return _bounded(finding.model_copy(update=changes))


def cited_calls(finding: Finding, task: Task) -> list[tuple[str, dict[str, Any], set[str]]]:
    """What a finding says was called for its task: tool, arguments, ids cited; an action cites none."""
    inherited = _inherited(task)
    found: dict[str, tuple[str, dict[str, Any], set[str]]] = {}
    for holder in (*finding.claims, *finding.causes):
        for e in (each for each in _all_evidence(holder) if each not in inherited):
            key = f"{e.tool} {json.dumps(e.arguments, sort_keys=True)}"
            found.setdefault(key, (e.tool, e.arguments, set()))[2].add(e.call)
    for action in finding.actions:
        if action.status in ("pending", "done"):
            key = f"{action.tool} {json.dumps(action.arguments, sort_keys=True)}"
            found.setdefault(key, (action.tool, action.arguments, set()))
    return list(found.values())


def failed(specialist: Specialist, task: Task, why: str) -> Finding:
    """A finding that says why there is none."""
    return Finding(
        task=task.id,
        specialist=specialist.card.name,
        mode=getattr(specialist, "mode", "local"),
        status="failed",
        summary=_cut(why),
        missing=(_cut(f"{specialist.card.name}: {why}"),),
    )


async def _work(
    specialist: Specialist, task: Task, toolbox: Toolbox, events: asyncio.Queue[Progress | None]
) -> Finding:
    """The specialist's finding, checked; its errors become findings, its progress goes to the queue."""
    name = specialist.card.name
    limit = asyncio.timeout(task.seconds)
    try:
        async with limit:
            finding = await _listen(specialist, task, toolbox, events)
        return checked(finding, task, toolbox)
    except TimeoutError as error:
        if limit.expired():
            log.warning("%s: task %s gave up at its deadline of %g s", name, task.id, task.seconds)
            return failed(specialist, task, f"gave up: no finding within the task's {task.seconds:g} s")
        return _broken(specialist, task, error)
    except ApprovalPending as wait:
        return _waiting(specialist, task, wait)
    except SpecialistsError as error:
        log.warning("%s: task %s failed: %s", name, task.id, error)
        return failed(specialist, task, str(error))
    except Exception as error:
        return _broken(specialist, task, error)
    finally:
        events.put_nowait(None)


async def _listen(
    specialist: Specialist, task: Task, toolbox: Toolbox, events: asyncio.Queue[Progress | None]
) -> Finding:
    """Pass progress on until the Finding; refuse one that is not for this task."""
    stream: Any = specialist.investigate(task, toolbox)
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, Progress):
                if event.kind in ("note", "tool"):
                    events.put_nowait(event.model_copy(update={"specialist": specialist.card.name}))
                continue
            if not isinstance(event, Finding):
                return failed(specialist, task, f"it sent a {type(event).__name__} instead of a finding")
            if (event.task, event.specialist) != (task.id, specialist.card.name):
                theirs = f"{event.specialist!r} on task {event.task!r}"
                return failed(specialist, task, f"its answer was for {theirs}, which is not what was asked")
            return event
    return failed(specialist, task, "it ended without a finding")


def _broken(specialist: Specialist, task: Task, error: Exception) -> Finding:
    log.exception("%s: task %s failed", specialist.card.name, task.id, exc_info=error)
    return failed(specialist, task, f"it broke: {type(error).__name__}: {error}")


def _waiting(specialist: Specialist, task: Task, wait: ApprovalPending) -> Finding:
    """A finding that carries the call which waits for a person."""
    why = f"{wait.tool} waits for approval {wait.approval_id}."
    action = Action(
        tool=wait.tool, arguments=wait.arguments, reason=why, approval=wait.approval_id, status="pending"
    )
    finding = failed(specialist, task, why)
    return finding.model_copy(update={"status": "found", "actions": (action,), "missing": ()})


def _made_here(evidence: Evidence, toolbox: Toolbox) -> bool:
    """Whether it cites a call of this toolbox, truthfully, and the call is one that evidence may rest on."""
    result = toolbox.results.get(evidence.call)
    if result is None or result.refusal or is_guidance(result.tool):
        return False
    if (evidence.tool, evidence.arguments) != (result.tool, result.arguments):
        return False
    return stands(evidence, result.text)


def _as_the_gateway_has_it(action: Action, toolbox: Toolbox) -> Action:
    """The action, `pending` or `done` only if the gateway said so to a call of this toolbox."""
    same = [r for r in toolbox.results.values() if (r.tool, r.arguments) == (action.tool, action.arguments)]
    if action.status == "pending":
        true = any(r.refusal and action.approval and r.refusal.approval == action.approval for r in same)
    else:
        true = action.status != "done" or any(not r.refusal and not r.is_error for r in same)
    return action if true else action.model_copy(update={"status": "proposed", "approval": ""})


def _standing(holders: tuple[Holder, ...], good: Good) -> tuple[Holder, ...]:
    kept = (_with_standing_evidence(holder, good) for holder in holders)
    return tuple(holder for holder in kept if holder.evidence)


def _with_standing_evidence(holder: Holder, good: Good) -> Holder:
    changes: dict[str, Any] = {"evidence": tuple(filter(good, holder.evidence))[:MOST_EVIDENCE]}
    if isinstance(holder, Cause):
        changes["against"] = tuple(filter(good, holder.against))[:MOST_EVIDENCE]
    kept = all(len(stood) == len(getattr(holder, name)) for name, stood in changes.items())
    return holder if kept else holder.model_copy(update=changes)


def _inherited(task: Task) -> list[Evidence]:
    """The evidence that came with a task."""
    return [evidence for lead in (*task.leads, *task.claims) for evidence in _all_evidence(lead)]


def _all_evidence(holder: Claim | Cause) -> tuple[Evidence, ...]:
    return holder.evidence + (holder.against if isinstance(holder, Cause) else ())


def _bounded(finding: Finding) -> Finding:
    """The finding cut to sizes that a report can carry."""
    lists = {name: getattr(finding, name)[:most] for name, most in MOST.items()}
    lists["claims"] = tuple(_cut_texts(claim) for claim in lists["claims"])
    lists["causes"] = tuple(_cut_texts(cause) for cause in lists["causes"])
    lists["actions"] = tuple(_cut_texts(action) for action in lists["actions"])
    lists["guidance"] = tuple(_cut_texts(passage) for passage in lists["guidance"])
    lists["missing"] = tuple(_cut(words) for words in lists["missing"])
    return finding.model_copy(update=lists | {"summary": _cut(finding.summary)})


def _cut_texts(value: Any) -> Any:
    """A value with its long texts cut, itself where there are none; a cut quotation is still literal."""
    changes: dict[str, Any] = {}
    for name, held in value:
        if isinstance(held, str):
            if len(held) > LONGEST_TEXT:
                changes[name] = _cut(held)
        elif name in ("evidence", "against") and any(len(e.quote) > LONGEST_QUOTE for e in held):
            changes[name] = tuple(e.model_copy(update={"quote": e.quote[:LONGEST_QUOTE]}) for e in held)
    return value.model_copy(update=changes) if changes else value


def _cut(words: str) -> str:
    return words if len(words) <= LONGEST_TEXT else words[: LONGEST_TEXT - 1] + "…"
