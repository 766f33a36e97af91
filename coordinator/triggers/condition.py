"""The condition trigger: a tool's answer, a threshold with hysteresis, one case an episode.

    quiet ──beyond──▶ pending ──for so long──▶ active ──at `clear`──▶ quiet
             ▲            │
             └──not any──┘

The phase is kept with the cases, so that neither a restart nor a further process loses an episode or opens it
twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from coordinator.errors import CoordinatorError
from coordinator.triggers.opening import Opener
from coordinator.triggers.state import Kept
from coordinator.workflows.expressions import compile_expression
from coordinator.workflows.model import Condition, ConditionTrigger, duration_text
from specialists.errors import SpecialistsError
from specialists.toolbox import ToolResult

log = logging.getLogger("coordinator.triggers")
KINDS = {"result": "any", "text": "string", "now": "time"}
GAPS = 3  # measurements that may be missing before a pending value counts from anew
Call = Callable[[str, str, dict[str, Any]], Awaitable[ToolResult]]  # as whom, tool, arguments
Record = Callable[[str, str, dict[str, Any]], Awaitable[None]]  # case, kind, body


class ConditionNotMeasured(CoordinatorError):
    """A condition whose value could not be told: the call was refused, or the answer holds no number."""

    code = "condition_not_measured"


class ConditionWatch:
    """Measures one condition again and again."""

    def __init__(self, opener: Opener, call: Call, record: Record) -> None:
        assert isinstance(opener.trigger, ConditionTrigger)
        self.condition: Condition = opener.trigger.condition
        self._opener, self._call, self._record = opener, call, record
        told = self.condition.model_dump_json(by_alias=True)
        self._id = hashlib.sha256(told.encode()).hexdigest()[:12]  # a changed condition is another one
        self._kept = Kept(opener.index, f"condition {opener.workflow.id} {self._id}")

    async def run(self) -> None:
        """Go on measuring."""
        while True:
            try:
                if not self._measured(now := datetime.now(UTC)):
                    await self.look(now)
            except (CoordinatorError, SpecialistsError) as error:
                log.warning("%s: condition not measured, tried again: %s", self._opener.workflow.id, error)
            await asyncio.sleep(self.condition.every.total_seconds())

    async def look(self, now: datetime) -> str:
        """Measure once and act on it; the phase it is in then."""
        value, event = await self.measure()
        before = self._kept.get()
        after = self._after(before, value, now)
        if after["phase"] == "active" and before.get("phase") != "active":
            begun = {**after, "phase": "pending"}  # whose moment names the case, whoever opens it
            if not self._kept.change(before, begun):
                return "pending"  # another process was first
            before, after["case"] = begun, self._open(value, after, event)
        if self._kept.change(before, after) and (case := before.get("case")) and after["phase"] == "quiet":
            await self._record(
                case, "condition", {"status": "cleared", "value": value, "at": now.isoformat()}
            )
        return str(after["phase"])

    def _measured(self, now: datetime) -> bool:
        """Whether another process has just measured it."""
        seen = self._kept.get().get("seen")
        return bool(seen) and now - _moment(seen) < self.condition.every / 2

    async def measure(self) -> tuple[float, dict[str, Any]]:
        """The value now, and the answer it was read from."""
        asked = self.condition
        answer = await self._call(self._opener.workflow.id, asked.tool, dict(asked.arguments))
        if answer.refusal or answer.is_error:
            why = answer.refusal.message if answer.refusal else answer.text
            raise ConditionNotMeasured(f"{asked.tool}: {why[:300]}")
        data = answer.data if isinstance(answer.data, dict) else {}
        values = {"result": data, "text": answer.text, "now": datetime.now(UTC).isoformat()}
        value = compile_expression(asked.value, KINDS).value(values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConditionNotMeasured(f"`{asked.value}` came to {value!r}, and a number is needed")
        return float(value), {"call": answer.call, "result": data}

    def beyond(self, value: float, bound: float | None = None) -> bool:
        """Whether the value is past the threshold, or past another bound on the same side."""
        asked = self.condition
        if asked.above is not None:
            return value > (asked.above if bound is None else bound)
        assert asked.below is not None
        return value < (asked.below if bound is None else bound)

    def _after(self, before: dict[str, Any], value: float, now: datetime) -> dict[str, Any]:
        """The state after a measurement."""
        phase, seen = before.get("phase", "quiet"), {"seen": now.isoformat()}
        if phase == "active":
            still = self.beyond(value, self.condition.clear)
            return {**before, **seen} if still else {"phase": "quiet", **seen}
        if not self.beyond(value):
            return {"phase": "quiet", **seen}
        since = now
        if phase == "pending" and now - _moment(before["seen"]) <= GAPS * self.condition.every + _SLACK:
            since = _moment(before["since"])
        long_enough = now - since >= self.condition.for_
        return {"phase": "active" if long_enough else "pending", "since": since.isoformat(), **seen}

    def _open(self, value: float, state: dict[str, Any], answer: dict[str, Any]) -> str:
        asked, side = self.condition, "above" if self.condition.above is not None else "below"
        bound = asked.above if side == "above" else asked.below
        event = {
            "value": value, "since": state["since"], "tool": asked.tool, side: bound, **answer,
        }  # fmt: skip
        lasting = f" for {duration_text(asked.for_)}" if asked.for_ else ""
        title = f"{self._opener.workflow.name}: {value:g} is {side} {bound:g}{lasting}"
        return self._opener.open("condition", event, title, f"{self._id} {state['since']}")


_SLACK = timedelta(seconds=5)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
