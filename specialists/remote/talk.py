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
from urllib.parse import urlsplit, urlunsplit

import httpx
from a2a.client import A2ACardResolver, AgentCardResolutionError, Client, ClientConfig, ClientFactory
from a2a.client.client import ClientCallContext
from a2a.client.errors import A2AClientError
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import A2AError, TaskNotFoundError, UnsupportedOperationError
from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError

from specialists import tracing
from specialists.errors import AgentFailed, AgentLost, AgentTokenRefused
from specialists.link import Pool
from specialists.remote import foreign, wire
from specialists.remote.access import Access
from specialists.settings import Remote
from specialists.types import Event, Finding, Progress, Task

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 45.0  # servers send a comment every 15 s; longer silence is a dead connection
CANCEL_SECONDS = 2.0
MOST_ANSWER = 16 * 1024 * 1024  # bytes of one answer or stream
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
    async with _address(settings, pool) as address, http_client(settings, address) as http:
        card = await _card(name, settings, http, address)
        try:
            known, client = _knows_us(card, name, settings), _client(card, settings, http, name)
            talk = _Talk(name, settings, task, client, access if known else None, address.forget)
            try:
                async for event in talk.follow():
                    yield event
            finally:
                await talk.leave()
        except (AgentLost, AgentFailed):
            address.forget()
            raise


async def greet(name: str, settings: Remote) -> str:
    """What the agent at an address is, once it has shown its card and taken our token."""
    async with _address(settings, None) as address, http_client(settings, address) as http:
        card = await fetch_card(settings, http, name)
        known, client = _knows_us(card, name, settings), _client(card, settings, http, name)
        try:
            await client.get_task(a2a.GetTaskRequest(id="pointsman-specialists-test"))
        except TaskNotFoundError:
            pass  # it looked, so it took the token
        except A2AError as error:
            raise _problem(error, f"agent {name} at {settings.url}", settings) from error
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
        client: Client,
        access: Access | None,
        lost: Callable[[], None],
    ) -> None:
        self._name, self._settings, self._task, self._client = name, settings, task, client
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
            except A2AError as error:
                problem = _problem(error, self._where, self._settings)
                if not isinstance(problem, AgentLost):
                    raise problem from error
                log.info("%s: %s; trying again", self._name, problem)
                self._lost()
                await patience.wait(problem)
        yield self._finding()

    async def leave(self) -> None:
        """Cancel the task if it still runs or waits; whoever leaves early does not leave work behind."""
        if not self._id or self._state in ENDED:
            return
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._client.cancel_task(a2a.CancelTaskRequest(id=self._id), context=self._context())
        except (A2AError, TimeoutError) as error:
            log.info("%s: task %s could not be cancelled: %s", self._name, self._id, error)

    @property
    def _where(self) -> str:
        return f"agent {self._name} at {self._settings.url}"

    async def _stream(self) -> AsyncGenerator[Progress]:
        """What one stream tells: of the task as it was sent, or as it goes on."""
        if self._id:
            try:
                request = a2a.SubscribeToTaskRequest(id=self._id)
                async with aclosing(self._client.subscribe(request, context=self._context())) as responses:  # type: ignore[type-var]
                    async for response in responses:
                        for event in self._read(response):
                            yield event
            except (UnsupportedOperationError, NotImplementedError):
                return  # it ended meanwhile, or the agent does not stream: look at it instead
            return
        request = a2a.SendMessageRequest(message=self._message())
        request.configuration.history_length = 0
        async with aclosing(self._client.send_message(request, context=self._context())) as responses:  # type: ignore[type-var]
            async for response in responses:
                for event in self._read(response):
                    yield event

    async def _look(self) -> list[Progress]:
        """The task as it stands now."""
        if not self._id:
            raise AgentFailed(f"{self._where}: it answered nothing")
        found = await self._client.get_task(a2a.GetTaskRequest(id=self._id), context=self._context())
        return self._taken(found)

    def _message(self) -> a2a.Message:
        part = wire.task_part(self._task) if self._access else a2a.Part(text=foreign.told(self._task))
        message = a2a.Message(message_id=uuid.uuid4().hex, role=a2a.Role.ROLE_USER, parts=[part])
        if self._access:
            message.extensions.append(wire.EXTENSION)
        return message

    def _context(self) -> ClientCallContext:
        """The headers of a request; only an agent that knows us gets a way to our tools."""
        headers: dict[str, str] = {}
        if self._access:
            headers = {
                wire.EXTENSIONS_HEADER: wire.EXTENSION,
                wire.GATEWAY_HEADER: self._access.url,
                wire.TOKEN_HEADER: self._access.token,
                wire.RUN_HEADER: self._access.run,
                **tracing.carried(),
            }
        return ClientCallContext(service_parameters=headers)

    def _read(self, response: a2a.StreamResponse) -> list[Progress]:
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


