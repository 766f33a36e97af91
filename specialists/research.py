"""The research specialist: what the web knows of the trouble found. It works in cloud mode only."""

from __future__ import annotations

from collections.abc import AsyncIterator

from specialists.toolbox import Toolbox
from specialists.types import Card, Event, Finding, Task

NOWHERE = "The web can only be searched in cloud mode, with a hosted search that policy permits."


class ResearchSpecialist:
    """Stands in where no hosted model may be asked, and says so."""

    card = Card(
        name="research",
        description="Looks for known issues, advisories and documentation on the web.",
        tools=(),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Abstain: there is nothing here to search the web with."""
        yield Finding(
            task=task.id, specialist="research", status="abstained", summary=NOWHERE, missing=(NOWHERE,)
        )
