"""The A2A tasks of one served specialist: begun, followed, gone on with and cancelled, in this process.

The A2A SDK's own handler is made for tasks that several servers share: there an event goes through three
queues and six tasks of asyncio. Here whoever works on a task also writes it down and tells the listeners.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.request_handler import validate_request_params
from a2a.server.tasks import InMemoryTaskStore
from a2a.server.tasks.task_manager import append_artifact_to_task
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.task import apply_history_length, validate_history_length

log = logging.getLogger(__name__)

MOST_KEPT = 500  # tasks remembered, for callers that come back for a finding
State = a2a.TaskState
ENDED = {
    State.TASK_STATE_COMPLETED,
    State.TASK_STATE_FAILED,
    State.TASK_STATE_CANCELED,
    State.TASK_STATE_REJECTED,
}


class Handler(DefaultRequestHandler):
    """The SDK's answers to requests, but for the four in which a task is begun, followed or ended."""

    def __init__(self, executor: AgentExecutor, card: a2a.AgentCard) -> None:
        self._kept = _LatestTasks()
        super().__init__(agent_executor=executor, task_store=self._kept, agent_card=card)
        self._turns: dict[str, _Turn] = {}  # under way, by the id of the task

    @validate_request_params
    async def on_message_send_stream(
        self, params: a2a.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any]:
        """A message and all that comes of it."""
        turn = await self._begin(params, context)
        async with aclosing(turn.events()) as events:
            async for event in events:
                is_task = isinstance(event, a2a.Task)
                yield apply_history_length(event, params.configuration) if is_task else event

    @validate_request_params
    async def on_message_send(self, params: a2a.SendMessageRequest, context: ServerCallContext) -> a2a.Task:
        """A message, and the task as it stands at the end of the turn, or at once where that is asked for."""
        turn = await self._begin(params, context)
        async with aclosing(turn.events()) as events:
            async for _ in events:
                if params.configuration.return_immediately:
                    break
        return apply_history_length(turn.snapshot(), params.configuration)

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: a2a.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any]:
        """A task as it stands, and what comes of it until the turn ends."""
        task = await self._found(params.id, context)
        _refuse_ended(task)
        turn = self._turns.get(params.id)
        if turn is None:
            yield task
            return
        async with aclosing(turn.events()) as events:
            yield turn.snapshot()
            async for event in events:
                yield event

    @validate_request_params
    async def on_cancel_task(self, params: a2a.CancelTaskRequest, context: ServerCallContext) -> a2a.Task:
        """The task, cancelled: its work has ended when this is answered."""
        task = await self._found(params.id, context)
        if task.status.state in ENDED:
            raise TaskNotCancelableError
        request = RequestContext(context, task_id=task.id, context_id=task.context_id, task=task)
        turn = self._turns.get(params.id) or _Turn(request, task, self._kept)
        await self.agent_executor.cancel(request, turn)
        await turn.stop()
        return turn.snapshot()

    async def aclose(self) -> None:
        """End all work."""
        for turn in tuple(self._turns.values()):
            await turn.stop()
        await super().aclose()

    async def _begin(self, params: a2a.SendMessageRequest, context: ServerCallContext) -> _Turn:
        """Have the specialist work on a message; on its task from before, where it names one."""
        validate_history_length(params.configuration)
        message, task = params.message, None
        if message.task_id:
            task = await self._found(message.task_id, context)
            if message.context_id and message.context_id != task.context_id:
                raise InvalidParamsError(f"task {task.id} belongs to another context")
            _refuse_ended(task)
            if task.id in self._turns:
                raise UnsupportedOperationError(f"task {task.id} is at work: wait for its end, or cancel it")
        belongs = task.context_id if task else message.context_id
        request = RequestContext(context, params, message.task_id or None, belongs or None, task)
        turn = _Turn(request, task, self._kept)
        name = str(request.task_id)
        self._turns[name] = turn
        turn.start(self.agent_executor, lambda: self._turns.pop(name))
        return turn

    async def _found(self, name: str, context: ServerCallContext) -> a2a.Task:
        task = await self._kept.get(name, context)
        if task is None:
            raise TaskNotFoundError(f"Task {name} not found")
        return task