class _Address:
    """What is kept of an agent's address from one task to the next: sockets and its card, but no token."""

    def __init__(self, tls: bool) -> None:
        self._transport = _Bounded(httpx.AsyncHTTPTransport(verify=_tls() if tls else False))
        self.lent = _Lent(self._transport)
        self.card: a2a.AgentCard | None = None
        self.fetched = 0.0  # when, by the clock of the loop

    def forget(self) -> None:
        """Have the card fetched again: who answers there next may be another."""
        self.card = None

    async def aclose(self) -> None:
        """Close the sockets."""
        await self._transport.aclose()


@asynccontextmanager
async def _address(settings: Remote, pool: Pool | None) -> AsyncIterator[_Address]:
    """The address as the pool keeps it, or one for this block alone."""
    make = functools.partial(_Address, settings.url.startswith("https"))
    if pool:
        yield pool.keep(f"agent {settings.url}", make)
        return
    async with aclosing(make()) as own:
        yield own


async def _card(name: str, settings: Remote, http: httpx.AsyncClient, address: _Address) -> a2a.AgentCard:
    """The agent's card, fetched again once it is old; tried until patience ends."""
    clock, patience = asyncio.get_running_loop().time, _Patience(settings.patience)
    while address.card is None or clock() > address.fetched + CARD_SECONDS:
        try:
            address.card, address.fetched = await fetch_card(settings, http, name), clock()
        except AgentLost as error:
            await patience.wait(error)
    return address.card


async def fetch_card(settings: Remote, http: httpx.AsyncClient, name: str) -> a2a.AgentCard:
    """The agent's card; AgentLost, AgentTokenRefused or AgentFailed."""
    try:
        return await A2ACardResolver(http, settings.url).get_agent_card()
    except A2AError as error:
        raise _problem(error, f"agent {name} at {settings.url}", settings) from error


def _client(card: a2a.AgentCard, settings: Remote, http: httpx.AsyncClient, name: str) -> Client:
    """A client of the agent at the host that was configured, whatever host its card names.

    Of the card only the path is taken: a token goes to no other host than the one the settings name.
    """
    mine = urlsplit(settings.url)
    for interface in card.supported_interfaces:
        interface.url = urlunsplit((mine.scheme, mine.netloc, urlsplit(interface.url).path, "", ""))
    try:
        return ClientFactory(ClientConfig(httpx_client=http)).create(card)
    except ValueError as error:
        raise AgentFailed(
            f"agent {name} at {settings.url}: it cannot be talked to ({error}); "
            "it must speak A2A 1.0 over JSON-RPC"
        ) from error


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


def http_client(settings: Remote, address: _Address) -> httpx.AsyncClient:
    """An HTTP client with the agent's token, that follows no redirect and reads no endless answer."""
    token = settings.token().get_secret_value()
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS),
        transport=address.lent,
        follow_redirects=False,
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: it costs some ten milliseconds."""
    return ssl.create_default_context()


class _Bounded(httpx.AsyncBaseTransport):
    """A transport whose answers end in an error when they grow too long."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        response.stream = _BoundedStream(response.stream, str(request.url))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Lent(httpx.AsyncBaseTransport):
    """A transport that many HTTP clients use and none of them closes."""

    def __init__(self, owned: httpx.AsyncBaseTransport) -> None:
        self._owned = owned

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._owned.handle_async_request(request)


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, inner: Any, url: str) -> None:
        self._inner = inner
        self._url = url

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MOST_ANSWER:
                size = MOST_ANSWER >> 20
                raise AgentFailed(
                    f"agent at {self._url}: its answer is longer than {size} MiB; it was not read on"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _problem(error: A2AError, where: str, settings: Remote) -> AgentLost | AgentFailed:
    """What an error of the SDK means: the agent is gone, it refused our token, or it answered nonsense."""
    cause = error.__cause__
    if isinstance(cause, httpx.HTTPStatusError):
        status = cause.response.status_code
        if status in (401, 403):
            return AgentTokenRefused(
                f"{where}: it refused the token (HTTP {status}); put a valid one in {settings.token_env}"
            )
        if status in (429, 502, 503, 504):
            return AgentLost(f"{where}: HTTP {status}; see that it runs, or try again later")
        return AgentFailed(f"{where}: HTTP {status}; see that url in the settings is right")
    if isinstance(cause, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return AgentFailed(f"{where}: {cause}; correct url in the settings")
    if isinstance(cause, httpx.RequestError):
        said = str(cause) or type(cause).__name__
        return AgentLost(
            f"{where}: it cannot be reached or stopped answering ({said}); "
            "start it with `pointsman specialists serve`"
        )
    if isinstance(error, AgentCardResolutionError | A2AClientError):
        return AgentFailed(f"{where}: {str(error)[:300]}; see that url names an A2A 1.0 agent")
    return AgentFailed(f"{where}: {type(error).__name__}: {str(error)[:300]}")
