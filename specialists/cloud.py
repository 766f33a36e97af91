"""Cloud mode: a hosted model reasons, with the tools of the card and under the same rules of evidence."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from specialists.answers import finding
from specialists.errors import KeptAtHome, ModelError, ThreadGone
from specialists.model_tools import ModelTools
from specialists.model_use import ModelUse
from specialists.settings import Cloud
from specialists.toolbox import Toolbox
from specialists.types import Card, Event, Finding, Progress, Specialist, Task

log = logging.getLogger(__name__)

SHARE_BEFORE_FALLBACK = 0.7  # of the deadline, so that the local specialist still has time
AGENTS = {
    "compatible": "specialists.agent",
    "openai": "specialists.agent",
    "foundry": "specialists.foundry",
}


class CloudSpecialist:
    """A specialist whose reasoning is a hosted model; `instead` is the local one."""

    mode = "cloud"

    def __init__(self, card: Card, settings: Cloud, instead: Specialist | None = None) -> None:
        self.card = card
        self._settings = settings
        self._instead = instead
        self._fallback = instead if settings.fallback == "local" else None
        self._prompt = prompt(card)

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Let the model work; its finding, or the local specialist's where the case may not go to the model,
        and where the model fails and that is the fallback."""
        where = f"{self._settings.model} at {self._settings.base_url}"
        yield Progress(specialist=self.card.name, kind="note", text=f"asking {where}")
        use = ModelUse(toolbox, self._settings, self._prompt)
        try:
            found = await self._ask(task, toolbox, use)
        except KeptAtHome as error:
            why, instead = error, self._instead
        except ModelError as error:
            why, instead = error, self._fallback
            await use.failed(str(error))
        else:
            yield found
            return
        if instead is None:
            raise why
        log.warning("%s: %s; the local specialist answers instead", self.card.name, why)
        async for event in self._answer_locally(instead, task, toolbox, str(why), use):
            yield event

    async def _ask(self, task: Task, toolbox: Toolbox, use: ModelUse) -> Finding:
        tools = ModelTools(toolbox, self.card.tools, self._settings.max_tool_calls)
        limit = asyncio.timeout(task.seconds * SHARE_BEFORE_FALLBACK if self._fallback else None)
        try:
            async with limit:
                await use.begin()
                if self._settings.hosted and not (use.hosted or self.card.tools):
                    return self._nothing_to_look_with(task, use)
                answer = await self._answer(task, tools, use)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelError(f"model {self._settings.model}: no answer in time") from error
        found = finding(answer, task, self.card.name, toolbox.results, use.cited)
        changes: dict[str, Any] = {"model": use.name, "usage": use.usage}
        changes["missing"] = (*found.missing, *use.notes)
        if tools.waiting:
            changes |= {"status": "found", "actions": (*tools.waiting, *found.actions)}
        return found.model_copy(update=changes)

    def _nothing_to_look_with(self, task: Task, use: ModelUse) -> Finding:
        """An abstention: what a model knows by heart is no finding, and would cost the same."""
        why = "Policy permits none of the hosted tools that this specialist looks with."
        name = self.card.name
        return Finding(
            task=task.id,
            specialist=name,
            mode="cloud",
            status="abstained",
            summary=why,
            missing=tuple(use.notes),
        )

    async def _answer(self, task: Task, tools: ModelTools, use: ModelUse) -> Any:
        """What the model fills in, going on with the case's thread if the provider still has it."""
        # Importing the libraries takes seconds; in a thread, the other specialists keep working.
        agent = await asyncio.to_thread(importlib.import_module, AGENTS[self._settings.provider])
        offers = await tools.offered()
        if use.thread:
            try:
                return await agent.ask(self._settings, self._prompt, told(task), offers, use)
            except ThreadGone as error:
                log.info("%s: %s; beginning a new thread", self.card.name, error)
                use.thread, use.waits_for = "", ()
        return await agent.ask(self._settings, self._prompt, told(task), offers, use)

    async def _answer_locally(
        self, instead: Specialist, task: Task, toolbox: Toolbox, why: str, use: ModelUse
    ) -> AsyncIterator[Event]:
        yield Progress(specialist=self.card.name, kind="note", text=f"{why}; answering locally instead")
        usage = use.usage if use.usage.requests else None
        async for event in instead.investigate(task, toolbox):
            if isinstance(event, Finding):
                missing = (f"{why}; the local specialist answered instead", *event.missing)
                event = event.model_copy(update={"missing": missing, "usage": usage})
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
