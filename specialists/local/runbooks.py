"""Runbooks: the passage written for this alert, or nothing rather than a wrong page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from specialists.local.casework import Alert, Casebook
from specialists.types import Card, Event, Guidance, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox

MOST = 2


class RunbooksSpecialist:
    """Searches the runbooks with the words of the alert and of the leads; guidance, never evidence."""

    card = Card(
        name="runbooks",
        description="The runbook passage for this alert, or nothing.",
        tools=("runbooks__search", "runbooks__read"),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Search once, keep what is surely about this alert."""
        book = Casebook(self.card.name, task, toolbox)
        words = query(task, book.alert)
        if not words:
            yield book.finding("There is no alert and no question to search the runbooks with.")
            return
        result = await book.ask("runbooks__search", query=words, limit=3)
        if result is None:
            yield book.finding("The runbooks could not be searched.")
            return
        passages = list(result.data.get("passages", ()))  # the server leaves out what is not about the query
        guidance = tuple(_guidance(p, result.call) for p in passages[:MOST])
        text = (
            f"The runbook “{guidance[0].title}” is about this ({guidance[0].where})."
            if guidance
            else "No runbook is about this."
        )
        yield book.finding(text, guidance=guidance)


def query(task: Task, alert: Alert) -> str:
    """The alert's own words and what the leads call the fault, without numbers."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]", " ", alert.name)
    leads = " ".join(c.label.replace("_", " ") for c in task.leads[:2] if c.confidence >= 0.5)
    asked = "" if alert.text or alert.name else task.question
    words = re.sub(r"\b\d[\w.:%-]*", " ", f"{name} {alert.text} {leads} {asked}")
    return re.sub(r"\s+", " ", words).strip()[:400]


def _guidance(passage: dict[str, Any], call: str) -> Guidance:
    heading = f", “{passage['heading']}”" if passage.get("heading") else ""
    return Guidance(
        title=passage["title"] or passage["document"],
        passage=passage["passage"],
        where=f"{passage['document']}, lines {passage['lines']}{heading}",
        call=call,
        score=min(1.0, max(0.0, float(passage["score"]))),
    )
