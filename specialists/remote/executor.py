"""Runs a specialist for A2A callers: a message in, status updates on the way, the finding as an artifact.

A specialist whose call waits for a person ends its turn as `input-required`; any further message to that
task makes it look again, with the calls that had finished replayed from the ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from a2a.helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.server.tasks import TaskUpdater
from a2a.types.a2a_pb2 import Message, Part, Role, TaskState
from a2a.utils.constants import VERSION_HEADER
from pydantic import ValidationError
from starlette.requests import Request

from specialists import tracing
from specialists.evidence import investigate_checked
from specialists.link import Pool
from specialists.remote import wire
from specialists.remote.access import Access, AccessRefused, AllowedGateways
from specialists.toolbox import Toolbox
from specialists.types import Finding, Progress, Specialist, Task

log = logging.getLogger(__name__)

MOST_TASKS = 32  # at work at once; more are rejected and may be sent again
LONGEST_TASK = 900.0  # seconds, whatever the caller asks for
TELL_EVERY = 0.25  # seconds; what happens meanwhile is told together, and the rest with the end
HEADERS = (wire.GATEWAY_HEADER, wire.TOKEN_HEADER, wire.RUN_HEADER)


class CallerHeaders(ServerCallContextBuilder):
    """Keeps of a request's headers only those that give the way to tools, and the trace it belongs to."""

    def build(self, request: Request) -> ServerCallContext:
        """The context of one call; it lives in memory while the call does, and is never stored."""
        given = {name.lower(): request.headers.get(name, "") for name in HEADERS}
        version = (
            {VERSION_HEADER: request.headers[VERSION_HEADER]} if VERSION_HEADER in request.headers else {}
        )
        under = {name: value for name in tracing.HEADERS if (value := request.headers.get(name))}
        return ServerCallContext(state={"access": _Given(given), "under": under, "headers": version})


class _Given(dict[str, str]):
    """Headers that never show themselves in a log."""

    __repr__ = __str__ = lambda self: "<access>"


class Executor(AgentExecutor):
    """One specialist, asked over A2A."""

    def __init__(self, specialist: Specialist, allowed: AllowedGateways, pool: Pool) -> None:
        self._specialist = specialist
        self._allowed = allowed
        self._pool = pool
        self.running = 0

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Do what a message asks; what goes wrong is told as a state, never raised."""
        assert context.message is not None
        updater = TaskUpdater(event_queue, str(context.task_id), str(context.context_id))
        try:
            if self.running >= MOST_TASKS:
                raise AccessRefused(f"busy: {self.running} tasks are at work here; send it again later")
            access = self._allowed.access(context.call_context.state["access"], HEADERS)
            task = _task(context, self._specialist.card.name)
        except AccessRefused as why:
            log.warning("task %s rejected: %s", context.task_id, why)
            if context.current_task is None:
                await event_queue.enqueue_event(_first(context, TaskState.TASK_STATE_SUBMITTED))
            await updater.reject(updater.new_agent_message([Part(text=str(why))]))
            return
        self.running += 1
        try:
            if context.current_task is None:  # one update for both: it is there, and at work
                await event_queue.enqueue_event(_first(context, TaskState.TASK_STATE_WORKING))
            else:
                await updater.start_work()
            under = context.call_context.state.get("under")
            told = {tracing.CASE: task.case, tracing.TASK: task.id}
            with tracing.agent(self._specialist.card.name, under, **told) as span:
                finding = await self._work(task, access, updater)
                if span is not None:
                    span.set_attributes({tracing.STATUS: finding.status})
        finally:
            self.running -= 1

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Say that it ends; the SDK then cancels the work."""
        log.info("task %s cancelled by its caller", context.task_id)
        await TaskUpdater(event_queue, str(context.task_id), str(context.context_id)).cancel()

    async def _work(self, task: Task, access: Access, updater: TaskUpdater) -> Finding:
        name = self._specialist.card.name
        toolbox = Toolbox(
            access.url,
            token=access.token,
            case=task.case,
            run=access.run or task.case,
            task=task.id,
            specialist=name,
            pool=self._pool,
        )
        finding: Finding | None = None
        async with toolbox, _telling(updater) as untold:
            async for event in investigate_checked(self._specialist, task, toolbox):
                if isinstance(event, Finding):
                    finding = event
                elif event.kind in ("note", "tool"):
                    untold.put(event)
        assert finding is not None  # investigate_checked always ends in one
        log.info("task %s of case %s: %s, %d calls", task.id, task.case, finding.status, finding.calls)
        await updater.add_artifact(
            wire.finding_parts(finding), wire.FINDING, wire.FINDING, extensions=[wire.EXTENSION]
        )
        if waiting := [action.approval for action in finding.actions if action.status == "pending"]:
            if (message := untold.message(updater)) is not None:
                await updater.start_work(message)
            words = f"waits for approval {', '.join(waiting)}; once it is granted, send any message here"
            await updater.requires_input(updater.new_agent_message([Part(text=words)]))
        else:
            await updater.complete(untold.message(updater))
        return finding


