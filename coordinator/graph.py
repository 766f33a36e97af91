"""One case, from trigger to report: five nodes, five words, whatever its workflow says.

    trigger ▶ plan ▶ execute ─┐
               ▲ ├─▶ validate ┤      (the steps of the workflow file that are ready, side by side)
               │ └─▶ deliver ─┤
               └──────────────┘

`plan` reads the workflow: which steps are ready, and what each comes to. `execute` does one job: a
specialist's task, a tool's call, or the wait for a person; the job that waits does nothing else. `validate`
runs gates, `deliver` writes the report. A call that is ready alone is put down in the state and made as
`plan` comes again, so that a chain of calls takes one checkpoint each. The state holds JSON values only;
everything that lives (gateway, roster, tokens) is the run's `Desk`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt

from coordinator import delivery, investigating, steps, validation
from coordinator.desk import Desk
from coordinator.planning import next_jobs, planned_call, specialists_of, tools_offered, workflow_of
from coordinator.types import CaseState, StepRecord, Trigger

Next = Literal["plan", "execute", "validate", "deliver", "__end__"]


def compile_graph(saver: Any) -> Any:
    """The graph of a case, checkpointed by `saver`."""
    graph = StateGraph(CaseState, context_schema=Desk)
    nodes: tuple[Any, ...] = (trigger, plan, execute, validate, deliver)
    for node in nodes:
        graph.add_node(node)
    graph.add_edge(START, "trigger")
    for before in ("trigger", "execute", "validate", "deliver"):
        graph.add_edge(before, "plan")
    return graph.compile(checkpointer=saver)


async def trigger(state: CaseState, runtime: Runtime[Desk]) -> dict[str, Any]:
    """Open the case: put the trigger into the ledger and see which specialists have their tools."""
    desk = runtime.context
    opened = Trigger.model_validate(state["trigger"])
    body = opened.model_dump(mode="json", exclude={"payload": True, "scope": {"alert"}})
    body["workflow"] = {name: state["workflow"][name] for name in ("id", "version")}
    await desk.gateway.record_step("trigger", body, about=state["workflow"]["id"])
    wanted = specialists_of(workflow_of(state), desk.roster.names(), state.get("specialists") or ())
    offered = await asyncio.gather(*(_offered(desk, name) for name in wanted))
    return {"offered": dict(zip(wanted, offered, strict=True))}


async def plan(state: CaseState, runtime: Runtime[Desk]) -> Command[Next]:
    """Make the call that was planned alone, then send out what is ready by the workflow; else the end."""
    desk = runtime.context
    made = await steps.call(job, desk) if (job := planned_call(state)) else {}
    done: dict[str, StepRecord] = made.get("steps", {})
    due = next_jobs({**state, "steps": {**state.get("steps", {}), **done}}, desk.seconds)
    alone = due.alone()
    goto: Any = ["plan"] if alone else [Send("execute", job) for job in due.jobs]
    goto += ["validate"] if due.gates else []
    goto += ["deliver"] if due.reports else []
    tasks = {job["step"]: job["task"]["specialist"] for job in due.jobs if job["kind"] == "investigate"}
    if tasks:
        await desk.gateway.record_step("plan", {"tasks": tasks, "offered": state.get("offered")})
    update: dict[str, Any] = {
        "steps": {**done, **due.settled},
        "due": {"gates": due.gates, "reports": due.reports, "calls": alone},
        "rounds": state.get("rounds", 0) + 1,
    }
    if not goto:
        goto = [END]
    return Command(update=update, goto=goto)


async def execute(job: dict[str, Any], runtime: Runtime[Desk]) -> dict[str, Any]:
    """Do one job: ask one specialist, call one tool, or wait for a person."""
    if job["kind"] in ("approval", "doubt"):
        return steps.answered(job, interrupt(job))
    if job["kind"] == "tool":
        return await steps.call(job, runtime.context)
    return await investigating.investigate(job, runtime.context)


async def validate(state: CaseState, runtime: Runtime[Desk]) -> dict[str, Any]:
    """Run the gates that are due: check evidence, rank hypotheses, measure data; a doubt asks a person."""
    return await validation.run_gates(state, runtime.context)


async def deliver(state: CaseState, runtime: Runtime[Desk]) -> dict[str, Any]:
    """Write the report; every citation resolves or nothing is delivered."""
    return await delivery.write_due(state, runtime.context)


async def _offered(desk: Desk, name: str) -> bool:
    """Whether the gateway offers a specialist, under its own name, what it needs."""
    async with desk.toolbox(name, f"{desk.case}/plan/{name}") as toolbox:
        tools = await toolbox.tools()
    return tools_offered(desk.roster.card(name), [tool.name for tool in tools])
