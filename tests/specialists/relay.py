"""A relay: the bundled tool servers under their public names, each call with an id, as a gateway gives.

Real tool servers over in-memory MCP connections; no policy, no ledger.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.server.lowlevel import Server
from mcp.types import CallToolResult, TextContent

from specialists.evidence import investigate_checked
from specialists.toolbox import Toolbox
from specialists.types import Evidence, Finding, Task
from tool_servers.serving import build
from tool_servers.settings import ToolServersSettings
from tool_servers.world import World


@dataclass
class Relay:
    """What went through, by call id; tools named in `waiting` need a person's grant first."""

    texts: dict[str, str] = field(default_factory=dict)
    tools: list[str] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    server: Any = None

    def stands(self, evidence: Evidence) -> bool:
        """Whether the quoted words stand in the result of the cited call."""
        return evidence.quote in self.texts.get(evidence.call, "")


@asynccontextmanager
async def relay(recording: Path, state: Path, names: Iterable[str]) -> AsyncIterator[Relay]:
    """The named tool servers for a recording, behind one MCP server."""
    world = World(ToolServersSettings(recording=str(recording), state=str(state)))
    async with AsyncExitStack() as stack:
        clients = {n: await stack.enter_async_context(Client(build(n, world))) for n in names}
        one = Relay()

        async def call(_: Any, params: Any) -> CallToolResult:
            server, _, tool = params.name.partition("__")
            call_id = f"call-{len(one.tools) + 1}"
            one.tools.append(params.name)
            if params.name in one.waiting:
                refusal = {"code": "approval_pending", "message": "a person must agree", "approval": "A-1"}
                return CallToolResult(
                    content=[TextContent(type="text", text="approval_pending: a person must agree")],
                    is_error=True,
                    _meta={"pointsman/call": call_id, "pointsman/refusal": refusal},
                )
            result = await clients[server].call_tool(tool, params.arguments or {})
            one.texts[call_id] = "\n".join(b.text for b in result.content if isinstance(b, TextContent))
            return CallToolResult(
                content=result.content,
                structured_content=result.structured_content,
                is_error=result.is_error,
                _meta={"pointsman/call": call_id},
            )

        one.server = Server("relay", on_call_tool=call)
        yield one


async def ask(specialist: Any, task: Task, through: Relay) -> Finding:
    """The finding of a specialist, checked as the coordinator gets it."""
    async with Toolbox(through.server, task=task.id, case=task.case, specialist=task.specialist) as toolbox:
        last: Any = None
        async for event in investigate_checked(specialist, task, toolbox):
            last = event
    assert isinstance(last, Finding)
    return last
