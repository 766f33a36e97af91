"""The HTTP/1.1 client for tool servers: connections kept open, one exchange at a time on each, llhttp inside.

A general client costs as much per call as everything else on the road (docs/performance.md); this one does
what MCP needs: no redirects, no cookies, no proxies of the environment, no compression.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httptools

from gateway.errors import UpstreamFailed

IDLE_SECONDS = 4.0  # shorter than servers keep an unused connection, so that none closes under a request
NAMES_SECONDS = 10.0  # a name is looked up again after this time
MOST_HEAD = 65_536  # bytes of a status line with its headers
MOST_HELD = 262_144  # bytes of a body that are held before the server is told to wait
PIECES = 2_000  # pieces of a body in one read, above which the server sends them to tire us out
PIECE_SECONDS = 2e-6  # how long it is then left unread, for each of them
SAFE = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes: whom to connect to, and how its first lines read."""

    url: str
    host: str
    port: int
    tls: bool
    target: str
    fixed: str  # the headers every request to this address has

    @classmethod
    def of(cls, url: str, agent: str) -> Address:
        """The parts of a URL that a request needs."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        host = _ascii(parts.hostname or "")
        port = parts.port or (443 if tls else 80)
        shown = f"[{host}]" if ":" in host else host
        named = shown if port == (443 if tls else 80) else f"{shown}:{port}"
        target = quote(parts.path or "/", SAFE) + (
            f"?{quote(parts.query, SAFE + '?')}" if parts.query else ""
        )
        fixed = f"Host: {named}\r\nUser-Agent: {agent}\r\nAccept-Encoding: identity\r\n"
        if parts.username is not None:
            who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fixed += f"Authorization: Basic {base64.b64encode(who.encode()).decode()}\r\n"
        return cls(url, host, port, tls, target, fixed)


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host  # no such name can be found; the connection says so


_METADATA = frozenset(  # where clouds hand out credentials, beside the link-local addresses
    ipaddress.ip_address(one)
    for one in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER = tuple(ipaddress.ip_network(net) for net in ("0.0.0.0/8", "240.0.0.0/4"))


def forbidden_address(host: str) -> bool:
    """Whether no tool server stands at this address: cloud metadata, link-local, multicast, unspecified."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return any(
        one in _METADATA
        or one.is_link_local
        or one.is_multicast
        or one.is_unspecified
        or any(one in net for net in _NEVER)
        for one in (address, *_carried(address))
    )


