"""One task's use of a hosted model: asked for before every request, written down after every answer.

The gateway decides (`hosted/model`, `hosted/NAME`), keeps the account, and knows the thread to go on with;
nothing of it is kept here, so that another process or a later task of the case goes on where this one stood.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

from specialists.errors import BudgetSpent, KeptAtHome, SpecialistsError
from specialists.settings import Cloud
from specialists.toolbox import Toolbox, ToolResult
from specialists.types import Usage

log = logging.getLogger(__name__)
RECORD = "gateway__record_model"


@dataclass(frozen=True)
class Answered:
    """What a provider says of one answer."""

    response: str = ""  # its id
    version: str = ""  # the model that answered, as the provider names it
    input_tokens: int = 0
    output_tokens: int = 0
    hosted: tuple[dict[str, Any], ...] = ()  # the provider's own calls, as `hosted.reported` gives them
    waits_for: tuple[str, ...] = ()  # ids of the calls it wants an answer to


class ModelUse:
    """What this task asks of its model, and what that costs the case."""

    def __init__(self, toolbox: Toolbox, settings: Cloud, prompt: str) -> None:
        self._toolbox = toolbox
        self._settings = settings
        self._model = {"provider": settings.provider, "model": settings.model, "endpoint": settings.base_url}
        self._asked = ""
        self.usage = Usage(
            provider=settings.provider,
            model=settings.model,
            prompt=hashlib.sha256(prompt.encode()).hexdigest()[:12],
        )
        self.hosted: tuple[str, ...] = ()  # the hosted tools that policy lets it be offered
        self.thread: str = ""  # the response to go on from
        self.waits_for: tuple[str, ...] = ()
        self.notes: list[str] = []  # what a reader of the finding should know
        self.cited: dict[
            str, str
        ] = {}  # what a model may call a hosted call or a page → the gateway's call id

    @property
    def name(self) -> str:
        """The model that answered and the digest of its prompt, as a finding carries them."""
        return f"{self.usage.version or self.usage.model} prompt:{self.usage.prompt}"

    async def begin(self) -> None:
        """Ask whether this case may go to the model, and which hosted tools it may be offered."""
        told = await self._ask_for_model()
        thread = told.get("thread") or {}
        if self._settings.provider != "compatible":  # chat completions keep no threads
            self.thread = str(thread.get("response") or "")
            self.waits_for = tuple(map(str, thread.get("waits_for") or ()))
        allowed = []
        for name in self._settings.hosted:
            result = await self._toolbox.note(f"hosted/{name}", self._model)
            if result.refusal is None and not result.is_error:
                allowed.append(name)
            else:
                why = result.refusal.message if result.refusal else result.text
                self.notes.append(f"hosted tool {name} was not offered: {why[:300]}")
        self.hosted = tuple(allowed)

    async def ask(self) -> None:
        """Before a request: KeptAtHome if policy keeps the case here, BudgetSpent if no tokens are left."""
        if not self._asked:
            await self._ask_for_model()

    async def _ask_for_model(self) -> dict[str, Any]:
        result = await self._toolbox.note("hosted/model", self._model)
        if result.refusal is not None or result.is_error:
            why = result.refusal.message if result.refusal else result.text
            raise KeptAtHome(f"this case stays here and does not go to {self._settings.model}: {why[:500]}")
        self._asked = result.call
        told = result.data if isinstance(result.data, dict) else {}
        self._afford(told)
        return told

    def _afford(self, told: dict[str, Any]) -> None:
        spent, budget = int((told.get("spent") or {}).get("tokens", 0)), self._settings.token_budget
        if budget and spent >= budget:
            raise BudgetSpent(
                f"model {self._settings.model}: this case has spent {spent} tokens of this specialist's "
                f"{budget}; raise token_budget"
            )

    async def record(self, answered: Answered) -> None:
        """After an answer: write it down with every hosted call in it; only then may it be used."""
        result = (await self._write(answered, status="ok")).required()
        used = self.usage
        self.usage = used.model_copy(
            update={
                "version": answered.version or used.version,
                "requests": used.requests + 1,
                "input_tokens": used.input_tokens + answered.input_tokens,
                "output_tokens": used.output_tokens + answered.output_tokens,
                "hosted": used.hosted + len(answered.hosted),
                "responses": (*used.responses, answered.response) if answered.response else used.responses,
            }
        )
        for call in answered.hosted:
            named = (call["id"], *(str(source.get("url", "")) for source in call["sources"]))
            self.cited |= {name: result.call for name in named if name}
            if not call["offered"]:
                self.notes.append(f"the provider used {call['tool']}, which it was not offered")

    async def failed(self, why: str) -> None:
        """Write down that the model gave nothing usable; what it cost cannot be told."""
        try:
            await self._write(Answered(), status="failed", why=why[:1_000])
        except SpecialistsError as error:
            log.warning("%s: %s", self._toolbox.specialist or "specialist", error)

    async def _write(self, answered: Answered, **facts: Any) -> ToolResult:
        asked, self._asked = self._asked, ""
        told = {
            **self._model,
            **facts,
            "asked": asked,
            "version": answered.version,
            "prompt": self.usage.prompt,
            "response": answered.response,
            "waits_for": list(answered.waits_for),
            "input_tokens": answered.input_tokens,
            "output_tokens": answered.output_tokens,
            "hosted": list(answered.hosted),
        }
        return await self._toolbox.note(RECORD, told)
