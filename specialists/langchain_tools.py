"""Gateway tools as LangChain tools: a thin adapter over `Toolbox.call`, which nothing goes round."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from langchain_core.tools import StructuredTool
from mcp.types import Tool

from specialists.errors import ApprovalPending
from specialists.toolbox import Toolbox
from specialists.types import Action

LONGEST_RESULT = 24_000  # characters of one result that a model is given


class ModelTools:
    """The tools a model may use in one task: only those its card names, only so many calls."""

    def __init__(self, toolbox: Toolbox, patterns: Iterable[str], most_calls: int) -> None:
        self._toolbox = toolbox
        self._patterns = tuple(patterns)
        self._left = most_calls
        self.waiting: list[Action] = []  # calls that wait for a person

    async def offered(self) -> list[StructuredTool]:
        """The tools that the card names and the gateway shows."""
        shown = await self._toolbox.tools()
        return [self._adapt(tool) for tool in shown if any(fnmatchcase(tool.name, p) for p in self._patterns)]

    def _adapt(self, tool: Tool) -> StructuredTool:
        async def call(**arguments: Any) -> str:
            return await self._call(tool.name, arguments)

        return StructuredTool(
            name=tool.name,
            description=tool.description or tool.title or tool.name,
            args_schema=tool.input_schema,
            coroutine=call,
        )

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
