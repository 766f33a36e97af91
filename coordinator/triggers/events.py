"""Which workflow an alert opens a case of: the first whose `event` trigger wants it, else incident triage."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from coordinator.triggers.opening import KINDS, tenant_of
from coordinator.types import Trigger
from coordinator.workflows.expressions import ExpressionFailed, value_of
from coordinator.workflows.library import Library
from coordinator.workflows.model import EventTrigger
from coordinator.workflows.reading import WorkflowInvalid

log = logging.getLogger("coordinator.triggers")
USUAL = "incident-triage"
Route = Callable[[Trigger, str, dict[str, Any]], Trigger]


def unrouted(opened: Trigger, source: str, event: dict[str, Any]) -> Trigger:
    """Every alert opens a case of incident triage."""
    return opened


def routes(library: Library) -> Route:
    """What turns a trigger into that of the workflow which wants the event; the files are read each time."""

    def route(opened: Trigger, source: str, event: dict[str, Any]) -> Trigger:
        for name in library.files():
            if name == USUAL:
                continue
            try:
                found = _routed(library.get(name).workflow.triggers, name, opened, source, event)
            except (ExpressionFailed, WorkflowInvalid) as error:
                log.warning("%s does not open a case of %s: %s", source, name, error)
                continue
            if found is not None:
                return found
        return opened

    return route


def _routed(triggers: Any, name: str, opened: Trigger, source: str, event: dict[str, Any]) -> Trigger | None:
    values = {"event": event, "now": datetime.now(UTC).isoformat()}
    for trigger in triggers:
        if not isinstance(trigger, EventTrigger) or trigger.event not in (source, "*"):
            continue
        if trigger.when is None or value_of(trigger.when, KINDS, values) is True:
            title = opened.title if trigger.title is None else str(value_of(trigger.title, KINDS, values))
            inputs = value_of(dict(trigger.inputs), KINDS, values)
            tenant = tenant_of(trigger.tenant, values)
            told = {"workflow": name, "inputs": inputs, "title": title[:200], "tenant": tenant}
            return opened.model_copy(update=told)
    return None
