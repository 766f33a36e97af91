"""Opens the case of an event, once: its title and inputs are expressions of the workflow over `event`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from coordinator.case_index import CaseIndex
from coordinator.types import Trigger
from coordinator.workflows.expressions import value_of
from coordinator.workflows.model import TriggerBase, Workflow

KINDS = {"event": "any", "now": "time"}
LONGEST_TITLE = 200
Kind = Literal["condition", "mail", "file"]


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens cases of one trigger of one workflow; `submit` is told of each that is new."""

    workflow: Workflow
    trigger: TriggerBase
    index: CaseIndex
    submit: Callable[[str], None]

    def wanted(self, event: Mapping[str, Any]) -> bool:
        """Whether the trigger's `when` lets this event through; ExpressionFailed if it cannot be told."""
        when = getattr(self.trigger, "when", None)
        return when is None or value_of(when, KINDS, _values(event)) is True

    def open(self, kind: Kind, event: Mapping[str, Any], title: str, key: str) -> str:
        """The case of this event, opened if its key has none; ExpressionFailed if an input has no value."""
        values = _values(event)
        if self.trigger.title is not None:
            title = str(value_of(self.trigger.title, KINDS, values))
        words = " ".join(title.split())[:LONGEST_TITLE] or self.workflow.name
        opened = Trigger(
            kind=kind,
            title=words,
            question=words,
            fingerprint=key[:200],
            workflow=self.workflow.id,
            inputs=value_of(dict(self.trigger.inputs), KINDS, values),
            tenant=tenant_of(self.trigger.tenant, values),
            payload=dict(event),
        )
        case, new = self.index.open_once(opened, f"{kind} {self.workflow.id} {key}")
        if new or self.index.get(case).status == "queued":
            self.submit(case)
        return case


def tenant_of(told: Any, values: Mapping[str, Any]) -> str:
    """Whose case it is, by the `tenant` of a trigger; empty where it says nothing."""
    return "" if told is None else str(value_of(told, KINDS, values) or "")[:LONGEST_TITLE]


def _values(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"event": dict(event), "now": datetime.now(UTC).isoformat()}
