"""The connection to the gateway: opened, held by a task of its own, lost and opened again.

An `mcp.Client` whose connection breaks takes down the task that entered it. So it is entered in a
task that does nothing else, and whoever calls a tool only ever sees an `MCPError`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
from anyio import BrokenResourceError, ClosedResourceError
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED, ElicitRequestParams, ElicitResult, Implementation
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from specialists.errors import GatewayLost, TokenRefused
from specialists.posts import Posts, session_on

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Kept = TypeVar("Kept", bound="Closable")

CONNECT_SECONDS = 5.0
LONGEST_PAUSE = 0.5
ABOUT = Implementation(name="pointsman-specialist", version="1")
MOST_KNOWN = 100  # endpoints whose version is remembered
LOST = (MCPError, OSError, httpx2.HTTPError, ClosedResourceError, BrokenResourceError)


class _Lent(httpx2.AsyncBaseTransport):
    """A transport that many HTTP clients use and none of them closes."""

    def __init__(self, owned: httpx2.AsyncHTTPTransport) -> None:
        self._owned = owned

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._owned.handle_async_request(request)


class Closable(Protocol):
    """What a pool can keep."""

    async def aclose(self) -> None:
        """Let go of it."""
        ...


class Pool:
    """What the toolboxes of a process share: sockets to the gateway, and what is known of who answers there.

    No token is in it: each toolbox has one of its own.
    """

    def __init__(self) -> None:
        self._transport = httpx2.AsyncHTTPTransport(retries=0)
        self._kept: dict[str, Any] = {}
        self.lent = _Lent(self._transport)
        self.spoken: dict[str, str] = {}  # the version of MCP that an endpoint speaks, while it answers

    def keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """What is kept under this name, made when first asked for; closed with the pool."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._transport)
            while self._kept:
                stack.push_async_callback(self._kept.popitem()[1].aclose)


class Link:
    """A connection to one MCP target; it opens when first needed and reopens when lost.

    It has one token, and the one that `renewed` gives instead once that is refused.
    """

    def __init__(
        self,
        target: Any,
        token: str = "",
        pool: Pool | None = None,
        patience: float = 2.0,
        renewed: Callable[[], str] | None = None,
    ) -> None:
        self._target = target
        self._token = token
        self._renewed = renewed
        self._pool = pool
        self._spoken = pool.spoken if pool else {}
        self._patience = patience
        self._held: _Held | _Direct | None = None
        self._opening = asyncio.Lock()
        self._status = 0

    async def ask(self, question: Callable[[ClientSession], Awaitable[Answer]]) -> Answer:
        """Ask on the live connection; if it is lost, once more on a new one, then raise GatewayLost.

        An error that a living gateway answers (`MCPError`) is the caller's.
        """
        for last in (False, True):
            held = await self._open()
            try:
                return await question(held.session)
            except LOST as error:
                self._status = held.posts.status if isinstance(held, _Direct) else self._status
                if self._answered(error):
                    raise
                await self._drop(held)
                if self._status in (401, 403) and (last or not self._newer(held.token)):
                    raise self._token_refused() from error
                if last:
                    raise GatewayLost(
                        f"gateway {self.where}: it stopped answering ({_words(error)}); "
                        "see that it runs (`pointsman doctor`), then resume the case"
                    ) from error
                log.info("gateway %s: connection lost (%s), connecting again", self.where, _words(error))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Let go of the connection."""
        held, self._held = self._held, None
        if held:
            await held.close()

    @property
    def where(self) -> str:
        """The target, as one would tell a person."""
        return self._target if isinstance(self._target, str) else f"({type(self._target).__name__})"

    async def _open(self) -> _Held | _Direct:
        async with self._opening:
            if self._held and self._held.alive:
                return self._held
            if self._pool and (version := self._spoken.get(self.where)):
                self._held = _Direct(self.where, self._token, self._pool, version)
                return self._held
            clock = asyncio.get_running_loop().time
            until, pause = clock() + self._patience, 0.05
            while True:
                self._status = 0
                held = _Held(self._client(), self._token)
                try:
                    await held.open()
                    self._held = held
                    return held
                except LOST as error:
                    if self._status in (401, 403):
                        if self._newer(held.token):
                            continue
                        raise self._token_refused() from error
                    if clock() + pause > until:
                        raise GatewayLost(
                            f"gateway {self.where}: cannot connect ({_words(error)}); "
                            "start it with `pointsman gateway` or correct its address"
                        ) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _answered(self, error: BaseException) -> bool:
        """Whether a living gateway said no in the protocol's own words."""
        return isinstance(error, MCPError) and error.code != CONNECTION_CLOSED and self._status < 400

    async def _drop(self, held: _Held | _Direct) -> None:
        self._spoken.pop(self.where, None)  # who answers next may be another
        if self._held is held:
            self._held = None
        await held.close()

    def _newer(self, refused: str) -> bool:
        """Whether there is another token than the one that was refused."""
        self._token = self._renewed() if self._renewed else self._token
        return self._token != refused

    def _token_refused(self) -> TokenRefused:
        return TokenRefused(
            f"gateway {self.where}: it refused the token (HTTP {self._status}); "
            "issue a new one with `pointsman tokens issue SUBJECT`"
        )

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        async with AsyncExitStack() as stack:
            target = self._target
            if isinstance(target, str):
                await _knock(target)
                http = await stack.enter_async_context(self._http())
                target = streamable_http_client(target, http_client=http, max_sse_event_size=None)
            client = Client(
                target,
                mode="auto",
                client_info=ABOUT,
                elicitation_callback=_leave_it_to_a_person,
                cache=None,
            )
            await stack.enter_async_context(client)
            self._learn(client.protocol_version)
            yield client

    def _learn(self, version: str) -> None:
        """Spare the next link to this endpoint the question what it speaks; handshake eras need it anew."""
        room = len(self._spoken) < MOST_KNOWN
        if room and isinstance(self._target, str) and version in MODERN_PROTOCOL_VERSIONS:
            self._spoken[self._target] = version

    def _http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
            timeout=httpx2.Timeout(CONNECT_SECONDS, read=None),
            transport=self._pool.lent if self._pool else httpx2.AsyncHTTPTransport(retries=0),
            event_hooks={"response": [self._note]},
        )

    async def _note(self, response: httpx2.Response) -> None:
        self._status = response.status_code