def _carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def safe_url(url: str) -> bool:
    """Whether secrets and keys may travel to this URL: by TLS, or inside this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and (parts.hostname or "") in ("127.0.0.1", "localhost", "::1")
    )


class Response:
    """What a server answers: its head, and its body as it comes. Leaving it gives the connection back."""

    __slots__ = (
        *("_chunks", "_connection", "_failure", "_held", "_waiter"),
        *("complete", "headers", "pieces", "status"),
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # by lower-case name
        self.complete = False
        self.pieces = 0  # of the body, in the read that is under way
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._failure: UpstreamFailed | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content_type(self) -> str:
        """The media type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int:
        """The announced size of the body; 0 when it is not told."""
        told = self.headers.get("content-length", "")
        return int(told) if told.isdecimal() and told.isascii() else 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come."""
        while True:
            if self._chunks:
                piece = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks.clear()
                self._held = 0
                yield piece
            if self._failure is not None:
                raise self._failure
            if self.complete:
                return
            self._connection.go_on()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def whole(self) -> bytes | None:
        """The body at once when all of it is here, None when it still comes."""
        if not self.complete:
            return None
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return body

    def take(self, piece: bytes) -> bool:
        """Keep a piece of the body; whether there is enough for now."""
        self.pieces += 1
        self._chunks.append(piece)
        self._held += len(piece)
        return self._held > MOST_HELD

    def wake(self, failure: UpstreamFailed | None = None) -> None:
        """Tell the reader that there is something new."""
        self._failure = self._failure or failure
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *failure: object) -> None:
        self._connection.release()


class Connection(asyncio.Protocol):
    """One connection to a server; reads what llhttp makes of its bytes."""

    def __init__(self, pool: Pool, key: tuple[str, int, bool]) -> None:
        self.idle_since = 0.0
        self._pool = pool
        self._key = key
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._started: asyncio.Future[Response] | None = None
        self._head = 0  # bytes of the head so far; 0 once it is complete
        self._interim = False
        self._paused = False
        self._resting: asyncio.TimerHandle | None = None
        self._tail = 0  # bytes of the headers after a body
        self._kept = True  # whether the server keeps the connection open

    @property
    def open(self) -> bool:
        """Whether a request can go out on it."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes) -> Response:
        """Send a request; its answer once the head is there."""
        self._response = Response(self)
        self._started = asyncio.get_running_loop().create_future()
        self._head, self._tail = 1, 0
        self._transport.write(request)
        try:
            return await self._started
        except BaseException:
            self.close()
            raise

    def release(self) -> None:
        """The exchange is over: keep the connection if it can serve another."""
        response, self._response, self._started = self._response, None, None
        if response is not None and response.complete and self._kept and self.open:
            self.go_on()
            self._pool.keep(self._key, self)
        else:
            self.close()

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def go_on(self) -> None:
        """Let the server send more."""
        if self._paused and self.open:
            self._paused = False
            if self._resting is None:
                self._transport.resume_reading()

    # -- what the transport says -------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """It stands."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read on; the waiting side is told once for everything that came together."""
        response = self._response
        if response is None or response.complete:
            self._kept = False  # nobody asked for this
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"it does not speak HTTP/1.1 ({error or type(error).__name__})")
            return
        if self._head:
            self._head += len(data)
            if self._head > MOST_HEAD:
                self._fail(f"the head of its answer is larger than {MOST_HEAD} bytes")
            return
        if self._started is not None and not self._started.done():
            self._started.set_result(response)
        if response.pieces > PIECES:
            self._rest(response.pieces * PIECE_SECONDS)
        response.pieces = 0
        response.wake()

    def _rest(self, seconds: float) -> None:
        """Leave the server unread for a moment."""
        if not self._paused and self.open:
            self._transport.pause_reading()
            self._resting = asyncio.get_running_loop().call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if not self._paused and self.open:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone; an answer without a stated size ends with it."""
        response = self._response
        self._kept = False
        if response is None or response.complete:
            return
        sized = "content-length" in response.headers or "transfer-encoding" in response.headers
        if self._head or sized or exc is not None:
            self._fail(str(exc or "") or "it was closed before the answer was complete")
        else:
            response.complete = True
            response.wake()

    def _fail(self, reason: str) -> None:
        stage = "send" if self._head else "read"
        failure = UpstreamFailed(stage, f"the connection broke: {reason}", sent=True)
        self._kept = False
        if self._started is not None and not self._started.done():
            self._started.set_exception(failure)
        elif self._response is not None:
            self._response.wake(failure)
        self.close()

    # -- what llhttp says --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins; a second one to the same request is left unread, and breaks the connection."""
        if self._reading() is None:
            self._kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those after the body say nothing to us."""
        response = self._reading()
        if not self._head:
            self._tail += len(name) + len(value) + 4
            if self._tail > MOST_HEAD:
                raise ValueError("too many headers after the body")
        elif response is not None:
            key, told = name.decode("latin-1").lower(), value.decode("latin-1").strip()
            known = response.headers
            known[key] = f"{known[key]}, {told}" if key in known else told

    def on_headers_complete(self) -> None:
        """The head is complete; that of an interim answer (1xx) is dropped."""
        response = self._reading()
        if response is None:
            return
        response.status = self._parser.get_status_code()
        self._interim = 100 <= response.status < 200
        if self._interim:
            response.headers.clear()
        else:
            self._head = 0
            self._kept = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        response = self._reading()
        if response is not None and response.take(body) and not self._paused:
            self._paused = True
            if self._resting is None:
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is complete."""
        response = self._reading()
        if response is not None and not self._interim:
            response.complete = True

    def _reading(self) -> Response | None:
        return self._response if self._response is not None and not self._response.complete else None


