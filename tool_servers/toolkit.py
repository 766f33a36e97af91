"""What every tool server shares: the server class, hints, times, paging, and how a result is put together."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from tool_servers import access_log
from tool_servers.errors import BadInput, ToolServerError

READ = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
ADDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)
ADDS_ONCE = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
DESTROYS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
)

TEXT_LIMIT = 190_000  # characters of text in one result
WHEN = "an RFC 3339 time such as 2026-01-31T10:00:00Z, or an age such as -30m (s, m, h, d)"

Start = Annotated[str, Field(description=f"Start of the window: {WHEN}; empty = the beginning.")]
End = Annotated[str, Field(description=f"End of the window: {WHEN}; empty = now.")]
BaselineStart = Annotated[str, Field(description=f"Start of the baseline: {WHEN}.")]
BaselineEnd = Annotated[str, Field(description=f"End of the baseline: {WHEN}.")]
Service = Annotated[str, Field(description="Only this service; empty = all.", max_length=200)]
Limit = Annotated[int, Field(ge=1, le=500, description="At most so many items in one answer.")]
Cursor = Annotated[str, Field(description="`next_cursor` of the previous answer; empty = from the start.")]

Item = TypeVar("Item")


class ToolServer(MCPServer[Any]):
    """An MCP server that names the field, the given and the allowed value when an argument is wrong."""

    def __init__(self, name: str, instructions: str) -> None:
        super().__init__(name, instructions=instructions, version="0.1.0", log_level="ERROR")
        self._properties: dict[str, set[str]] = {}
        self._reading: set[str] = set()
        self.replay: Callable[[str, dict[str, Any]], CallToolResult | None] | None = None
        self.warm: Callable[[], object] | None = None  # what may be made ready before the first call

    async def list_tools(self) -> list[Tool]:
        """List the tools; their schemas allow no unknown argument."""
        tools = await super().list_tools()
        for tool in tools:
            tool.input_schema["additionalProperties"] = False
        return tools

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Call a tool; whatever goes wrong comes back as one sentence a model can act on."""
        if not self._properties:
            tools = await self.list_tools()
            self._properties = {t.name: set(t.input_schema["properties"]) for t in tools}
            self._reading = {t.name for t in tools if t.annotations and t.annotations.read_only_hint}
        known = self._properties.get(name)
        if known is None:
            raise ToolError(f"unknown tool {name!r}; known: {', '.join(self._properties)}")
        for key in arguments.keys() - known:
            raise ToolError(
                f"unknown argument {key!r} for {name}; allowed: {', '.join(sorted(known)) or 'none'}"
            )
        access_log.note(self.name, name)
        if self.replay and name in self._reading and (known := self.replay(name, arguments)) is not None:
            return known
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(explain_invalid(error.__cause__)) from error.__cause__
            if isinstance(error.__cause__, ToolServerError):
                raise ToolError(str(error.__cause__)) from error.__cause__
            raise


def explain_invalid(error: ValidationError) -> str:
    """Say in words which argument was wrong, what was given and what is allowed."""
    parts = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"]) or "arguments"
        if problem["type"] == "missing":
            parts.append(f"missing argument {field!r}: it is required")
        else:
            given = repr(problem["input"])
            parts.append(
                f"invalid argument {field!r}: got {given if len(given) < 200 else given[:200] + '…'}; "
                f"allowed: {problem['msg'].removeprefix('Input should be ')}"
            )
    return "; ".join(parts)


def reply(text: str, data: BaseModel | None = None) -> CallToolResult:
    """A result with text a person can quote and, beside it, the same as structured content."""
    content = data.model_dump(mode="json") if data is not None else None
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content)


_AGE = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_AGE_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_time(text: str) -> float:
    """RFC 3339 text as seconds since 1970; a time without a zone is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def when(field: str, text: str, clock: float) -> float:
    """An argument that is a time or an age, as seconds since 1970."""
    if text == "now":
        return clock
    age = _AGE.fullmatch(text)
    if age:
        return clock - float(age[1]) * _AGE_UNITS[age[2]]
    try:
        return parse_time(text)
    except ValueError:
        raise BadInput(field, text, WHEN) from None


def window(
    start: str, end: str, clock: float, names: tuple[str, str] = ("start", "end")
) -> tuple[float, float]:
    """The window that two arguments name, never beyond the clock."""
    first = when(names[0], start, clock) if start else float("-inf")
    last = when(names[1], end, clock) if end else clock
    if first > last:
        raise BadInput(names[0], start, f"a time not after {names[1]} ({format_time(last)})")
    return first, min(last, clock)


def baseline(
    start: str, end: str, of: tuple[float, float], clock: float, oldest: float
) -> tuple[float, float]:
    """The baseline that two arguments name; without them, all that is known before the window."""
    if not start and not end:
        return (oldest, of[0]) if of[0] > oldest else (oldest, oldest)
    first, last = window(start, end, clock, ("baseline_start", "baseline_end"))
    return max(first, oldest), last


def format_time(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 UTC text; without milliseconds where there are none."""
    moment = datetime.fromtimestamp(round(seconds, 3), UTC)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def format_number(value: float) -> str:
    """A number short enough to read, exact enough to quote."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def cursor_after(offset: int, query: Sequence[object]) -> str:
    """An opaque cursor that belongs to one query."""
    return base64.urlsafe_b64encode(f"{offset}.{_digest(query)}".encode()).decode()


def cursor_offset(cursor: str, query: Sequence[object]) -> int:
    """Where a cursor stands; refuses one that belongs to another query."""
    if not cursor:
        return 0
    try:
        offset, _, digest = base64.urlsafe_b64decode(cursor.encode()).decode().partition(".")
        position = int(offset)
    except ValueError:
        raise BadInput("cursor", cursor, "the next_cursor of a previous answer, unchanged") from None
    if digest != _digest(query) or position < 0:
        raise BadInput("cursor", cursor, "the next_cursor of an answer to the same arguments")
    return position


def page(
    items: Sequence[Item],
    limit: int,
    cursor: str,
    query: Sequence[object],
    line: Callable[[Item], str],
) -> tuple[list[Item], list[str], str]:
    """The items of one page, a line of text for each, and the cursor after them; bounded also in size."""
    offset = cursor_offset(cursor, query)
    chosen: list[Item] = []
    lines: list[str] = []
    size = 0
    for item in items[offset : offset + limit]:
        text = line(item)
        size += len(text) + 1
        if chosen and size > TEXT_LIMIT:
            break
        chosen.append(item)
        lines.append(text)
    end = offset + len(chosen)
    return chosen, lines, cursor_after(end, query) if end < len(items) else ""


def listing(header: str, lines: Sequence[str], next_cursor: str) -> str:
    """The text of a bounded list: a header, one item a line, and how to get the rest."""
    more = [f"More follow: next_cursor={next_cursor}"] if next_cursor else []
    return "\n".join([header, *lines, *more])


def clip(text: str, limit: int) -> str:
    """Text cut at a limit, saying how much was cut."""
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit} more characters]"


def _digest(query: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(query, default=str).encode()).hexdigest()[:12]
