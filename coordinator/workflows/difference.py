"""What a change of a workflow changes, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from coordinator.workflows.model import Workflow, duration_text
from coordinator.workflows.picture import step_text, trigger_text

WORDS = {
    "most": "the largest value that passes",
    "least": "the smallest value that passes",
    "within": "how far apart the two may be",
    "when": "the condition under which it is done",
    "otherwise": "what happens when it does not pass",
    "by": "who decides",
    "expires": "how long it waits",
    "timeout": "its deadline",
    "retry": "how often it is tried",
    "arguments": "what the tool is called with",
    "after": "what it waits for",
    "on_error": "what its failure stops",
    "shows": "what is shown",
    "outputs": "what it leaves",
    "checkpoint": "the question",
    "value": "what is measured",
}


LIMITS = {
    "at_once": "The number of its cases that run at once",
    "tenant": "The number of its cases of one tenant that run at once",
}


def differences(old: Workflow, new: Workflow) -> list[str]:
    """Sentences, the most telling ones first; an empty list when nothing is done otherwise."""
    return [*_head(old, new), *_triggers(old, new), *_inputs(old, new), *_steps(old, new)]


def _head(old: Workflow, new: Workflow) -> Iterator[str]:
    for name in ("id", "name", "owner", "description"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"The workflow's {name.replace('_', ' ')} was {_told(before)} and is {_told(after)}."
    if old.priority != new.priority:
        was, now = (told or "by severity" for told in (old.priority, new.priority))
        yield f"The priority of its cases was {was} and is {now}."
    for name, words in LIMITS.items():
        was, now = getattr(old.limits, name), getattr(new.limits, name)
        if was != now:
            yield f"{words} {_change(was or 'any number', now or 'any number')}."


def _triggers(old: Workflow, new: Workflow) -> Iterator[str]:
    before, after = [trigger_text(t) for t in old.triggers], [trigger_text(t) for t in new.triggers]
    yield from (f"It no longer begins with {told}." for told in before if told not in after)
    yield from (f"It also begins with {told}." for told in after if told not in before)


def _inputs(old: Workflow, new: Workflow) -> Iterator[str]:
    for name in [*old.inputs, *(n for n in new.inputs if n not in old.inputs)]:
        before, after = old.inputs.get(name), new.inputs.get(name)
        if before is None and after is not None:
            yield f"It has a new input {name}, a {after.type}."
        elif after is None:
            yield f"The input {name} is gone."
        elif before is not None and before.type != after.type:
            yield f"The input {name} was a {before.type} and is a {after.type}."


def _steps(old: Workflow, new: Workflow) -> Iterator[str]:
    before, after = {s.id: s for s in old.steps}, {s.id: s for s in new.steps}
    for name, step in after.items():
        if name not in before:
            yield f"The step {name} is new: {step_text(new, step)}."
    for name in before:
        if name not in after:
            yield f"The step {name} is gone."
    for name, step in after.items():
        if name in before:
            yield from _step(name, before[name], step, old, new)


def _step(name: str, old: Any, new: Any, before: Workflow, after: Workflow) -> Iterator[str]:
    if type(old) is not type(new):
        yield f"The step {name} was a {old.kind} and is a {new.kind}: {step_text(after, new)}."
        return
    for field in type(new).model_fields:
        was, now = getattr(old, field), getattr(new, field)
        if field == "after":
            was, now = before.before(old), after.before(new)
        if was != now:
            yield f"At {name}, {_words(new, field)} {_change(was, now)}."


def _words(step: Any, field: str) -> str:
    if field == step.kind:
        return f"the {field}"
    return WORDS.get(field, field.replace("_", " "))


def _change(was: Any, now: Any) -> str:
    numbers = (int, float, timedelta)
    if (
        isinstance(was, numbers)
        and isinstance(now, numbers)
        and isinstance(was, timedelta) == isinstance(now, timedelta)
    ):
        word = "rises" if now > was else "falls"  # type: ignore[operator]
        return f"{word} from {_told(was)} to {_told(now)}"
    return f"was {_told(was)} and is {_told(now)}"


def _told(value: Any) -> str:
    if value is None or value in ((), {}, ""):
        return "nothing"
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, tuple | list):
        return ", ".join(_told(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_told(each)}" for name, each in value.items())
    if hasattr(value, "model_dump"):
        return _told(
            value.model_dump(mode="json", exclude_defaults=True, by_alias=True)
            or value.model_dump(mode="json")
        )
    return str(value)
