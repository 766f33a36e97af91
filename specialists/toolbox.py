"""The toolbox: a specialist's only way out, an MCP client on the gateway with the specialist's own token."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from mcp import MCPError
from mcp.client.session import ClientSession
from mcp.types import (
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    PaginatedRequestParams,
    Tool,
)
from pydantic import Field, TypeAdapter, ValidationError

from specialists.errors import ApprovalPending, QuoteError, Refused, ToolFailed
from specialists.link import Link, Pool
from specialists.types import Evidence, Progress

KEY, CALL, CLAIM, REFUSAL, REPLAYED, RECORDED = (
    f"pointsman/{word}" for word in ("key", "call", "claim", "refusal", "replayed", "recorded")
)
APPROVAL = "pointsman-approval"
SHORTEST_QUOTE = 3
MOST_SAME = 20  # times a task may make the very same call and cite them all
_ANSWER = TypeAdapter(Annotated[CallToolResult | InputRequiredResult, Field(union_mode="left_to_right")])

Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Refusal:
    """Why the gateway did not do it: a stable code, words, and the rules that decided."""

    code: str
    message: str
    rules: tuple[dict[str, Any], ...] = ()
    approval: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class ToolResult:
    """What one call gave: its id in the ledger, its text (to read and to quote) and its data."""

    call: str
    tool: str
    arguments: dict[str, Any]
    text: str
    data: Any = None
    is_error: bool = False
    refusal: Refusal | None = None
    seconds: float = 0.0
    replayed: bool = False

    def quote(self, words: str) -> Evidence:
        """Evidence for these words; QuoteError unless they stand literally in the text."""
        if why := self._unquotable(words):
            raise QuoteError(
                f"{self.tool}: cannot quote {_short(words)!r}: {why}; quote the result's own words"
            )
        return Evidence(call=self.call, tool=self.tool, arguments=self.arguments, quote=words)

    def lines(self, *words: str) -> list[str]:
        """The lines of the text that hold all these words, in order."""
        return [line for line in self.text.splitlines() if all(word in line for word in words)]

    def cite(self, *words: str) -> Evidence | None:
        """Evidence quoting the first line that holds all these words, or None."""
        found = next((line.strip() for line in self.lines(*words) if len(line.strip()) >= SHORTEST_QUOTE), "")
        return self.quote(found) if found else None

    def required(self) -> Self:
        """This result, or Refused / ToolFailed if it is not a proper answer."""
        if self.refusal:
            raise Refused(f"{self.tool}: {self.refusal.message}", self.refusal)
        if self.is_error:
            raise ToolFailed(f"{self.tool}: {_short(self.text, 500)}")
        return self

    def _unquotable(self, words: str) -> str:
        if self.refusal:
            return f"the call was refused ({self.refusal.code})"
        if not self.call:
            return "the call has no id, so it did not go through the gateway"
        if len(words.strip()) < SHORTEST_QUOTE:
            return f"a quotation has at least {SHORTEST_QUOTE} characters"
        return "" if words in self.text else "they do not stand in its result"


@dataclass
class Toolbox:
    """An MCP client on the gateway for one task; `target` is anything `mcp.Client` takes."""

    target: Any
    token: str = ""
    case: str = ""
    run: str = ""
    task: str = ""
    specialist: str = ""
    on_progress: Listener | None = None
    seconds: float = 30.0  # deadline of one call
    patience: float = 2.0  # how long to keep trying to reconnect
    pool: Pool | None = None
    renewed: Callable[[], str] | None = None  # the token to go on with once `token` is refused
    results: dict[str, ToolResult] = field(default_factory=dict, init=False)  # by call id
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._link = Link(self.target, self.token, self.pool, self.patience, self.renewed)
        self._made: Counter[str] = Counter()
        self._listeners: list[Listener] = [self.on_progress] if self.on_progress else []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any] | None = None,
        claim: dict[str, Any] | None = None,
    ) -> ToolResult:
        """Call a tool by its public name; refusals are results, a wait for a person is ApprovalPending.

        A claim is what that person is told for the call: `reason`, `risk`, `undo` and `evidence`.
        """
        self.calls += 1
        result = await self.note(tool, arguments or {}, claim)
        self._tell(result)
        if result.refusal and result.refusal.code == "approval_pending":
            raise ApprovalPending(result.refusal.approval, tool, result.arguments, result.call)
        return result

    async def note(
        self, tool: str, arguments: dict[str, Any], claim: dict[str, Any] | None = None
    ) -> ToolResult:
        """A call that keeps the books: the same road, but no work of the task's, so not counted or told."""
        meta = {KEY: self._key(tool, arguments)} | ({CLAIM: claim} if claim else {})
        result = await self._asked(tool, arguments, meta)
        if result.call:
            self.results[result.call] = result
        return result

    async def recall(self, tool: str, arguments: dict[str, Any], calls: Collection[str]) -> None:
        """Have the gateway say again what it answered to these calls, which others made for this task.

        Nothing runs: a call that is not recorded under this task's keys is refused, and stays unknown.
        """
        missing = set(calls) - self.results.keys()
        for count in itertools.count(1):
            if count > 1 and (not missing or count > MOST_SAME):
                return
            meta = {KEY: self._key_of(tool, arguments, count), RECORDED: True}
            result = await self._asked(tool, arguments, meta)
            if result.refusal and result.refusal.code != "approval_pending":
                return
            self.results[result.call] = result
            missing.discard(result.call)

    async def tools(self) -> list[Tool]:
        """The tools this token may see."""
        found: list[Tool] = []
        cursor: str | None = None
        while True:
            params = PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self._link.ask(lambda session, params=params: session.list_tools(params=params))
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                return found

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Tell this listener too of every call made meanwhile."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def _asked(self, tool: str, arguments: dict[str, Any], meta: dict[str, Any]) -> ToolResult:
        """What the gateway answers to one call; what goes wrong on the way is a refusal."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.seconds):
                answer = await self._link.ask(lambda session: _send(session, tool, arguments, meta))
        except TimeoutError:
            answer = _unanswered("deadline_exceeded", f"no answer within {self.seconds:g} s; ask for less")
        except ValidationError as error:
            problem = f"the answer is not a valid MCP result ({error.error_count()} errors); tell its owner"
            answer = _unanswered("schema_mismatch", problem)
        except MCPError as error:
            answer = _unanswered("protocol_error", f"{error.message} (code {error.code}); call it otherwise")
        return _read(answer, tool, arguments, time.monotonic() - started)

    def _key(self, tool: str, arguments: dict[str, Any]) -> str:
        """The same for the n-th time a task makes the same call: a resumed task replays what is recorded."""
        same = self._same(tool, arguments)
        self._made[same] += 1
        return self._key_of(tool, arguments, self._made[same])

    def _key_of(self, tool: str, arguments: dict[str, Any], count: int) -> str:
        return hashlib.sha256(f"{self._same(tool, arguments)}#{count}".encode()).hexdigest()

    def _same(self, tool: str, arguments: dict[str, Any]) -> str:
        canonical = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return json.dumps([self.run, self.task, tool, canonical])

    def _tell(self, result: ToolResult) -> None:
        said = " ".join(f"{name}={_short(str(value), 40)}" for name, value in result.arguments.items())
        how = f": {result.refusal.code}" if result.refusal else ": error" if result.is_error else ""
        event = Progress(
            specialist=self.specialist,
            kind="tool",
            text=f"{result.tool} {said}".strip() + how,
            tool=result.tool,
            call=result.call,
            seconds=round(result.seconds, 4),
        )
        for listener in tuple(self._listeners):
            listener(event)


async def _send(
    session: ClientSession, tool: str, arguments: dict[str, Any], meta: dict[str, Any]
) -> CallToolResult | InputRequiredResult:
    """One tools/call; the gateway has checked the result against its schema, so we do not do it again."""
    params = CallToolRequestParams.model_validate({"name": tool, "arguments": arguments, "_meta": meta})
    return await session.send_request(CallToolRequest(params=params), _ANSWER)


def _read(
    answer: CallToolResult | InputRequiredResult, tool: str, arguments: dict[str, Any], seconds: float
) -> ToolResult:
    meta = answer.meta or {}
    call, replayed = str(meta.get(CALL, "")), bool(meta.get(REPLAYED))
    if isinstance(answer, InputRequiredResult):
        refusal = _asked(answer)
        return ToolResult(call, tool, arguments, refusal.message, None, True, refusal, seconds, replayed)
    text = "\n".join(block.text for block in answer.content if block.type == "text")
    data, is_error = answer.structured_content, bool(answer.is_error)
    return ToolResult(call, tool, arguments, text, data, is_error, _refusal(meta), seconds, replayed)


def _refusal(meta: dict[str, Any]) -> Refusal | None:
    said = meta.get(REFUSAL)
    if not isinstance(said, dict):
        return None
    return Refusal(
        code=str(said.get("code", "denied")),
        message=str(said.get("message", "")),
        rules=tuple(rule for rule in said.get("rules") or () if isinstance(rule, dict)),
        approval=str(said.get("approval") or ""),
        retry_after=said.get("retry_after"),
    )


def _asked(answer: InputRequiredResult) -> Refusal:
    """What a question instead of a result means: wait for approval, or one no specialist may answer."""
    asked = (answer.input_requests or {}).get(APPROVAL)
    if asked is None:
        keys = ", ".join(answer.input_requests or {}) or "nothing"
        return Refusal("input_required", f"the tool asks for {keys}; a specialist answers no questions")
    said = _refusal(answer.meta or {})
    message = str(getattr(asked.params, "message", "") or "")
    named = said.approval if said else ""
    spoken = re.search(r"(?i)\bapproval:?\s+(\w+[-_]\w+)", message)
    found = named or (spoken[1] if spoken else "")
    return Refusal("approval_pending", message, said.rules if said else (), found)


def _unanswered(code: str, message: str) -> CallToolResult:
    text = f"{code}: {message}"
    meta = {REFUSAL: {"code": code, "message": message}}
    return CallToolResult.model_validate(
        {"content": [{"type": "text", "text": text}], "isError": True, "_meta": meta}
    )


def _short(words: str, limit: int = 80) -> str:
    return words if len(words) <= limit else words[: limit - 1] + "…"
