"""What a server asks while its calls run, and for how long somebody may think about it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.caller import Caller
from gateway.errors import MethodNotFound, RpcError
from gateway.servers_file import ServerEntry
from gateway.upstream import ASKABLE, Background

ASK_SECONDS = 600  # for a question that belongs to no call: one in a call ends with the call
MOST_OF_ONE = 16  # questions to one subject at once, so that one who answers none keeps none from others
TOLD_SECONDS = 1
TIMED_OUT = -32001


class Questions:
    """The questions of one server that are being answered.

    One that came in a call ends when the call is given up; any ends when the server takes it back.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._open: dict[asyncio.Task[None], tuple[Any, Any, str]] = {}

    def answer(self, work: Coroutine[Any, Any, None], number: Any, subject: str, call: Any = None) -> None:
        """Have the server's question of this number answered; dropped when there are too many."""
        of_one = sum(asked == subject for _, _, asked in self._open.values())
        task = self._background.offer(work) if of_one < MOST_OF_ONE else work.close()
        if task is not None:
            self._open[task] = (number, call, subject)
            task.add_done_callback(lambda done: self._open.pop(done, None))

    def taken_back(self, number: Any) -> None:
        """The server wants no answer any more."""
        for task, (asked, _, _) in list(self._open.items()):
            if type(asked) is type(number) and asked == number:
                task.cancel()

    async def end(self, call: Any) -> None:
        """The call is given up, and with it what was asked in it; the caller is told before we go on."""
        tasks = [task for task, (_, asked_in, _) in self._open.items() if asked_in == call]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=TOLD_SECONDS)


async def answer_question(caller: Caller, entry: ServerEntry, message: dict[str, Any]) -> dict[str, Any]:
    """Put a server's question to the caller if the operator opened that; the answer for the server."""
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    method = message["method"]
    try:
        if method == "ping":
            return {**reply, "result": {}}
        if ASKABLE.get(method) not in entry.open:
            raise MethodNotFound(f"{method} refused: the operator has not opened it for this server")
        async with asyncio.timeout(ASK_SECONDS):
            return {**reply, "result": await caller.ask(method, message.get("params"))}
    except TimeoutError:
        late = RpcError(f"{method}: no answer within {ASK_SECONDS} s", number=TIMED_OUT)
        return {**reply, "error": late.body()}
    except RpcError as error:
        return {**reply, "error": error.body()}
