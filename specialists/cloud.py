"""Cloud mode: a hosted model reasons, with the tools of the card and under the same rules of evidence."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import logging
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from specialists.answers import finding
from specialists.errors import ModelError
from specialists.settings import Cloud
from specialists.toolbox import Toolbox
from specialists.types import Card, Event, Finding, Progress, Specialist, Task

log = logging.getLogger(__name__)

SHARE_BEFORE_FALLBACK = 0.7  # of the deadline, so that the local specialist still has time


class CloudSpecialist:
    """A specialist whose reasoning is a LangChain agent on an OpenAI-compatible endpoint."""

    mode = "cloud"

    def __init__(self, card: Card, settings: Cloud, instead: Specialist | None = None) -> None:
        self.card = card
        self._settings = settings
        self._instead = instead
        self._prompt = prompt(card)

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Let the model work; its finding, or the local specialist's if that is the fallback."""
        where = f"{self._settings.model} at {self._settings.base_url}"
        yield Progress(specialist=self.card.name, kind="note", text=f"asking {where}")
        try:
            found = await self._ask(task, toolbox)
        except ModelError as error:
            if self._instead is None:
                raise
            log.warning("%s: %s; the local specialist answers instead", self.card.name, error)
            async for event in self._answer_locally(self._instead, task, toolbox, str(error)):
                yield event
            return
        yield found

    async def _ask(self, task: Task, toolbox: Toolbox) -> Finding:
        # Importing the libraries takes seconds; in a thread, the other specialists keep working.
        agent = await asyncio.to_thread(importlib.import_module, "specialists.agent")
        adapter = await asyncio.to_thread(importlib.import_module, "specialists.langchain_tools")
        tools = adapter.ModelTools(toolbox, self.card.tools, self._settings.max_tool_calls)
        limit = asyncio.timeout(task.seconds * SHARE_BEFORE_FALLBACK if self._instead else None)
        try:
            async with limit:
                offered = await tools.offered()
                answer, model = await agent.ask(self._settings, self._prompt, told(task), offered)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelError(f"model {self._settings.model}: no answer in time") from error
        found = finding(answer, task, self.card.name, toolbox.results)
        changes: dict[str, Any] = {
            "model": f"{model} prompt:{hashlib.sha256(self._prompt.encode()).hexdigest()[:12]}"
        }
        if tools.waiting:
            changes |= {"status": "found", "actions": (*tools.waiting, *found.actions)}
        return found.model_copy(update=changes)

    async def _answer_locally(
        self, instead: Specialist, task: Task, toolbox: Toolbox, why: str
    ) -> AsyncIterator[Event]:
        yield Progress(specialist=self.card.name, kind="note", text=f"{why}; answering locally instead")
        async for event in instead.investigate(task, toolbox):
            if isinstance(event, Finding):
                missing = (*event.missing, f"{why}; the local specialist answered instead")
                event = event.model_copy(update={"missing": missing})
            yield event


def prompt(card: Card) -> str:
    """The system prompt of a specialist: its own page, and the rules that all share."""
    folder = resources.files("specialists") / "prompts"
    page = folder / f"{card.name}.md"
    own = f"You are the {card.name} specialist. {card.description}"
    if page.is_file():
        own = page.read_text(encoding="utf-8")
    return f"{own.strip()}\n\n{(folder / 'rules.md').read_text(encoding='utf-8').strip()}\n"


def told(task: Task) -> str:
    """The task as a model reads it."""
    scope = task.scope.model_dump(mode="json", exclude_defaults=True)
    lines = [f"Question: {task.question}", f"Scope: {json.dumps(scope, ensure_ascii=False)}"]
    if task.leads or task.claims:
        lines.append("Found by others so far; you may cite their calls, with just these words:")
    said = [(cause.statement, cause) for cause in task.leads] + [(claim.text, claim) for claim in task.claims]
    for words, holder in said:
        cited = " ".join(f"[call {e.call}] {e.quote!r}" for e in holder.evidence[:3])
        lines.append(f"- {words} (confidence {holder.confidence:.2f}) {cited}")
    return "\n".join(lines)
