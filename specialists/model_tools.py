"""The gateway's tools as a model gets them: a thin adapter over `Toolbox.call`, which nothing goes round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mcp.types import Tool

from specialists.errors import ApprovalPending
from specialists.toolbox import Toolbox
from specialists.types import Action

LONGEST_RESULT = 24_000  # characters of one result that a model is given
ADMIN = "gateway__"  # the gateway's own tools, which keep its books: never a model's


@dataclass(frozen=True)
class Offer:
    """One tool as a model is offered it; `call` takes its arguments by name, and gives what is read."""

    name: str
    description: str
    schema: dict[str, Any]
    call: Callable[..., Awaitable[str]]


class ModelTools:
    """The tools a model may use in one task: only those its card names, only so many calls."""

    def __init__(self, toolbox: Toolbox, patterns: Iterable[str], most_calls: int) -> None:
        self._toolbox = toolbox
        self._patterns = tuple(patterns)
        self._left = most_calls
        self.waiting: list[Action] = []  # calls that wait for a person

    async def offered(self) -> list[Offer]:
        """The tools that the card names and the gateway shows."""
        if not self._patterns:
            return []
        return [self._adapt(tool) for tool in await self._toolbox.tools() if self._fits(tool.name)]

    def _fits(self, name: str) -> bool:
        return not name.startswith(ADMIN) and any(fnmatchcase(name, p) for p in self._patterns)

    def _adapt(self, tool: Tool) -> Offer:
        async def call(**arguments: Any) -> str:
            return await self._call(tool.name, arguments)

        return Offer(tool.name, tool.description or tool.title or tool.name, tool.input_schema, call)

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        """The result as a model reads it, the call's id first so that it can be cited."""
        if self._left <= 0:
            return "No calls are left for this task. Give your answer now, from what you have seen."
        self._left -= 1
        try:
            result = await self._toolbox.call(name, arguments)
        except ApprovalPending as wait:
            self.waiting.append(_waiting(wait))
            return f"{name} waits for a person ({wait.approval_id}). Do not repeat it; give your answer now."
        text = result.text
        if len(text) > LONGEST_RESULT:
            text = f"{text[:LONGEST_RESULT]}\n… cut here, at {LONGEST_RESULT} characters; ask for less"
        what = "error" if result.is_error else "result"
        return f"[call {result.call or 'none'}] {what}:\n{text}"


def _waiting(wait: ApprovalPending) -> Action:
    return Action(
        tool=wait.tool,
        arguments=wait.arguments,
        reason="Called by the model; policy asks for a person's approval.",
        approval=wait.approval_id,
        status="pending",
    )
