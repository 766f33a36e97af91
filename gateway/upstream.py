"""What a tool server looks like from the road: one verb, `request`, whatever is behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from gateway.caller import Caller
from gateway.errors import RpcError, UpstreamFailed
from gateway.servers_file import ServerEntry
from gateway.wire import CAPABILITIES_KEY, CLIENT_KEY, MODERN, VERSION_KEY

CLIENT_INFO = {"name": "pointsman-gateway", "version": "0.1.0"}
ASKABLE = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}
ASKS = frozenset(ASKABLE.values())
LOG_LEVEL_KEY = "io.modelcontextprotocol/logLevel"
KEPT_META = frozenset(
    (
        "progressToken",
        "traceparent",
        "tracestate",
        "baggage",
        VERSION_KEY,
        CAPABILITIES_KEY,
        CLIENT_KEY,
        LOG_LEVEL_KEY,
    )
)
CHANGED = {
    "notifications/tools/list_changed": "tools",
    "notifications/prompts/list_changed": "prompts",
    "notifications/resources/list_changed": "resources",
}
MAX_ROUNDS = 16
PACE, BURST = 1_000, 2_000  # messages a second that are no answers, and how many more at once
BYTES_A_MESSAGE = 8_192  # a longer one counts as several
PER_LINE = 0.02  # what an empty line or a comment counts
FREE_FAILURES, LONGEST_BREAK = 3, 10.0
MOST_ANSWERED = 64  # questions of a server being answered at once; further ones are dropped
ANSWER_SECONDS = 10  # how long a server may take to accept our answer to its question


class Upstream(Protocol):
    """A connection to one tool server, shared by all callers."""

    entry: ServerEntry
    info: dict[str, Any]  # what the server said of itself: capabilities, serverInfo, instructions
    modern: bool | None
    on_changed: Callable[[str], None]

    async def connect(self) -> None:
        """Reach the server and learn its era; raises UpstreamFailed with the stage."""
        ...

    async def request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """The server's result; raises RpcError for its own error and UpstreamFailed when it gives none."""
        ...

    async def open_session(self, caller: Caller) -> dict[str, Any] | None:
        """Open the caller's own legacy session; the server's hello, None if it has only the new era."""
        ...

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """Pass a legacy client's notification on."""
        ...

    async def close_session(self, key: str) -> None:
        """Close what was opened for this downstream session."""
        ...

    async def close(self) -> None:
        """Let go of the server."""
        ...


def offered(capabilities: dict[str, Any], opened: frozenset[str]) -> dict[str, Any]:
    """The client capabilities this server may know of: those the caller has and the operator opened."""
    if not capabilities:
        return {}
    return {
        name: value
        for name, value in capabilities.items()
        if name in opened or (name not in ASKS and "meta" in opened)
    }


def outgoing(params: dict[str, Any], caller: Caller, entry: ServerEntry, *, modern: bool) -> dict[str, Any]:
    """The parameters as the server gets them: our own `_meta` keys taken out, the era's envelope put in."""
    given = params.get("_meta") or {}
    if "meta" in entry.open:
        meta = {key: value for key, value in given.items() if not key.startswith("pointsman/")}
    else:
        meta = {key: given[key] for key in given if key in KEPT_META}
    if modern:
        meta[VERSION_KEY] = MODERN
        meta[CAPABILITIES_KEY] = offered(caller.capabilities, entry.open)
        if caller.info is not None:
            meta[CLIENT_KEY] = caller.info
    elif caller.era == "modern":
        for key in (VERSION_KEY, CAPABILITIES_KEY, CLIENT_KEY, LOG_LEVEL_KEY):
            meta.pop(key, None)
    told = {**params, "_meta": meta}
    if not meta:
        del told["_meta"]
    return told


def shared_key(caller: Caller, entry: ServerEntry) -> str:
    """What callers without a session of their own share: the subject, the era, what the server may ask."""
    asks = ",".join(sorted(offered(caller.capabilities, entry.open)))
    return f"{caller.subject.id} {caller.era} {asks}"


def hello(caller: Caller, entry: ServerEntry) -> dict[str, Any]:
    """The `initialize` parameters that mirror this caller."""
    return {
        "protocolVersion": caller.version if caller.era == "legacy" else "2025-11-25",
        "capabilities": offered(caller.capabilities, entry.open),
        "clientInfo": caller.info or CLIENT_INFO,
    }


async def in_rounds(
    send: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]], params: dict[str, Any], caller: Caller
) -> dict[str, Any]:
    """A legacy caller's request on a modern server: every `input_required` entry becomes a live question."""
    result = await send(params)
    for _ in range(MAX_ROUNDS):
        if result.get("resultType") != "input_required":
            return {
                key: value
                for key, value in result.items()
                if key not in ("resultType", "ttlMs", "cacheScope")
            }
        questions = result.get("inputRequests") or {}
        if not isinstance(questions, dict) or not all(_question(q) for q in questions.values()):
            raise UpstreamFailed("call", "it asks for input in a wrong form", sent=True)
        told = {key: await caller.ask(q["method"], q.get("params")) for key, q in questions.items()}
        again = {**params, "inputResponses": told}
        if "requestState" in result:
            again["requestState"] = result["requestState"]
        result = await send(again)
    raise UpstreamFailed("call", f"asked for input more than {MAX_ROUNDS} times", sent=True)


