"""One case, from trigger to report: five nodes, five words.

    trigger ▶ plan ▶ execute ▶ validate ▶ deliver
               ▲        │                   │
               └────────┴───────────────────┘  (next wave · a person's answer · an approved action)

`plan` sends out one wave of specialists after the other and, when all were asked, goes on to `validate`.
`execute` does one job: a specialist's task, or the wait for a person; the job that waits does nothing else.
The state holds JSON values only; everything that lives (gateway, roster, tokens) is the run's `Desk`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt

from coordinator import delivery, validation
from coordinator.desk import Desk, words
from coordinator.planning import next_jobs, tools_offered
from coordinator.types import CaseState, Trigger
from specialists import tracing
from specialists.errors import GatewayLost
from specialists.evidence import investigate_checked
from specialists.types import Finding, Progress, Task


def compile_graph(saver: Any) -> Any:
    """The graph of a case, checkpointed by `saver`."""
    graph = StateGraph(CaseState, context_schema=Desk)
    nodes: tuple[Any, ...] = (trigger, plan, execute, validate, deliver)
    for node in nodes:
        graph.add_node(node)
    graph.add_edge(START, "trigger")
    graph.add_edge("trigger", "plan")
    graph.add_edge("execute", "plan")
    return graph.compile(checkpointer=saver)


async def trigger(state: CaseState, runtime: Runtime[Desk]) -> dict[str, Any]:
    """Open the case: put the trigger into the ledger and see which specialists have their tools."""
    desk = runtime.context
    opened = Trigger.model_validate(state["trigger"])
    body = opened.model_dump(mode="json", exclude={"payload": True, "scope": {"alert"}})
    await desk.gateway.record_step("trigger", body)
    wanted = state.get("specialists") or list(desk.roster.names())
    offered = await asyncio.gather(*(_offered(desk, name) for name in wanted))
    return {"offered": dict(zip(wanted, offered, strict=True))}


async def plan(state: CaseState, runtime: Runtime[Desk]) -> Command[Literal["execute", "validate"]]:
    """Send out the next wave of jobs, or go on to validate when everything was asked."""
    desk = runtime.context
    wave, jobs = next_jobs(state, desk.seconds)
    if not jobs:
        return Command(goto="validate")
    tasks = {job["task"]["specialist"]: job["task"]["id"] for job in jobs}
    await desk.gateway.record_step("plan", {"wave": wave, "tasks": tasks, "offered": state.get("offered")})
    return Command(update={"waves": [wave]}, goto=[Send("execute", job) for job in jobs])


async def execute(job: dict[str, Any], runtime: Runtime[Desk]) -> dict[str, Any]:
    """Do one job: ask one specialist, or wait for a person."""
    if job["kind"] != "investigate":
        return {"decisions": [interrupt(job)]}
    finding = await _investigate(Task.model_validate(job["task"]), runtime.context)
    return {"findings": [finding.model_dump(mode="json")]}


async def validate(state: CaseState, runtime: Runtime[Desk]) -> Command[Literal["execute", "deliver"]]:
    """Check evidence, rank hypotheses, cap confidence, run the gates; a blocking doubt waits for a person."""
    verdict = await validation.judge(state, runtime.context)
    question = validation.question_for_a_person(state, verdict)
    goto: Any = [Send("execute", question)] if question else "deliver"
    return Command(update={"verdict": verdict}, goto=goto)


async def deliver(state: CaseState, runtime: Runtime[Desk]) -> Command[Literal["execute", "__end__"]]:
    """Write the report; every citation resolves or nothing is delivered. A pending approval waits then."""
    report = await delivery.write(state, runtime.context)
    wait = delivery.wait_for_approval(state, report)
    goto: Any = [Send("execute", wait)] if wait else END
    return Command(update={"report": report.model_dump(mode="json")}, goto=goto)


async def _offered(desk: Desk, name: str) -> bool:
    """Whether the gateway offers a specialist, under its own name, what it needs."""
    async with desk.toolbox(name, f"{desk.case}/plan/{name}") as toolbox:
        tools = await toolbox.tools()
    return tools_offered(desk.roster.card(name), [tool.name for tool in tools])


async def _investigate(task: Task, desk: Desk) -> Finding:
    """Ask one specialist; whatever happens to it becomes a finding, unless the gateway itself is gone."""
    told = {tracing.CASE: task.case, tracing.TASK: task.id}
    with tracing.agent(task.specialist, **told) as span:
        finding = await _asked(task, desk)
        if span is not None:
            span.set_attributes({tracing.MODE: finding.mode, tracing.STATUS: finding.status})
    if finding.status == "failed":
        await desk.gateway.read("gateway__search_ledger", {"case": task.case, "limit": 1})  # is it there?
    await desk.gateway.record_step("finding", _summary(finding))
    return finding


async def _asked(task: Task, desk: Desk) -> Finding:
    finding: Finding | None = None
    try:
        async with asyncio.timeout(task.seconds), desk.toolbox(task.specialist, task.id) as toolbox:
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
