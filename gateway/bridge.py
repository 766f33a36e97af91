"""A modern caller on a server of the old era that asks in mid-call: the call is kept until the retry."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.caller import Caller
from gateway.canonical import digest
from gateway.errors import InvalidParams, MethodNotFound, RpcError

KEPT_SECONDS = 600
MOST_KEPT = 1_000
MOST_OF_ONE = 100  # of one subject, so that one who never answers keeps nobody else from asking
ASIDE = ("inputResponses", "requestState", "_meta")


@dataclass
class Kept:
    """A call that waits for its caller's answers."""

    subject: str
    request: str  # digest of what was asked for
    caller: _Asker
    task: asyncio.Task[dict[str, Any]]
    expiry: asyncio.TimerHandle | None = None
    questions: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)


class Bridge:
    """Turns live questions into `input_required` results and retries into answers."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    async def run(
        self,
        send: Callable[[dict[str, Any], Caller], Awaitable[dict[str, Any]]],
        params: dict[str, Any],
        caller: Caller,
    ) -> dict[str, Any]:
        """Send the request, or go on with the one a retry belongs to; its result, or the next questions."""
        fingerprint = digest({name: value for name, value in params.items() if name not in ASIDE})
        state = params.get("requestState")
        if state is None:
            asker = _Asker(caller)
            plain = {name: value for name, value in params.items() if name not in ASIDE[:2]}
            task = asyncio.ensure_future(send(plain, asker))
            kept = Kept(caller.subject.id, fingerprint, asker, task)
        else:
            kept = self._resume(state, fingerprint, params.get("inputResponses"), caller)
        try:
            return await self._next(kept)
        except asyncio.CancelledError:
            kept.task.cancel()
            raise

    def _resume(self, state: Any, fingerprint: str, answers: Any, caller: Caller) -> Kept:
        kept = self._kept.get(state) if isinstance(state, str) else None
        if kept is None or (kept.subject, kept.request) != (caller.subject.id, fingerprint):
            raise InvalidParams("requestState refused: no call of yours waits under it; make the call again")
        del self._kept[str(state)]
        if kept.expiry is not None:
            kept.expiry.cancel()
        kept.caller.now = caller
        answers = answers if isinstance(answers, dict) else {}
        for key, question in kept.questions.items():
            told = answers.get(key)
            if not question.done():
                question.set_result(told if isinstance(told, dict) else {"action": "cancel"})
        kept.questions = {}
        return kept

    async def _next(self, kept: Kept) -> dict[str, Any]:
        asked = asyncio.ensure_future(kept.caller.asked.get())
        try:
            await asyncio.wait((kept.task, asked), return_when=asyncio.FIRST_COMPLETED)
            if kept.task.done():
                return kept.task.result()
            requests: dict[str, Any] = {}
            for question in [asked.result(), *kept.caller.more()]:
                key = f"question-{len(requests) + 1}"
                requests[key] = question.request
                kept.questions[key] = question.answer
        finally:
            asked.cancel()
        own = sum(other.subject == kept.subject for other in self._kept.values())
        if len(self._kept) >= MOST_KEPT or own >= MOST_OF_ONE:
            kept.task.cancel()
            raise RpcError("too many calls wait for answers; try again later", number=-32011)
        state = secrets.token_urlsafe(24)
        self._kept[state] = kept
        kept.expiry = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._expire, state)
        return {"resultType": "input_required", "inputRequests": requests, "requestState": state}

    def _expire(self, state: str) -> None:
        kept = self._kept.pop(state, None)
        if kept is not None:
            kept.task.cancel()

    async def close(self) -> None:
        """Give up every call that waits."""
        tasks = [kept.task for kept in self._kept.values()]
        for state in list(self._kept):
            self._expire(state)
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _Question:
    request: dict[str, Any]
    answer: asyncio.Future[dict[str, Any]]


class _Asker(Caller):
    """The caller of a kept call: notifications go to whoever waits now, questions to the next answer."""

    __slots__ = ("asked", "now")

    def __init__(self, caller: Caller) -> None:
        super().__init__(
            caller.subject,
            "modern",
            capabilities=caller.capabilities,
            info=caller.info,
            endpoint=caller.endpoint,
            request_id=caller.request_id,
        )
        self.now = caller
        self.asked: asyncio.Queue[_Question] = asyncio.Queue()

    async def notify(self, message: dict[str, Any]) -> None:
        """Pass it to the request that waits now."""
        await self.now.notify(message)

    async def ask(self, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        """Put the question into the next `input_required` result and wait for the retry."""
        needed = {
            "sampling/createMessage": "sampling",
            "elicitation/create": "elicitation",
            "roots/list": "roots",
        }
        if needed.get(method, "") not in self.capabilities:
            raise MethodNotFound(f"{method} refused: the caller has not declared that it can answer it")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        request: dict[str, Any] = {"method": method}
        if params is not None:
            request["params"] = params
        await self.asked.put(_Question(request, answer))
        return await answer

    def more(self) -> list[_Question]:
        """What else has been asked by now."""
        found = []
        while not self.asked.empty():
            found.append(self.asked.get_nowait())
        return found