def _first(context: RequestContext, state: TaskState) -> Any:
    """The A2A task that a message opens; it keeps the message, so that a later one can go on with it."""
    message = Message()
    message.CopyFrom(context.message or message)
    message.task_id, message.context_id = str(context.task_id), str(context.context_id)
    task = new_task_from_user_message(message)
    task.status.state = state
    return task


def _task(context: RequestContext, specialist: str) -> Task:
    """The task in this message, or in the one that opened the A2A task; a plain question is a task too."""
    assert context.message is not None
    earlier = context.current_task.history if context.current_task else ()
    messages = [context.message, *(m for m in earlier if m.role == Role.ROLE_USER)]
    given = next(filter(None, (wire.typed(m.parts, wire.TASK_TYPE) for m in messages)), "")
    try:
        if given:
            task = Task.model_validate_json(given)
        else:
            asked = next(filter(None, map(wire.said, reversed(messages))), "")
            task_id = str(context.task_id)
            task = Task(id=task_id, case=str(context.context_id), specialist=specialist, question=asked)
    except ValidationError as error:
        raise AccessRefused(f"the task cannot be read: {error.error_count()} errors in its JSON") from None
    if task.specialist != specialist:
        raise AccessRefused(f"the task is for {task.specialist!r}; this is {specialist!r}")
    return task.model_copy(update={"seconds": min(task.seconds, LONGEST_TASK)})


class _Untold:
    """The steps that the caller has not heard of yet."""

    def __init__(self) -> None:
        self._steps: list[Progress] = []
        self.some = asyncio.Event()

    def put(self, step: Progress) -> None:
        """Have a step told with the next message."""
        self._steps.append(step)
        self.some.set()

    def message(self, updater: TaskUpdater) -> Message | None:
        """One message with all of them, in order; None when there are none."""
        parts = [wire.progress_part(each) for each in self._steps]
        self._steps.clear()
        self.some.clear()
        return updater.new_agent_message(parts) if parts else None


@asynccontextmanager
async def _telling(updater: TaskUpdater) -> AsyncIterator[_Untold]:
    """Tells steps while the block runs, several in one update; the last ones are left to be told."""
    untold, whole = _Untold(), asyncio.Lock()

    async def keep_telling() -> None:
        while True:
            await untold.some.wait()
            await asyncio.sleep(TELL_EVERY)
            async with whole:
                if (message := untold.message(updater)) is not None:
                    await updater.start_work(message)

    teller = asyncio.create_task(keep_telling(), name="progress")
    try:
        yield untold
    finally:
        async with whole:  # nothing is lost in the middle of being told
            teller.cancel()
        with suppress(asyncio.CancelledError):
            await teller
