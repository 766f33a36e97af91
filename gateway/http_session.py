"""One legacy session with a tool server over HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from gateway.caller import Caller
from gateway.errors import RpcError, UpstreamFailed
from gateway.questions import Questions, answer_question
from gateway.upstream import ANSWER_SECONDS, CHANGED, hello_of, result_of

if TYPE_CHECKING:
    from gateway.http_client import Response
    from gateway.sessions import Session
    from gateway.types import Subject
    from gateway.upstream_http import HttpUpstream

log = logging.getLogger("gateway.upstream")
ACCEPTED = (200, 202, 204)
SOONEST_MS = 100  # before a broken stream is taken up again, whatever the server asks for


class HttpSession:
    """A handshake with the server, kept for one downstream session or one subject."""

    def __init__(
        self, upstream: HttpUpstream, headers: dict[str, str], subject: Subject, downstream: Session | None
    ) -> None:
        self.upstream = upstream
        self._subject = subject
        self.downstream = downstream
        self.hello: dict[str, Any] = {}
        self.gone = False
        self._headers = dict(headers)
        self._listening: asyncio.Task[Any] | None = None
        self._questions = Questions(upstream.background)

    async def open(self, params: dict[str, Any]) -> None:
        """Shake hands as the given client."""
        number = next(self.upstream.ids)
        message = {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": params}
        with await self._exchange("POST", self._headers, message) as response:
            answer = await self.upstream.read(response, number, self._unexpected)
            if session := response.headers.get("mcp-session-id"):
                self._headers["Mcp-Session-Id"] = session
        if answer is None:
            raise UpstreamFailed("initialize", "it closed the stream before it answered")
        self.hello = hello_of(result_of(answer))
        self._headers["MCP-Protocol-Version"] = str(
            self.hello.get("protocolVersion", params["protocolVersion"])
        )
        await self.tell("notifications/initialized", {})

    async def _exchange(
        self, verb: str, headers: dict[str, str], message: dict[str, Any] | None = None
    ) -> Response:
        return await self.upstream.exchange(verb, headers, message, self._subject)

    async def request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """The server's result; notifications and questions meanwhile go to the caller."""
        number = next(self.upstream.ids)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        try:
            with await self._exchange("POST", self._headers, message) as response:
                if response.status == 404 and "Mcp-Session-Id" in self._headers:
                    self.gone = True
                    raise UpstreamFailed(
                        "session", "it has forgotten the session; the next call opens another"
                    )
                answer = await self._read(response, number, caller)
        except asyncio.CancelledError:
            words = {"requestId": number, "reason": "the caller has gone or the deadline has passed"}
            told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": words}
            self.upstream.background.start(self._try_post(told))
            await self._questions.end(number)
            raise
        return result_of(answer)

    async def _read(self, response: Any, number: int, caller: Caller) -> dict[str, Any]:
        last, wait = "", 1000

        def mark(event: str, retry: int | None) -> None:
            nonlocal last, wait
            last, wait = event or last, retry if retry is not None else wait

        async def take(message: dict[str, Any]) -> None:
            await self._take(message, caller, number)

        if response.content_type != "text/event-stream" or response.status != 200:
            answer = await self.upstream.read(response, number, take)
        else:
            answer = await self.upstream.read_events(response, number, take, mark)
        while answer is None:
            if not last:
                raise UpstreamFailed("read", "it closed the stream before it answered", sent=True)
            await asyncio.sleep(min(max(wait, SOONEST_MS), 10_000) / 1000)
            headers = {**self._headers, "Accept": "text/event-stream", "Last-Event-ID": last}
            with await self._exchange("GET", headers) as again:
                if again.status != 200:
                    raise UpstreamFailed(
                        "read", f"it does not resume its answer (HTTP {again.status})", sent=True
                    )
                answer = await self.upstream.read_events(again, number, take, mark)
        return answer

    async def _take(self, message: dict[str, Any], caller: Caller, number: int) -> None:
        """Pass on what the server says while a request runs."""
        if "id" not in message:
            if not self._noted(message):
                await caller.notify(message)
            return
        self._questions.answer(self._answer(message, caller), message["id"], caller.subject.id, number)

    def _noted(self, message: dict[str, Any]) -> bool:
        """Whether a notification was for us: of a list that has changed, or a question that is taken back."""
        method = message["method"]
        self.upstream.on_changed(method)
        if method == "notifications/cancelled":
            self._questions.taken_back((message.get("params") or {}).get("requestId"))
            return True
        return method in CHANGED

    async def _answer(self, question: dict[str, Any], caller: Caller) -> None:
        await self._try_post(await answer_question(caller, self.upstream.entry, question))

    async def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        await self._post({**message, "params": params} if params else message)

    async def _try_post(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._post(message)
        except (TimeoutError, UpstreamFailed) as error:
            what = message.get("method", "an answer")
            log.info("%s: %s not delivered (%s)", self.upstream.entry.name, what, error)

    async def _post(self, message: dict[str, Any]) -> None:
        with await self._exchange("POST", self._headers, message) as response:
            if response.status not in ACCEPTED:
                log.info("%s: %s for a notification", self.upstream.entry.name, response.status)

    # -- what comes without a request --------------------------------------------------------------

    def listen(self) -> None:
        """Keep the server's own stream open, for as long as it has one."""
        if self._listening is None:
            self._listening = self.upstream.background.start(self._listen())

    async def _listen(self) -> None:
        headers = {**self._headers, "Accept": "text/event-stream"}
        headers.pop("Content-Type", None)
        wait = 1.0

        def mark(event: str, retry: int | None) -> None:
            nonlocal wait
            wait = min(max(retry, SOONEST_MS), 10_000) / 1000 if retry is not None else wait
            if event:
                headers["Last-Event-ID"] = event

        while not self.gone:
            try:
                with await self._exchange("GET", headers) as response:
                    if response.status != 200 or response.content_type != "text/event-stream":
                        return  # it offers no such stream
                    await self.upstream.read_events(response, None, self._unasked, mark)
            except UpstreamFailed as error:
                log.info("%s: own stream ended (%s)", self.upstream.entry.name, error)
                wait = min(wait * 2, 30)
            await asyncio.sleep(wait)

    async def _unasked(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            if not self._noted(message) and self.downstream is not None:
                self.downstream.push(message)
            return
        caller = self.downstream.caller() if self.downstream is not None else None
        if caller is not None:
            self._questions.answer(self._answer(message, caller), message["id"], caller.subject.id)
        else:
            refused = RpcError("nobody to ask here", number=-32601)
            reply = {"jsonrpc": "2.0", "id": message["id"], "error": refused.body()}
            self.upstream.background.offer(self._try_post(reply))

    async def _unexpected(self, message: dict[str, Any]) -> None:
        log.info("%s: %s before the handshake was done", self.upstream.entry.name, message.get("method"))

    async def close(self) -> None:
        """End the session with the server, politely but briefly."""
        self.gone = True
        if self._listening is not None:
            self._listening.cancel()
        if "Mcp-Session-Id" in self._headers:
            try:
                async with asyncio.timeout(2):
                    with await self._exchange("DELETE", self._headers):
                        pass
            except (TimeoutError, UpstreamFailed) as error:
                log.info("%s: session not closed (%s)", self.upstream.entry.name, error)
