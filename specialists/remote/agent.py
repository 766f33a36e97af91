"""Requests to one A2A agent: JSON-RPC over HTTP, each with our token, each answer within a bound.

What an agent answers as an error of the protocol is raised as the A2A SDK's error for its code; a lost agent,
a refused token and nonsense are errors of ours.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from a2a.client.card_resolver import parse_agent_card
from a2a.types import a2a_pb2 as a2a
from a2a.utils.constants import AGENT_CARD_WELL_KNOWN_PATH, PROTOCOL_VERSION_1_0, VERSION_HEADER
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP, A2AError
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from specialists.errors import AgentFailed, AgentLost, AgentTokenRefused
from specialists.http import CONNECT_SECONDS, events
from specialists.settings import Remote

SILENCE_SECONDS = 45.0  # servers send a comment every 15 s; longer silence is a dead connection
MOST_ANSWER = 16 * 1024 * 1024  # bytes of one answer or stream
TIMES = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
JSON = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    VERSION_HEADER: PROTOCOL_VERSION_1_0,
}
STREAM = JSON | {"Accept": "text/event-stream", "Cache-Control": "no-store"}
ERRORS: dict[Any, type[A2AError]] = {code: error for error, code in JSON_RPC_ERROR_CODE_MAP.items()}

Answer = TypeVar("Answer", bound=Message)


class Agent:
    """Where an agent is, and the token it wants; the sockets are another's."""

    def __init__(self, name: str, settings: Remote, http: aiohttp.ClientSession) -> None:
        self.where = f"agent {name} at {settings.url}"
        self._settings, self._http = settings, http
        self._numbers = itertools.count(1)
        token = settings.token().get_secret_value()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url, self._tenant = "", ""

    async def card(self) -> a2a.AgentCard:
        """The agent's card."""
        url = f"{self._settings.url.rstrip('/')}{AGENT_CARD_WELL_KNOWN_PATH}"
        async with self._answer("GET", url, {"Accept": "application/json"}) as response:
            try:
                return parse_agent_card(await _whole(response))
            except (ValueError, ParseError) as error:
                raise self._nonsense(f"its card cannot be read: {error}") from error

    def speaks(self, card: a2a.AgentCard) -> None:
        """Take from a card the path to talk at; AgentFailed when there is none.

        Of the card only the path is taken: a token goes to no other host than the one the settings name.
        """
        for interface in card.supported_interfaces:
            version = interface.protocol_version or PROTOCOL_VERSION_1_0
            if interface.protocol_binding == "JSONRPC" and version.partition(".")[0] == "1":
                mine = urlsplit(self._settings.url)
                self._url = urlunsplit((mine.scheme, mine.netloc, urlsplit(interface.url).path, "", ""))
                self._tenant = interface.tenant
                return
        raise AgentFailed(f"{self.where}: it cannot be talked to; it must speak A2A 1.0 over JSON-RPC")

    async def ask(self, method: str, request: Any, answer: Answer, headers: dict[str, str]) -> Answer:
        """The answer to one request."""
        body = self._body(method, request)
        async with self._answer("POST", self._url, JSON | headers, body) as response:
            return self._read(await _whole(response), answer)

    async def listen(
        self, method: str, request: Any, headers: dict[str, str]
    ) -> AsyncGenerator[a2a.StreamResponse]:
        """What the agent streams in answer to one request."""
        body = self._body(method, request)
        async with self._answer("POST", self._url, STREAM | headers, body) as response:
            if response.content_type != "text/event-stream":
                yield self._read(await _whole(response), a2a.StreamResponse())
                return
            async with aclosing(events(_bounded(response))) as told:
                async for _, data in told:
                    yield self._read(json.loads(data), a2a.StreamResponse())

    def refuses(self, error: A2AError) -> AgentFailed:
        """What an error that the agent answers means to a task."""
        return AgentFailed(f"{self.where}: {type(error).__name__}: {str(error)[:300]}")

    def _body(self, method: str, request: Any) -> bytes:
        if self._tenant:
            request.tenant = self._tenant
        params = MessageToDict(request)
        message = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()

    @asynccontextmanager
    async def _answer(
        self, verb: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer; what goes wrong on the way, or while it is read, is an error of ours."""
        sent = headers | self._headers
        try:
            async with self._http.request(
                verb, url, data=body, headers=sent, timeout=TIMES, allow_redirects=False
            ) as response:
                if not 200 <= response.status < 300:
                    raise self._refused(response.status)
                yield response
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise AgentFailed(f"{self.where}: {error}; correct url in the settings") from error
        except _TooLong:
            size = MOST_ANSWER >> 20
            raise AgentFailed(
                f"{self.where}: its answer is longer than {size} MiB; it was not read on"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            raise AgentLost(
                f"{self.where}: it cannot be reached or stopped answering ({said}); "
                "start it with `pointsman specialists serve`"
            ) from error
        except ValueError as error:  # no JSON, or no UTF-8
            raise self._nonsense(str(error)) from error

    def _refused(self, status: int) -> AgentLost | AgentFailed:
        if status in (401, 403):
            return AgentTokenRefused(
                f"{self.where}: it refused the token (HTTP {status}); "
                f"put a valid one in {self._settings.token_env}"
            )
        if status in (429, 502, 503, 504):
            return AgentLost(f"{self.where}: HTTP {status}; see that it runs, or try again later")
        return AgentFailed(f"{self.where}: HTTP {status}; see that url in the settings is right")

    def _read(self, told: Any, answer: Answer) -> Answer:
        """A result as what it was to be; an error is raised."""
        error = told.get("error") if isinstance(told, dict) else None
        if isinstance(error, dict):
            kind, said = ERRORS.get(error.get("code"), A2AError), str(error.get("message", ""))
            raise kind(said)
        if not isinstance(told, dict) or not isinstance(told.get("result"), dict):
            raise self._nonsense("its answer is none of JSON-RPC")
        try:
            return ParseDict(told["result"], answer, ignore_unknown_fields=True)
        except ParseError as problem:
            raise self._nonsense(str(problem)) from problem

    def _nonsense(self, why: str) -> AgentFailed:
        return AgentFailed(f"{self.where}: {why[:300]}; see that url names an A2A 1.0 agent")


class _TooLong(Exception):
    """An answer does not end."""


async def _whole(response: aiohttp.ClientResponse) -> Any:
    return json.loads(b"".join([chunk async for chunk in _bounded(response)]))


async def _bounded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MOST_ANSWER:
            raise _TooLong
        yield chunk
