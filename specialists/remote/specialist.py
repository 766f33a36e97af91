"""Remote mode: an A2A agent elsewhere does the work, under the same rules of evidence."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from typing import Any

from specialists.errors import AgentFailed
from specialists.evidence import cited_calls
from specialists.settings import Remote
from specialists.toolbox import Toolbox
from specialists.types import Card, Event, Finding, Task

MOST_RECALLED = 100  # calls that a finding may cite; what cites more does not stand
AT_ONCE = 8
_talk: Any = None  # the module, once it is loaded


class RemoteSpecialist:
    """Asks the agent at a URL; what it cites is looked up at the gateway before it counts."""

    mode = "remote"

    def __init__(self, card: Card, settings: Remote) -> None:
        self.card = card
        self._settings = settings

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """What the agent does and finds; AgentLost or AgentFailed when it does not."""
        gateway = self._settings.gateway_url or toolbox.target
        if not isinstance(gateway, str):
            raise AgentFailed(f"{self.card.name}: a remote specialist needs a gateway that has a URL")
        talk = await _talking()
        access = talk.Access(gateway, toolbox.token, toolbox.run)
        async for event in talk.conversation(self.card.name, self._settings, task, access, toolbox.pool):
            if isinstance(event, Finding):
                await recall(event, task, toolbox)
                event = event.model_copy(update={"mode": self.mode})
            yield event


async def _talking() -> Any:
    """What talks A2A: importing the SDK takes about a second, so the first time in a thread."""
    global _talk
    if _talk is None:
        _talk = await asyncio.to_thread(importlib.import_module, "specialists.remote.talk")
    return _talk


async def recall(finding: Finding, task: Task, toolbox: Toolbox) -> None:
    """Have the gateway say again what it released for the calls that a finding stands on.

    The agent made them with this task's token, so their outcomes are recorded under this task's keys; one
    that was never made is not made now.
    """
    wanted = cited_calls(finding, task)[:MOST_RECALLED]
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(tool: str, arguments: dict[str, Any], calls: set[str]) -> None:
        async with limit:
            await toolbox.recall(tool, arguments, calls)

    await asyncio.gather(*(one(*each) for each in wanted))
