"""What can be wrong with a workflow beyond its form: names, order, cycles, expressions and their types."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from coordinator.errors import UsageError
from coordinator.workflows import cron, outputs
from coordinator.workflows.expressions import (
    ExpressionFailed,
    ExpressionWrong,
    compile_expression,
    is_constant,
)
from coordinator.workflows.model import (
    CheckpointStep,
    ConditionTrigger,
    DeliverStep,
    GateStep,
    Repeated,
    ScheduleTrigger,
    SpecialistStep,
    ToolStep,
    duration_text,
)
from coordinator.workflows.reading import Problem, Source

# what a gate needs besides `gate:`, and one of which bounds it needs
NEEDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "answer": ((), ()),
    "rule": (("value",), ()),
    "freshness": (("value", "most"), ()),
    "schema": (("of",), ()),
    "volume": (("value",), ("least", "most")),
    "anomaly": (("value",), ()),
    "completeness": (("value", "require"), ()),
    "duplicate": (("value",), ()),
    "cross_check": (("value", "against"), ()),
}
CHECKS = ("cause", "evidence", "confidence", "margin", "freshness", "coverage")


def problems_of(source: Source) -> list[Problem]:
    """Everything that is wrong; an empty list for a file that can be run."""
    order = list(_order(source))
    return order or [*_steps(source), *_triggers(source)]


def _order(source: Source) -> Iterator[Problem]:
    """Names that stand twice or lead nowhere, and cycles."""
    workflow, seen = source.workflow, dict[str, int]()
    for n, step in enumerate(workflow.steps):
        if step.id in seen:
            yield Problem(*source.mark("steps", n, "id"), f"there are two steps `{step.id}`: rename one")
        if step.id in outputs.RESERVED:
            yield Problem(
                *source.mark("steps", n, "id"), f"`{step.id}` means something else: rename the step"
            )
        seen[step.id] = n
    for n, step in enumerate(workflow.steps):
        for m, name in enumerate(step.after or ()):
            if name not in seen:
                yield Problem(*source.mark("steps", n, "after", m), f"no step `{name}`{_near(name, seen)}")
    if all(name in seen for step in workflow.steps for name in workflow.before(step)):
        try:
            TopologicalSorter({s.id: workflow.before(s) for s in workflow.steps}).prepare()
        except CycleError as error:
            circle = error.args[1]
            place = source.mark("steps", seen[circle[0]], "after")
            text = " waits for ".join(f"`{name}`" for name in reversed(circle))
            yield Problem(*place, f"{text}: a circle; take one `after` out")


def _steps(source: Source) -> Iterator[Problem]:
    for n, step in enumerate(source.workflow.steps):
        check = _Check(source, ("steps", n), outputs.kinds_at(source.workflow, step), step.id)
        yield from check.expression(step.when, "boolean", "when")
        if step.when and is_constant(step.when) and _never(step.when):
            yield Problem(
                *source.mark("steps", n, "when"), f"`{step.id}` is never reached: its `when` is false"
            )
        if step.repeat is not None:
            yield from _repeat(check, step, n)
        yield from _own(check, step)


def _repeat(check: _Check, step: Any, n: int) -> Iterator[Problem]:
    workflow = check.source.workflow
    earlier = [each.id for each in workflow.steps[: n + 1]]
    if step.repeat.from_ not in earlier:
        near = _near(step.repeat.from_, earlier)
        yield check.problem(f"`{step.repeat.from_}` is no step above this one{near}", "repeat", "from")
    seen = outputs.kinds_of(workflow, [*outputs.upstream(workflow, step), step.id])
    yield from check.only(seen).expression(step.repeat.while_, "boolean", "repeat", "while")


def _own(check: _Check, step: Any) -> Iterator[Problem]:
    """What the kind of a step asks for."""
    if isinstance(step, Repeated):
        yield from check.expression(step.foreach, "list", "foreach")
        if step.foreach:
            check = check.with_kinds({"item": "any"})
        after = check.only({"result": "any", "text": "string"} | ({"item": "any"} if step.foreach else {}))
        for name, output in step.outputs.items():
            if name in outputs.IMPLICIT:
                yield check.problem(f"`{name}` is there by itself: rename the output", "outputs", name)
            yield from after.expression(output.value or None, output.type, "outputs", name, "value")
    if isinstance(step, SpecialistStep):
        yield from check.given(step.question, "string", "question")
    if isinstance(step, ToolStep):
        if "__" not in step.tool:
            yield check.problem(f"`{step.tool}` is no public name: write SERVER__TOOL", "tool")
        yield from check.given(step.arguments, "any", "arguments")
        yield from check.given(step.reason, "string", "reason")
    if isinstance(step, GateStep):
        yield from _gate(check, step)
    if isinstance(step, CheckpointStep):
        yield from check.given(step.shows, "any", "shows")
        for name in step.edit:
            if name not in step.shows:
                yield check.problem(f"`{name}` can be edited only if it stands under `shows`", "edit", name)
        yield from _reminders(check, step)
    if isinstance(step, DeliverStep):
        yield from check.given(step.title, "string", "title")
        yield from check.given(step.summary, "any", "summary")
        yield from check.given(step.shows, "any", "shows")


def _reminders(check: _Check, step: CheckpointStep) -> Iterator[Problem]:
    late = f"the checkpoint has expired by then: it waits {duration_text(step.expires)} (`expires`)"
    for n, after in enumerate(step.remind):
        if after >= step.expires:
            yield check.problem(late, "remind", n)
    if step.remind and not step.tell:
        yield check.problem(
            "say where reminders go: `tell: NAME`, a destination (docs/delivery.md)", "remind"
        )
    if step.escalate is None:
        return
    if step.escalate.after >= step.expires:
        yield check.problem(late, "escalate", "after")
    if not (step.escalate.tell or step.tell):
        yield check.problem("say who is told: `tell: NAME`, a destination (docs/delivery.md)", "escalate")
    if step.of is not None or not step.by:
        why = (
            "it widens `by`, and there is none" if step.of is None else "actions are decided by who may do so"
        )
        yield check.problem(f"`escalate` does nothing here: {why}", "escalate")


def _gate(check: _Check, step: GateStep) -> Iterator[Problem]:
    needed, bounds = NEEDS[step.gate]
    for name in needed:
        if not getattr(step, name) and getattr(step, name) != 0:
            yield check.problem(f"a {step.gate} gate needs `{name}:`", "gate")
    if bounds and all(getattr(step, name) is None for name in bounds):
        yield check.problem(f"a {step.gate} gate needs one of: {', '.join(bounds)}", "gate")
    wanted = {"rule": "boolean", "freshness": "time", "volume": "number", "anomaly": "number"}.get(
        step.gate, "any"
    )
    yield from check.given(step.value, wanted, "value")
    yield from check.given(step.against, "any", "against")
    if step.gate == "freshness" and step.most is not None and isinstance(step.most, int | float):
        yield check.problem("how old it may be is a duration, such as 15m", "most")
    if step.gate != "freshness" and step.most is not None and not isinstance(step.most, int | float):
        yield check.problem("the largest value that passes is a number", "most")
    for name in step.checks:
        if name not in CHECKS:
            yield check.problem(f"no check `{name}`{_near(name, CHECKS)}", "checks")
    if step.gate == "schema" and step.of is not None:
        tools = [s.id for s in check.source.workflow.steps if isinstance(s, ToolStep)]
        if step.of not in tools:
            yield check.problem(f"`{step.of}` is no tool step{_near(step.of, tools)}", "of")


def _triggers(source: Source) -> Iterator[Problem]:
    workflow = source.workflow
    wanted = {name for name, each in workflow.inputs.items() if each.required and each.default is None}
    for n, trigger in enumerate(workflow.triggers):
        check = _Check(source, ("triggers", n), {"event": "any", "now": "time"}, "")
        yield from check.expression(getattr(trigger, "when", None), "boolean", "when")
        yield from check.given(trigger.title, "string", "title")
        yield from check.given(trigger.tenant, "string", "tenant")
        for name, given in trigger.inputs.items():
            if name not in workflow.inputs:
                near = _near(name, workflow.inputs)
                yield check.problem(f"the workflow has no input `{name}`{near}", "inputs", name)
            else:
                yield from check.given(given, workflow.inputs[name].type, "inputs", name)
        for name in sorted(wanted - set(trigger.inputs)):
            yield check.problem(f"the input `{name}` is not given: add it under `inputs`")
        if isinstance(trigger, ScheduleTrigger):
            yield from _schedule(check, trigger)
        if isinstance(trigger, ConditionTrigger):
            over = check.with_kinds({"result": "any", "text": "string"})
            yield from over.expression(trigger.condition.value, "number", "condition", "value")


def _schedule(check: _Check, trigger: ScheduleTrigger) -> Iterator[Problem]:
    for name, see in (("schedule", cron.checked), ("timezone", cron.zone)):
        try:
            see(getattr(trigger, name))
        except UsageError as error:
            yield check.problem(str(error), name)


class _Check:
    """Checks the expressions of one step or trigger."""

    def __init__(self, source: Source, path: tuple[str | int, ...], kinds: dict[str, str], step: str) -> None:
        self.source, self.path, self.kinds, self.step = source, path, kinds, step

    def with_kinds(self, more: dict[str, str]) -> _Check:
        return _Check(self.source, self.path, {**self.kinds, **more}, self.step)

    def only(self, kinds: dict[str, str]) -> _Check:
        return _Check(self.source, self.path, kinds, self.step)

    def problem(self, text: str, *where: str | int) -> Problem:
        return Problem(*self.source.mark(*self.path, *where), text)

    def given(self, told: Any, wanted: str, *where: str | int) -> Iterator[Problem]:
        """A value as files give them: text is an expression."""
        if isinstance(told, str):
            yield from self.expression(told, wanted, *where)
        elif isinstance(told, list | tuple):
            for n, each in enumerate(told):
                yield from self.given(each, "any", *where, n)
        elif isinstance(told, dict):
            for name, each in told.items():
                yield from self.given(each, "any", *where, name)

    def expression(self, text: str | None, wanted: str, *where: str | int) -> Iterator[Problem]:
        if text is None:
            return
        try:
            compile_expression(text, self.kinds, wanted)
        except ExpressionWrong as error:
            line, column = self.source.mark(*self.path, *where)
            quoted = 1 if self._is_quoted(line, column) else 0
            at = (line, column + error.column - 1 + quoted) if error.line == 1 else (line, column)
            yield Problem(*at, self._explained(error.why))

    def _is_quoted(self, line: int, column: int) -> bool:
        return self.source.text.splitlines()[line - 1][column - 1 : column] in ("'", '"')

    def _explained(self, why: str) -> str:
        """CEL's words, or better ones where a name is not known."""
        if "undeclared reference to" not in why:
            return why
        name = why.split("'")[1]
        first = name.partition(".")[0]
        steps = [step.id for step in self.source.workflow.steps]
        if first in steps and not any(kind.startswith(f"{first}.") for kind in self.kinds):
            return f"`{first}` is not done before this: add it to `after`"
        if first in steps:
            leaves = sorted(kind for kind in self.kinds if kind.startswith(f"{first}."))
            missing = f"`{first}` leaves no `{name.partition('.')[2]}`{_near(name, leaves)}"
            return f"{missing}; it leaves {', '.join(leaves)}"
        hint = _near(name, self.kinds)
        text = f"; text stands in quotes of its own: \"'{name}'\"" if not hint and "." not in name else ""
        return f"`{name}` is not known here{hint}{text}"


def _never(text: str) -> bool:
    try:
        return compile_expression(text, {}).value({}) is False
    except (ExpressionWrong, ExpressionFailed):
        return False


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean `{near[0]}`?" if near else ""
