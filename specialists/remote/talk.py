"""One conversation with an A2A agent: a task sent, followed through dropped streams, never left behind."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import A2AError, TaskNotFoundError, UnsupportedOperationError
from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError

from specialists import tracing
from specialists.errors import AgentFailed, AgentLost
from specialists.http import sockets
from specialists.link import Pool
from specialists.remote import foreign, wire
from specialists.remote.access import Access
from specialists.remote.agent import Agent
from specialists.settings import Remote
from specialists.types import Event, Finding, Progress, Task

log = logging.getLogger(__name__)

CANCEL_SECONDS = 2.0
MOST_STEPS = 2_000  # steps told in one task
POLL_SECONDS = 0.5
CARD_SECONDS = 60.0  # a card is trusted that long: it says whether the agent may have a way to our tools
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0

State = a2a.TaskState
ENDED = {
    State.TASK_STATE_COMPLETED,
    State.TASK_STATE_FAILED,
    State.TASK_STATE_CANCELED,
    State.TASK_STATE_REJECTED,
}
WAITING = {State.TASK_STATE_INPUT_REQUIRED, State.TASK_STATE_AUTH_REQUIRED}


async def conversation(
    name: str, settings: Remote, task: Task, access: Access, pool: Pool | None = None
) -> AsyncIterator[Event]:
    """The agent's progress and its finding; sockets and the agent's card are kept in the pool."""
    async with _sockets(pool) as http:
        agent = Agent(name, settings, http)
        known_cards = pool.keep("cards of agents", _Cards) if pool else _Cards()
        card = await known_cards.of(agent, settings)
        lost = functools.partial(known_cards.forget, settings.url)
        try:
            known = _knows_us(card, name, settings)
            agent.speaks(card)
            talk = _Talk(name, settings, task, agent, card, access if known else None, lost)
            try:
                async for event in talk.follow():
                    yield event
            finally:
                await talk.leave()
        except (AgentLost, AgentFailed):
            lost()
            raise


async def greet(name: str, settings: Remote) -> str:
    """What the agent at an address is, once it has shown its card and taken our token."""
    async with _sockets(None) as http:
        agent = Agent(name, settings, http)
        card = await agent.card()
        known = _knows_us(card, name, settings)
        agent.speaks(card)
        try:
            await agent.ask("GetTask", a2a.GetTaskRequest(id="pointsman-specialists-test"), a2a.Task(), {})
        except TaskNotFoundError:
            pass  # it looked, so it took the token
        except A2AError as error:
            raise agent.refuses(error) from error
    return f"{settings.url}: {card.name} {card.version}, " + (
        "a specialist that uses our gateway" if known else "a foreign A2A agent: its words are no evidence"
    )


class _Talk:
    """The state of one conversation."""

    def __init__(
        self,
        name: str,
        settings: Remote,
        task: Task,
        agent: Agent,
        card: a2a.AgentCard,
        access: Access | None,
        lost: Callable[[], None],
    ) -> None:
        self._name, self._settings, self._task, self._agent = name, settings, task, agent
        self._streams = card.capabilities.streaming
        self._access = access
        self._lost = lost  # told when the agent was gone or had forgotten its task
        self._id = ""  # of the A2A task, once the agent gave it one
        self._state = State.TASK_STATE_UNSPECIFIED
        self._status: a2a.Message | None = None
        self._artifacts: dict[str, a2a.Artifact] = {}
        self._heard: set[str] = set()  # messages and calls that were told already
        self._steps = 0

    async def follow(self) -> AsyncIterator[Event]:
        """Ask, and listen until the task ends; a stream that drops is taken up again."""
        patience = _Patience(self._settings.patience)
        while self._state not in ENDED | WAITING:
            try:
                async with aclosing(self._stream()) as stream:
                    async for event in stream:
                        patience.renew()
                        yield event
                if self._state not in ENDED | WAITING:
                    for event in await self._look():
                        patience.renew()
                        yield event
                    if self._state not in ENDED | WAITING:
                        await asyncio.sleep(POLL_SECONDS)
            except TaskNotFoundError:
                log.info("%s: the agent was restarted; asking again", self._name)
                self._id = ""
                self._lost()
                await patience.wait(AgentLost(f"{self._where}: it forgets the task each time it is asked"))
            except AgentLost as problem:
                log.info("%s: %s; trying again", self._name, problem)
                self._lost()
                await patience.wait(problem)
            except A2AError as error:
                raise self._agent.refuses(error) from error
        yield self._finding()

    async def leave(self) -> None:
        """Cancel the task if it still runs or waits; whoever leaves early does not leave work behind."""
        if not self._id or self._state in ENDED:
            return
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                request = a2a.CancelTaskRequest(id=self._id)
                await self._agent.ask("CancelTask", request, a2a.Task(), self._headers())
        except (A2AError, AgentLost, AgentFailed, TimeoutError) as error:
            log.info("%s: task %s could not be cancelled: %s", self._name, self._id, error)

    @property
    def _where(self) -> str:
        return self._agent.where

    async def _stream(self) -> AsyncGenerator[Progress]:
        """What one stream tells: of the task as it was sent, or as it goes on."""
        if self._id and not self._streams:
            return  # look at it instead
        method, request = "SubscribeToTask", a2a.SubscribeToTaskRequest(id=self._id)
        if not self._id:
            method, request = "SendStreamingMessage", a2a.SendMessageRequest(message=self._message())
            request.configuration.history_length = 0
            if not self._streams:
                answer = a2a.SendMessageResponse()
                for event in self._read(
                    await self._agent.ask("SendMessage", request, answer, self._headers())
                ):
                    yield event
                return
        try:
            async with aclosing(self._agent.listen(method, request, self._headers())) as responses:
                async for response in responses:
                    for event in self._read(response):
                        yield event
        except UnsupportedOperationError:
            if not self._id:
                raise
            return  # it ended meanwhile: look at it instead

    async def _look(self) -> list[Progress]:
        """The task as it stands now."""
        if not self._id:
            raise AgentFailed(f"{self._where}: it answered nothing")
        request = a2a.GetTaskRequest(id=self._id)
        return self._taken(await self._agent.ask("GetTask", request, a2a.Task(), self._headers()))

    def _message(self) -> a2a.Message:
        part = wire.task_part(self._task) if self._access else a2a.Part(text=foreign.told(self._task))
        message = a2a.Message(message_id=uuid.uuid4().hex, role=a2a.Role.ROLE_USER, parts=[part])
        if self._access:
            message.extensions.append(wire.EXTENSION)
        return message

    def _headers(self) -> dict[str, str]:
        """The headers of a request; only an agent that knows us gets a way to our tools."""
        if not self._access:
            return {}
        return {
            wire.EXTENSIONS_HEADER: wire.EXTENSION,
            wire.GATEWAY_HEADER: self._access.url,
            wire.TOKEN_HEADER: self._access.token,
            wire.RUN_HEADER: self._access.run,
            **tracing.carried(),
        }

    def _read(self, response: a2a.StreamResponse | a2a.SendMessageResponse) -> list[Progress]:
        """Take one event of a stream."""
        kind = response.WhichOneof("payload")
        if kind == "task":
            return self._taken(response.task)
        if kind == "message":  # an agent that answers at once, without a task
            self._artifacts["message"] = a2a.Artifact(artifact_id="message", parts=response.message.parts)
            self._state = State.TASK_STATE_COMPLETED
            return []
        update: Any = getattr(response, str(kind)) if kind else None
        if update is None or update.task_id != self._id:
            raise AgentFailed(f"{self._where}: it sent an update of a task that is not ours")
        if kind == "status_update":
            return self._status_is(update.status)
        self._add(update.artifact, update.append)
        return []

    def _taken(self, task: a2a.Task) -> list[Progress]:
        """Take a whole task: its history, its artifacts, its state."""
        if self._id and task.id != self._id:
            raise AgentFailed(f"{self._where}: it answered with a task that is not ours")
        self._id = task.id
        told = [event for message in task.history for event in self._steps_in(message)]
        for artifact in task.artifacts:
            self._add(artifact, append=False)
        return told + self._status_is(task.status)

    def _status_is(self, status: a2a.TaskStatus) -> list[Progress]:
        self._state = status.state
        self._status = status.message if status.HasField("message") else None
        told = self._status is not None and (
            status.state not in ENDED | WAITING
            or (self._access is not None and status.state == State.TASK_STATE_COMPLETED)  # its last steps
        )
        return self._steps_in(status.message) if told else []

    def _steps_in(self, message: a2a.Message) -> list[Progress]:
        """The steps that a message tells, each once however often it is sent."""
        if message.role != a2a.Role.ROLE_AGENT or message.message_id in self._heard:
            return []
        self._heard.add(message.message_id)
        told: list[Progress] = []
        for part in message.parts:
            try:
                step = wire.progress_of(part, self._name)
            except ValidationError:
                continue  # a step that cannot be read is no loss; the finding is read strictly
            if self._steps >= MOST_STEPS or not step.text or (step.call and step.call in self._heard):
                continue
            self._heard.add(step.call)
            self._steps += 1
            told.append(step)
        return told

    def _add(self, artifact: a2a.Artifact, append: bool) -> None:
        known = self._artifacts.get(artifact.artifact_id)
        if append and known is not None:
            known.parts.extend(artifact.parts)
        else:
            self._artifacts[artifact.artifact_id] = artifact

    def _finding(self) -> Finding:
        """What the task came to; AgentFailed when that is no finding."""
        words = wire.said(self._status) if self._status else ""
        parts = [part for artifact in self._artifacts.values() for part in artifact.parts]
        state = State.Name(self._state).removeprefix("TASK_STATE_").lower().replace("_", " ")
        given = wire.typed(parts, wire.FINDING_TYPE) if self._access else ""
        if given and self._state in (State.TASK_STATE_COMPLETED, State.TASK_STATE_INPUT_REQUIRED):
            try:
                return Finding.model_validate_json(given)
            except ValidationError as error:
                why = f"its finding cannot be read ({error.error_count()} errors)"
                raise AgentFailed(
                    f"{self._where}: {why}; see that both sides have the same version"
                ) from None
        if self._state == State.TASK_STATE_INPUT_REQUIRED:
            return foreign.asking(self._name, self._task, words, self._settings.url)
        if self._state != State.TASK_STATE_COMPLETED:
            raise AgentFailed(f"{self._where}: {state}{f': {words[:500]}' if words else ' without a word'}")
        if self._access:
            raise AgentFailed(f"{self._where}: it completed the task without a finding")
        text = wire.text_of(parts) or words
        return foreign.finding(self._name, self._task, text, self._settings.url)


class _Cards:
    """The cards of agents, by URL: each is kept for a while, and until something goes wrong there."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[a2a.AgentCard, float]] = {}  # with the time, by the clock of the loop

    async def of(self, agent: Agent, settings: Remote) -> a2a.AgentCard:
        """An agent's card, fetched again once it is old; tried until patience ends."""
        clock, patience = asyncio.get_running_loop().time, _Patience(settings.patience)
        while True:
            card, fetched = self._kept.get(settings.url, (None, 0.0))
            if card is not None and clock() <= fetched + CARD_SECONDS:
                return card
            try:
                self._kept[settings.url] = await agent.card(), clock()
            except AgentLost as error:
                await patience.wait(error)

    def forget(self, url: str) -> None:
        """Have a card fetched again: who answers there next may be another."""
        self._kept.pop(url, None)

    async def aclose(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def _sockets(pool: Pool | None) -> AsyncIterator[aiohttp.ClientSession]:
    """The pool's sockets, or some for this block alone."""
    if pool:
        yield pool.http
        return
    async with sockets(_trust()) as own:
        yield own


@functools.cache
def _trust() -> ssl.SSLContext:
    """Made once: it costs some ten milliseconds."""
    return ssl.create_default_context()


def _knows_us(card: a2a.AgentCard, name: str, settings: Remote) -> bool:
    """Whether the agent is a specialist of our kind; AgentFailed when it is another than was meant."""
    ours = next((e for e in card.capabilities.extensions if e.uri == wire.EXTENSION), None)
    if ours is None:
        return False
    served = str(MessageToDict(ours.params).get("specialist", ""))
    if served != name:
        raise AgentFailed(
            f"agent {name} at {settings.url}: it is the specialist {served!r}; "
            f"correct url in [specialists.{name}]"
        )
    return True


class _Patience:
    """How long a lost agent is waited for, in ever longer pauses; renewed by every sign of life."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        self._until = asyncio.get_running_loop().time() + self._seconds
        self._pause = FIRST_PAUSE

    async def wait(self, problem: Exception) -> None:
        """Wait a little, or raise the problem when patience has ended."""
        if asyncio.get_running_loop().time() + self._pause > self._until:
            raise problem
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