def _question(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("method"), str)
        and isinstance(value.get("params", {}), dict)
    )


def message_of(value: Any) -> dict[str, Any]:
    """What a server sent, if it is a JSON-RPC message: everything behind this relies on its form."""
    if not isinstance(value, dict):
        raise UpstreamFailed("read", "it sends something that is no JSON-RPC message", sent=True)
    if "method" not in value:
        return value
    params = value.get("params")
    if params is None:
        params = value.pop("params", None) or {}
    number = value.get("id", "")
    well = (
        isinstance(value["method"], str)
        and isinstance(params, dict)
        and isinstance(params.get("_meta", {}), dict)
        and isinstance(number, str | int)
        and not isinstance(number, bool)
    )
    if not well:
        raise UpstreamFailed("read", "it sends a request or a notification of a wrong form", sent=True)
    return value


def answers(message: dict[str, Any], number: Any) -> bool:
    """Whether a message carries exactly this id: 1, 1.0, "1" and true are four different ones."""
    told = message.get("id")
    return type(told) is type(number) and told == number


def result_of(message: dict[str, Any]) -> dict[str, Any]:
    """The result of a JSON-RPC answer; raises its error."""
    error = message.get("error")
    if error is not None:
        if not isinstance(error, dict):
            raise UpstreamFailed("read", "its error is not a JSON-RPC error object", sent=True)
        number = error.get("code")
        whole = number if isinstance(number, int) and not isinstance(number, bool) else 0
        raise RpcError(str(error.get("message", "")), number=whole or -32603, data=error.get("data"))
    result = message.get("result")
    if not isinstance(result, dict):
        raise UpstreamFailed("read", "its answer has neither a result object nor an error", sent=True)
    if not isinstance(result.get("_meta", {}), dict):
        raise UpstreamFailed("read", "the _meta of its result is no object", sent=True)
    return result


def hello_of(result: dict[str, Any]) -> dict[str, Any]:
    """What a server says of itself, with everything left out that has not the form it should have."""
    forms = {"supportedVersions": list, "capabilities": dict, "serverInfo": dict, "instructions": str}
    told = {name: value for name, value in result.items() if isinstance(value, forms.get(name, object))}
    version = told.get("protocolVersion", MODERN)
    if not (isinstance(version, str) and re.fullmatch(r"[\w.-]{1,40}", version)):
        raise UpstreamFailed("initialize", "its protocol version is no version")
    if "capabilities" in told:
        kinds = told["capabilities"].items()
        told["capabilities"] = {
            k: v if isinstance(v, dict) else {} for k, v in kinds if v is not None and v is not False
        }
    return told


class Pace:
    """How fast a server may say what is no answer; beyond that it is read more slowly, nothing is lost."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._then = 0.0

    def count(self, size: int) -> float:
        """What a message of this size costs."""
        return 1 + size / BYTES_A_MESSAGE

    async def spend(self, cost: float) -> None:
        """Take this much out of the allowance, waiting until there is some again."""
        self._left -= cost
        if self._left >= 0:
            return
        now = asyncio.get_running_loop().time()
        self._left = min(self._left + (now - self._then) * PACE, float(BURST))
        self._then = now
        await asyncio.sleep(max(0.0, -self._left / PACE))


class Breaker:
    """Keeps requests from what has failed several times in a row, for longer each time."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0
        self._reason = ""

    def check(self) -> None:
        """Let a request through, or say when the next try is; then one is let through."""
        if self._failures < FREE_FAILURES:
            return
        now = asyncio.get_running_loop().time()
        if now < self._until:
            again = f"tried again in {self._until - now:.1f} s"
            raise UpstreamFailed("connect", f"{self._reason}; {again}, after {self._failures} failures")
        self._until = now + self._break()

    def failed(self, reason: str) -> None:
        """It has failed."""
        self._failures += 1
        self._reason = reason
        self._until = asyncio.get_running_loop().time() + self._break()

    def worked(self) -> None:
        """It works."""
        self._failures = 0

    def _break(self) -> float:
        return min(0.5 * 2 ** min(self._failures - FREE_FAILURES, 10), LONGEST_BREAK)


class Background:
    """Small tasks nobody waits for, kept until they end so that none is lost half-way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Any) -> asyncio.Task[Any]:
        """Run the coroutine beside everything else."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def offer(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
        """Run it like `start`, unless so much runs already that a server must be flooding us."""
        if len(self._tasks) < MOST_ANSWERED:
            return self.start(work)
        work.close()
        return None

    async def stop(self) -> None:
        """Cancel what still runs and wait until it has gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