def written(headers: Mapping[str, str]) -> str:
    """The lines of these headers."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not lines.count("\n") == lines.count("\r") == len(headers):
        raise UpstreamFailed("send", "a header of the request has a line break: correct its entry")
    return lines


class Pool:
    """Every connection of this process to tool servers."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[tuple[str, int, bool], deque[Connection]] = {}
        self._names: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._looking: dict[tuple[str, int], asyncio.Future[Any]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for waiting in self._idle.values():
            for connection in waiting:
                connection.close()
        self._idle.clear()

    async def request(
        self, verb: str, to: Address, headers: Mapping[str, str] | str, body: bytes
    ) -> Response:
        """Send one request; the answer once its head is there, its body to be read before it is left.

        Headers that are the same each time may be given as `written`.
        """
        lines = headers if isinstance(headers, str) else written(headers)
        size = f"Content-Length: {len(body)}\r\n" if body or verb == "POST" else ""
        head = f"{verb} {to.target} HTTP/1.1\r\n{to.fixed}{lines}{size}\r\n"
        return await (self._kept_open(to) or await self._connect(to)).exchange(head.encode() + body)

    def _kept_open(self, to: Address) -> Connection | None:
        waiting = self._idle.get((to.host, to.port, to.tls))
        while waiting:
            connection = waiting.pop()
            if connection.open and time.monotonic() - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.close()
        return None

    def keep(self, key: tuple[str, int, bool], connection: Connection) -> None:
        """Take back a connection that can serve another exchange."""
        connection.idle_since = time.monotonic()
        self._idle.setdefault(key, deque()).append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        oldest = time.monotonic() - IDLE_SECONDS
        for key, waiting in list(self._idle.items()):
            while waiting and (waiting[0].idle_since < oldest or not waiting[0].open):
                waiting.popleft().close()
            if not waiting:
                del self._idle[key]
        again = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep) if self._idle else None
        self._sweeping = again

    # -- reaching it -------------------------------------------------------------------------------

    async def _connect(self, to: Address) -> Connection:
        loop = asyncio.get_running_loop()
        trouble = "no address"
        for address in await self._addresses(to):
            try:
                async with asyncio.timeout(self._connect_seconds):
                    _, connection = await loop.create_connection(
                        lambda: Connection(self, (to.host, to.port, to.tls)),
                        address,
                        to.port,
                        ssl=_trust() if to.tls else None,
                        server_hostname=to.host if to.tls else None,
                    )
                return connection
            except TimeoutError:
                trouble = f"no connection within {self._connect_seconds:g} s"
            except OSError as error:  # ssl.SSLError is one
                trouble = error.strerror or str(error) or type(error).__name__
        raise UpstreamFailed("connect", f"cannot reach {_shown(to.url)}: {trouble}")

    async def _looked_up(self, host: str, port: int) -> Any:
        """What the system says of a name; each in a thread of its own, so that none holds up another."""
        asked = self._looking.get((host, port))
        if asked is None:
            # Not the loop's own threads: they are few, and a dead name keeps one for half a minute.
            loop = asyncio.get_running_loop()
            asked = self._looking[host, port] = loop.create_future()
            asked.add_done_callback(lambda done: self._looking.pop((host, port)) and done.exception())
            Thread(target=_look_up, args=(host, port, loop, asked), daemon=True).start()
        return await asyncio.shield(asked)

    async def _addresses(self, to: Address) -> list[str]:
        """The allowed addresses of the host; what is checked is connected to."""
        kept = self._names.get((to.host, to.port))
        if kept is not None and time.monotonic() - kept[0] < NAMES_SECONDS:
            return kept[1]
        try:
            async with asyncio.timeout(self._connect_seconds):
                found = await self._looked_up(to.host, to.port)
        except TimeoutError:
            reason = f"its name was not found within {self._connect_seconds:g} s"
            raise UpstreamFailed("connect", f"cannot reach {_shown(to.url)}: {reason}") from None
        except OSError as error:
            raise UpstreamFailed(
                "connect", f"cannot reach {_shown(to.url)}: {error.strerror or error}"
            ) from None
        every = list(dict.fromkeys(str(one[4][0]) for one in found))
        allowed = [address for address in every if not forbidden_address(address)]
        if not allowed:
            reason = f"{to.host} resolves to an address no tool server may have"
            raise UpstreamFailed("connect", f"cannot reach {_shown(to.url)}: {reason}")
        if len(self._names) > 1_000:
            self._names.clear()
        self._names[to.host, to.port] = (time.monotonic(), allowed)
        return allowed


def _look_up(host: str, port: int, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
    def tell(found: Any, error: OSError | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(found)

    try:
        found, trouble = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), None
    except OSError as error:
        found, trouble = None, error
    except UnicodeError:  # a label that is empty or too long
        found, trouble = None, OSError(0, "the name is no host name")
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(tell, found, trouble)


def _shown(url: str) -> str:
    """The URL without the password it may carry."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@lru_cache(1)
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