class _Direct:
    """The way to an endpoint that is known to take each request by itself: nothing is held open for it."""

    alive = True

    def __init__(self, url: str, token: str, pool: Pool, version: str) -> None:
        self.token = token
        self.posts = Posts(url, token, pool.lent, CONNECT_SECONDS)
        self.session = session_on(self.posts, version, ABOUT, elicitation_callback=_leave_it_to_a_person)

    async def close(self) -> None:
        """Nothing is held."""


class _Held:
    """One connection's life: a task enters the client, waits for the word to close, and leaves."""

    def __init__(self, entering: Any, token: str) -> None:
        self._entering, self.token = entering, token
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.client: Client

    @property
    def session(self) -> ClientSession:
        return self.client.session

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def open(self) -> None:
        ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(ready), name="gateway-link")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise OSError(f"no answer within {CONNECT_SECONDS:g} s") from None
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._task.done():
            error = self._task.exception()
            raise _cause(error) if error else OSError("the connection closed at once")

    async def _hold(self, ready: asyncio.Future[None]) -> None:
        async with self._entering as self.client:
            ready.set_result(None)
            await self._closing.wait()

    async def close(self) -> None:
        self._closing.set()
        if self._task is None:
            return
        _, slow = await asyncio.wait({self._task}, timeout=CONNECT_SECONDS)
        if slow:
            self._task.cancel()
            await asyncio.wait({self._task})
        if not self._task.cancelled() and (error := self._task.exception()):
            log.info("the connection to the gateway ended with %s", _words(_cause(error)))


async def _knock(url: str) -> None:
    """Raise OSError at once if nobody listens, before a client with all its tasks is started."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    _, writer = await asyncio.open_connection(parts.hostname, port)
    writer.close()
    await writer.wait_closed()


async def _leave_it_to_a_person(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="cancel")


def _cause(error: BaseException) -> BaseException:
    """The first real error inside nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