class _Turn(EventQueue):
    """The work on one message: it writes each event down in the task, and tells those who listen."""

    def __init__(self, request: RequestContext, task: a2a.Task | None, kept: InMemoryTaskStore) -> None:
        self._request, self._kept = request, kept
        self._task = _copy(task) if task else None
        self._listeners: set[asyncio.Queue[Any]] = set()
        self._work: asyncio.Task[None] | None = None

    def start(self, executor: AgentExecutor, over: Callable[[], Any]) -> None:
        """Begin; `over` is called at the end."""
        if self._task is not None and (message := self._request.message) is not None:
            _remember(self._task, message)
        self._work = asyncio.create_task(self._run(executor), name=f"task {self._request.task_id}")
        self._work.add_done_callback(lambda _: (over(), self._tell(None)))

    async def stop(self) -> None:
        """End, wherever the work is."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})

    def events(self) -> AsyncGenerator[Any]:
        """What happens from now on, until the turn ends."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._listeners.add(queue)
        if self._work is None or self._work.done():
            queue.put_nowait(None)
        return self._heard(queue)

    def snapshot(self) -> a2a.Task:
        """The task as it stands."""
        return _copy(self._task or self._failed())

    async def enqueue_event(self, event: Any) -> None:
        """Write an event down, and tell it; after its end nothing happens to a task."""
        if self._task is None:
            self._task = _copy(event)
        elif self._task.status.state in ENDED:
            return
        elif isinstance(event, a2a.TaskStatusUpdateEvent):
            _remember(self._task)
            self._task.status.CopyFrom(event.status)
        else:
            append_artifact_to_task(self._task, event)
        await self._kept.save(self._task, self._request.call_context)
        self._tell(event)

    async def _run(self, executor: AgentExecutor) -> None:
        try:
            await executor.execute(self._request, self)
        except Exception:
            log.exception("task %s broke", self._request.task_id)
            failed = self._failed()
            if self._task is None:
                await self.enqueue_event(failed)
            else:
                task_id, context_id = failed.id, failed.context_id
                await self.enqueue_event(
                    a2a.TaskStatusUpdateEvent(task_id=task_id, context_id=context_id, status=failed.status)
                )

    async def _heard(self, queue: asyncio.Queue[Any]) -> AsyncGenerator[Any]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.discard(queue)

    def _tell(self, event: Any) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)

    def _failed(self) -> a2a.Task:
        task = a2a.Task(id=str(self._request.task_id), context_id=str(self._request.context_id))
        task.status.state = State.TASK_STATE_FAILED
        task.status.timestamp.GetCurrentTime()
        return task


class _LatestTasks(InMemoryTaskStore):
    """A task store that forgets the oldest."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: OrderedDict[str, None] = OrderedDict()

    async def save(self, task: a2a.Task, context: ServerCallContext) -> None:
        """Keep a task, and let go of the one that was touched longest ago."""
        await super().save(task, context)
        self._latest[task.id] = None
        self._latest.move_to_end(task.id)
        while len(self._latest) > MOST_KEPT:
            oldest, _ = self._latest.popitem(last=False)
            await super().delete(oldest, context)


def _remember(task: a2a.Task, *messages: a2a.Message) -> None:
    """Move the message of a task's status into its history, and what was said after it."""
    if task.status.HasField("message"):
        task.history.append(task.status.message)
        task.status.ClearField("message")
    task.history.extend(messages)


def _copy(task: a2a.Task) -> a2a.Task:
    made = a2a.Task()
    made.CopyFrom(task)
    return made


def _refuse_ended(task: a2a.Task) -> None:
    if task.status.state in ENDED:
        state = State.Name(task.status.state)
        raise UnsupportedOperationError(f"Task {task.id} is in terminal state: {state}")
