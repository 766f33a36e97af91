"""The front: HTTP in, JSON or server-sent events out; token before body, both eras on one endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway import approvals_api, strictjson
from gateway.caller import NO_HEADERS, NOTHING, Caller
from gateway.errors import HeaderMismatch, InvalidRequest, NotIdentified, ParseError, Refusal, RpcError
from gateway.health import Health
from gateway.http_caller import HttpCaller
from gateway.identity import LOOPBACK, WELL_KNOWN, Identity
from gateway.methods import Methods
from gateway.pipeline import Gateway
from gateway.refusals import refusal_error
from gateway.sessions import Session, Sessions
from gateway.throttle import Throttle
from gateway.types import Subject
from gateway.unread import MOST as MOST_UNREAD
from gateway.unread import Unread
from gateway.watch import Watch, disconnected
from gateway.wire import (
    CAPABILITIES_KEY,
    CLIENT_KEY,
    DEFAULT_LEGACY,
    LEGACY,
    PARAM_PREFIX,
    SSE_HEADERS,
    STATUS,
    check_modern,
    checked_message,
    event,
)

log = logging.getLogger("gateway.front")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
JSON = b"application/json"
ONCE = frozenset(
    (b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"authorization", b"host", b"mcp-session-id")
)
PARAM_BYTES = PARAM_PREFIX.encode()
PING_SECONDS = 15
CANCELLED = -32800


class Front:
    """The ASGI application."""

    def __init__(self, gateway: Gateway, methods: Methods, identity: Identity, throttle: Throttle) -> None:
        self._gateway = gateway
        self._methods = methods
        self._identity = identity
        self._throttle = throttle
        self._health = Health(gateway)
        settings = gateway.settings
        self._limit = settings.max_body_bytes
        self._hosts = LOOPBACK | {host.lower() for host in settings.allowed_hosts} | {settings.host.lower()}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.allowed_origins)
        self.sessions = Sessions(settings.max_sessions, settings.session_idle_seconds, self._session_closed)
        gateway.catalogue.changed.append(self._list_changed)
        self._known_hosts: set[bytes] = set()
        self._held: dict[str, int] = {}  # requests a subject has open
        self._most_held = 2 * settings.max_concurrent
        self._unread = Unread()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/healthz":
            await _reply(send, 200, b'{"status":"ok"}')
            return
        if path == "/readyz":
            await _reply(send, *await self._health.ready())
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if (trouble := self._stranger(headers)) is not None:
            await _reply(send, trouble, b"")
            return
        if path.startswith(WELL_KNOWN):
            await self._metadata(send, headers, path)
            return
        subject = self._identity.known(headers.get(b"authorization", b""), path)
        if subject is None and (subject := await self._identified(scope, send, headers)) is None:
            return
        if "state" in scope:  # so that our side of the connection knows whose answers wait on it
            scope["state"] |= {"subject": subject.id, "unread": self._unread}
        if path == "/metrics":
            await self._metrics(scope, send, subject)
            return
        if approvals_api.is_ours(path):
            await self._approvals(scope, receive, send, headers, subject)
            return
        endpoint = self._endpoint(path)
        if endpoint is None:
            await _reply(
                send, 404, _error(None, RpcError(f"no endpoint {path}: use /mcp or /servers/NAME/mcp"))
            )
            return
        await self._route(scope, receive, send, headers, subject, endpoint)

    async def _metadata(self, send: Send, headers: dict[bytes, bytes], path: str) -> None:
        told = self._identity.metadata(_host(headers), path)
        await _reply(send, 404 if told is None else 200, told or b"")

    async def _identified(self, scope: Scope, send: Send, headers: dict[bytes, bytes]) -> Subject | None:
        """Who calls with a token not seen before; None when it cannot be taken, and that was told."""
        path, authorization = scope["path"], headers.get(b"authorization", b"")
        try:
            return await self._identity.verify(authorization, path)
        except NotIdentified as error:
            failed = error
        extra = []
        if failed.status == 401 and authorization:
            wait = self._throttle.bad((scope.get("client") or ("",))[0])
            if wait:
                failed = NotIdentified("too many wrong tokens from here", status=429, retry_after=wait)
        if failed.retry_after:
            extra.append((b"retry-after", b"%d" % max(1, round(failed.retry_after))))
        if failed.status in (401, 403):
            told = self._identity.challenge(failed, bool(authorization), _host(headers), path)
            extra.append((b"www-authenticate", told))
        await _reply(send, failed.status, _error(None, RpcError(str(failed), number=-32012)), *extra)
        return None

    def _stranger(self, headers: dict[bytes, bytes]) -> int | None:
        """The status for a request a web page may have sent (DNS rebinding, foreign origins)."""
        host = headers.get(b"host", b"")
        if host not in self._known_hosts:
            name = host.decode("latin-1").lower()
            bare = name.rpartition(":")[0] if ":" in name and not name.endswith("]") else name
            if bare not in self._hosts and name not in self._hosts:
                return 421
            if len(self._known_hosts) < 100:
                self._known_hosts.add(host)
        origin = headers.get(b"origin")
        if origin is not None:
            told = origin.decode("latin-1").lower().rstrip("/")
            if told not in self._origins and (urlsplit(told).hostname or "") not in LOOPBACK:
                return 403
        return None

    def _endpoint(self, path: str) -> str | None:
        if path == "/mcp":
            return ""
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "servers" and parts[3] == "mcp":
            known = parts[2] in self._gateway.catalogue.servers or parts[2] == "gateway"
            return parts[2] if known else None
        return None

    async def _route(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        subject: Subject,
        endpoint: str,
    ) -> None:
        version = headers.get(b"mcp-protocol-version", b"").strip().decode("latin-1")
        modern = bool(version) and version not in LEGACY
        verb = scope["method"]
        if verb == "POST":
            await self._post(scope, receive, send, headers, subject, endpoint, modern)
        elif modern or verb not in ("GET", "DELETE"):
            await _reply(send, 405, b"", (b"allow", b"POST" if modern else b"GET, POST, DELETE"))
        else:
            session = await self._session(send, headers, subject, endpoint)
            if session is None:
                return
            if verb == "DELETE":
                await self.sessions.close(session)
                await _reply(send, 200, b"")
            else:
                await self._stream(receive, send, headers, session)

    # -- POST --------------------------------------------------------------------------------------

    async def _post(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        subject: Subject,
        endpoint: str,
        modern: bool,
    ) -> None:
        if not _is_json(headers):
            await _reply(send, 415, _error(None, InvalidRequest("Content-Type must be application/json")))
            return
        accept = headers.get(b"accept", b"")
        if b"*/*" not in accept and not (b"application/json" in accept and b"text/event-stream" in accept):
            wanted = "Accept must name application/json and text/event-stream"
            await _reply(send, 406, _error(None, InvalidRequest(wanted)))
            return
        number = None
        try:
            raw = await self._body(headers, receive)
            message = strictjson.read(raw, limit=self._limit)
            number = checked_message(message)
            if len(headers) != len(scope["headers"]):
                _check_once(scope["headers"])
        except RpcError as error:
            status = 413 if "bytes are more than" in str(error) else 400
            await _reply(send, status, _error(number, error))
            return
        if modern:
            await self._modern(receive, send, headers, subject, endpoint, message)
        else:
            await self._legacy(receive, send, headers, subject, endpoint, message)

    async def _approvals(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], subject: Subject
    ) -> None:
        verb, body = scope["method"], b""
        if verb == "POST":
            if not _is_json(headers):
                await _reply(send, 415, _error(None, InvalidRequest("Content-Type must be application/json")))
                return
            try:
                body = await self._body(headers, receive)
            except RpcError as error:
                await _reply(send, 400, _error(None, error))
                return
        query = scope.get("query_string", b"")
        status, told = await approvals_api.answer(self._gateway, subject, verb, scope["path"], query, body)
        await _reply(send, status, told)

    async def _metrics(self, scope: Scope, send: Send, subject: Subject) -> None:
        from gateway import exposition  # where nobody asks for figures, their format is not loaded

        if scope["method"] != "GET":
            await _reply(send, 405, b"", (b"allow", b"GET"))
        elif not exposition.may_read(subject):
            words = f"the figures are for the roles {' and '.join(sorted(exposition.MAY_READ))}"
            await _reply(send, 403, _error(None, RpcError(words, number=-32012)))
        else:
            await _reply(send, 200, await exposition.text(self._gateway), kind=exposition.CONTENT_TYPE)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limit:
            raise InvalidRequest(
                f"message refused: {int(length)} bytes are more than the {self._limit} allowed"
            )
        part = await receive()
        if not part.get("more_body"):
            return part.get("body", b"")
        parts, size = [part["body"]], len(part["body"])
        while part.get("more_body"):  # how long that may take is the connection's to watch (http_protocol)
            part = await receive()
            parts.append(part.get("body", b""))
            size += len(parts[-1])
            if size > self._limit:
                raise InvalidRequest(f"message refused: {size} bytes are more than the {self._limit} allowed")
        if part["type"] == "http.disconnect":
            raise ParseError("the caller has gone")
        return b"".join(parts)

    async def _modern(
        self,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        subject: Subject,
        endpoint: str,
        message: dict[str, Any],
    ) -> None:
        number = message.get("id")
        if "id" not in message:
            await _reply(send, 202, b"")
            return
        if "method" not in message:
            await _reply(send, 400, _error(None, InvalidRequest("a client sends no answers in this version")))
            return
        try:
            meta = check_modern(message, headers)
        except RpcError as error:
            await _reply(send, STATUS.get(error.number, 200), _error(number, error))
            return
        if not await self._room(send, subject, number):
            return
        info, told = meta.get(CLIENT_KEY), meta[CAPABILITIES_KEY]
        caller = HttpCaller(
            send,
            subject,
            "modern",
            capabilities=told if isinstance(told, dict) else NOTHING,
            info=info if isinstance(info, dict) else None,
            endpoint=endpoint,
            headers=_param_headers(headers),
            request_id=number,
        )
        await self._serve(receive, caller, message)

    async def _legacy(
        self,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        subject: Subject,
        endpoint: str,
        message: dict[str, Any],
    ) -> None:
        if message.get("method") == "initialize" and "id" in message:
            await self._initialize(send, subject, endpoint, message)
            return
        session = await self._session(send, headers, subject, endpoint)
        if session is None:
            return
        if "method" not in message:
            session.answered(message)
            await _reply(send, 202, b"")
        elif "id" not in message:
            await _reply(send, 202, b"")
            await self._told(session, message)
        elif await self._room(send, subject, message["id"]):
            caller = HttpCaller(
                send,
                subject,
                "legacy",
                version=headers.get(b"mcp-protocol-version", DEFAULT_LEGACY.encode()).decode("latin-1"),
                capabilities=session.capabilities,
                info=session.info,
                endpoint=endpoint,
                session=session,
                request_id=message["id"],
            )
            await self._serve(receive, caller, message)

    async def _told(self, session: Session, message: dict[str, Any]) -> None:
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if message["method"] == "notifications/cancelled":
            number = params.get("requestId")
            if isinstance(number, str | int) and (cancel := session.running.get(number)):
                cancel()
        elif message["method"] == "notifications/roots/list_changed":
            caller = Caller(session.subject, "legacy", session=session, endpoint=session.endpoint)
            for server in self._gateway.catalogue.servers.values():
                if server.upstream is not None and "roots" in server.entry.open:
                    await server.upstream.notify(message["method"], params, caller)

    async def _initialize(self, send: Send, subject: Subject, endpoint: str, message: dict[str, Any]) -> None:
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        wanted = params.get("protocolVersion")
        version = wanted if wanted in LEGACY else LEGACY[0]
        try:
            session = self.sessions.open(subject, endpoint, params, version)
        except Refusal as refusal:
            await _reply(send, 503, _error(message["id"], refusal_error(refusal, None)))
            return
        caller = Caller(
            subject,
            "legacy",
            version=version,
            capabilities=session.capabilities,
            info=session.info,
            endpoint=endpoint,
            session=session,
        )
        result = await self._methods.initialize(caller)
        session.version = str(result.get("protocolVersion", version))
        body = orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        await _reply(send, 200, body, (b"mcp-session-id", session.id.encode()))

    async def _room(self, send: Send, subject: Subject, number: Any) -> bool:
        """Whether the subject may have one more request open, streams included; tells it when not."""
        held, unread = self._held.get(subject.id, 0), self._unread.size(subject.id)
        if held < self._most_held and unread < MOST_UNREAD:
            return True
        words = f"{subject.id} has {held} requests open, as many as it may: wait for one to end"
        if held < self._most_held:
            words = f"{subject.id} has {unread} bytes of answers unread, more than may wait: read them"
        refusal = Refusal("limit_exceeded", words, retry_after=1)
        await _reply(send, 429, _error(number, refusal_error(refusal, None)), (b"retry-after", b"1"))
        return False

    async def _serve(self, receive: Receive, caller: HttpCaller, message: dict[str, Any]) -> None:
        """Run one request, watching whether its caller is still there."""
        task = asyncio.current_task()
        assert task is not None
        who = caller.subject.id
        self._held[who] = self._held.get(who, 0) + 1
        watch = Watch(caller, receive, task, self._gateway.timers)
        number, session = message["id"], caller.session
        if session is not None:
            session.busy += 1
            session.running[number] = watch.cancel
        try:
            answer = await self._answer(caller, message)
        except asyncio.CancelledError:
            if not watch.cancelled:
                raise
            task.uncancel()
            if watch.gone:
                return
            await caller.stream()  # clients that have given a request up drop events, and stumble over JSON
            answer = {
                "jsonrpc": "2.0",
                "id": number,
                "error": {"code": CANCELLED, "message": "Request cancelled"},
            }
        finally:
            watch.stop()
            if left := self._held.pop(who) - 1:
                self._held[who] = left
            if session is not None:
                session.busy -= 1
                session.running.pop(number, None)
        await caller.finish(answer)

    async def _answer(self, caller: HttpCaller, message: dict[str, Any]) -> dict[str, Any]:
        number = message["id"]
        params = message.get("params")
        try:
            if params is not None and not isinstance(params, dict):
                raise InvalidRequest("params must be an object")
            result = await self._methods.answer(caller, message["method"], params or {})
            return {"jsonrpc": "2.0", "id": number, "result": result}
        except RpcError as error:
            return {"jsonrpc": "2.0", "id": number, "error": error.body()}
        except Exception:
            log.exception("%s failed", message["method"])
            return {
                "jsonrpc": "2.0",
                "id": number,
                "error": {"code": -32603, "message": "Internal error; see the log"},
            }

    # -- sessions and their own stream -------------------------------------------------------------

    async def _session(
        self, send: Send, headers: dict[bytes, bytes], subject: Subject, endpoint: str
    ) -> Session | None:
        number = headers.get(b"mcp-session-id", b"").decode("latin-1")
        if not number:
            await _reply(send, 400, _error(None, InvalidRequest("Missing session ID: send initialize first")))
            return None
        session = self.sessions.find(number, subject, endpoint)
        if session is None:
            await _reply(send, 404, _error(None, InvalidRequest("Session not found: send initialize again")))
        return session

    async def _stream(
        self, receive: Receive, send: Send, headers: dict[bytes, bytes], session: Session
    ) -> None:
        accept = headers.get(b"accept", b"")
        if b"text/event-stream" not in accept and b"*/*" not in accept:
            await _reply(send, 406, _error(None, InvalidRequest("Accept must name text/event-stream")))
            return
        if session.stream is not None:
            await _reply(send, 409, _error(None, InvalidRequest("Only one stream is allowed per session")))
            return
        session.stream = asyncio.Event()
        session.busy += 1
        gone = asyncio.ensure_future(disconnected(receive))
        own = [*SSE_HEADERS, (b"mcp-session-id", session.id.encode())]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": own})
            await send({"type": "http.response.body", "body": b": open\r\n\r\n", "more_body": True})
            while not (self._stopping or gone.done()) and self._lives(session, headers):
                while session.waiting:
                    body = event(session.waiting.popleft())
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                session.stream.clear()
                waiting = asyncio.ensure_future(session.stream.wait())
                done, _ = await asyncio.wait(
                    (waiting, gone), timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                waiting.cancel()
                if not done:
                    await send({"type": "http.response.body", "body": b": ping\r\n\r\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            session.stream = None
            session.busy -= 1
            gone.cancel()

    def _lives(self, session: Session, headers: dict[bytes, bytes]) -> bool:
        """Whether the session is open, and the token its stream came with still good."""
        path = f"/servers/{session.endpoint}/mcp" if session.endpoint else "/mcp"
        known = self._identity.known(headers.get(b"authorization", b""), path)
        return known is not None and session.id in self.sessions

    def end_streams(self) -> None:
        """End the streams that would go on for ever, since the gateway is stopping."""
        self._stopping = self._health.stopping = True
        self._methods.listeners.close()
        for session in self.sessions:
            if session.stream is not None:
                session.stream.set()

    def _list_changed(self, what: str, server: str) -> None:
        message = {"jsonrpc": "2.0", "method": f"notifications/{what}/list_changed"}
        for session in self.sessions:
            if not session.endpoint or not server or session.endpoint == server:
                session.push(message)

    async def _session_closed(self, number: str) -> None:
        servers = self._gateway.catalogue.servers.values()
        await asyncio.gather(*(s.upstream.close_session(number) for s in servers if s.upstream is not None))


def _is_json(headers: dict[bytes, bytes]) -> bool:
    told = headers.get(b"content-type", b"")
    return told == JSON or told.partition(b";")[0].strip().lower() == JSON


def _host(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"host", b"").decode("latin-1")


async def _reply(
    send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes], kind: bytes = JSON
) -> None:
    headers = (
        [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *extra]
        if body
        else [(b"content-length", b"0"), *extra]
    )
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(number: Any, error: RpcError) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "error": error.body()})


def _check_once(headers: list[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and (name in ONCE or name.startswith(PARAM_BYTES)):
            raise HeaderMismatch(f"the {name.decode('latin-1')} header appears more than once")
        seen.add(name)


def _param_headers(headers: dict[bytes, bytes]) -> dict[str, str]:
    names = [name for name in headers if name[:10] == PARAM_BYTES]
    return {n.decode(): headers[n].strip().decode("latin-1") for n in names} if names else NO_HEADERS
