"""A workflow in words, as a mermaid diagram, and drawn as SVG."""

from __future__ import annotations

from html import escape
from typing import Any

from coordinator.workflows.model import KINDS, CheckpointStep, GateStep, Repeated, Workflow, duration_text

SHAPES = {
    "specialist": ("([", "])"),
    "tool": ("[", "]"),
    "gate": ("{{", "}}"),
    "checkpoint": ("[/", "/]"),
    "deliver": ("[[", "]]"),
}
FILLS = {
    "specialist": "#dbeafe",
    "tool": "#e5e7eb",
    "gate": "#fef3c7",
    "checkpoint": "#fee2e2",
    "deliver": "#dcfce7",
}
FONT = 'font-family="sans-serif"'
WIDE, HIGH, GAP_X, GAP_Y, EDGE = 200, 54, 40, 26, 20


def what(step: Any) -> str:
    """What a step does, in a few words."""
    told = str(getattr(step, step.kind))
    if step.kind == "specialist" and getattr(step, "act", None):
        return f"{told}: {step.act} actions"
    return told


def text(workflow: Workflow) -> str:
    """A workflow in words, a line a step."""
    lines = [f"{workflow.name} ({workflow.id}), owned by {workflow.owner}"]
    lines += [workflow.description.strip()] if workflow.description else []
    lines += [f"  begins with: {trigger_text(trigger)}" for trigger in workflow.triggers]
    lines += [f"  priority: {workflow.priority}"] if workflow.priority else []
    limits = workflow.limits
    lines += [f"  at once: {limits.at_once} cases"] if limits.at_once else []
    lines += [f"  at once of one tenant: {limits.tenant} cases"] if limits.tenant else []
    for name, each in workflow.inputs.items():
        lines.append(
            f"  needs: {name}, a {each.type}" + (f" ({each.description})" if each.description else "")
        )
    for n, step in enumerate(workflow.steps, start=1):
        lines.append(f"{n:>3}. {step.id}: {step_text(workflow, step)}")
    return "\n".join(lines)


def trigger_text(trigger: Any) -> str:
    """A trigger in words."""
    told = trigger.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    told.pop("inputs", None)
    told.pop("title", None)
    return ", ".join(f"{name} {_plain(value)}" for name, value in told.items())


def step_text(workflow: Workflow, step: Any) -> str:
    """A step in words."""
    said = [f"{step.kind} {what(step)}"]
    before = workflow.before(step)
    said += [f"after {', '.join(before)}"] if before else []
    said += [f"if {step.when}"] if step.when else []
    if isinstance(step, Repeated):
        said += [f"for each of {step.foreach}"] if step.foreach else []
        said += [f"leaves {', '.join(step.outputs)}"] if step.outputs else []
        said += [f"up to {step.retry.attempts} attempts"] if step.retry.attempts > 1 else []
    if isinstance(step, GateStep):
        said += [
            {"ask": "else a person decides", "note": "else it is noted", "halt": "else it halts"}[
                step.otherwise
            ]
        ]
    if isinstance(step, CheckpointStep):
        said += [f"decided by {step.by or 'anybody who may'}, within {duration_text(step.expires)}"]
    if step.repeat:
        said += [f"again from {step.repeat.from_} while {step.repeat.while_}"]
    return "; ".join(said)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return str(value)


def mermaid(workflow: Workflow) -> str:
    """The workflow as mermaid text (https://mermaid.js.org, flowchart)."""
    lines = ["flowchart TD"]
    for step in workflow.steps:
        left, right = SHAPES[step.kind]
        label = f"{step.name or step.id}<br/>{step.kind}: {what(step)}".replace('"', "#quot;")
        lines.append(f'    {step.id}{left}"{label}"{right}')
    for step in workflow.steps:
        arrow = "-. if .->" if step.when else "-->"
        lines += [f"    {name} {arrow} {step.id}" for name in workflow.before(step)]
        if step.repeat:
            lines.append(f"    {step.id} -. again .-> {step.repeat.from_}")
    for kind in KINDS:
        members = [step.id for step in workflow.steps if step.kind == kind]
        if members:
            lines += [
                f"    classDef {kind} fill:{FILLS[kind]},stroke:#374151",
                f"    class {','.join(members)} {kind}",
            ]
    return "\n".join(lines)


def svg(workflow: Workflow) -> str:
    """The workflow as an SVG picture: what comes later stands lower, what goes side by side in a row."""
    rows = _rows(workflow)
    width = max(len(row) for row in rows) * (WIDE + GAP_X) - GAP_X + 2 * EDGE
    height = len(rows) * (HIGH + GAP_Y) - GAP_Y + 2 * EDGE
    place: dict[str, tuple[float, float]] = {}
    for r, row in enumerate(rows):
        left = (width - len(row) * (WIDE + GAP_X) + GAP_X) / 2
        for c, name in enumerate(row):
            place[name] = (left + c * (WIDE + GAP_X), EDGE + r * (HIGH + GAP_Y))
    parts = [
        _arrow(place[name], place[step.id], step) for step in workflow.steps for name in workflow.before(step)
    ]
    parts += [_box(step, *place[step.id]) for step in workflow.steps]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {FONT}>'
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#374151"/></marker></defs>'
    )
    title = f"<title>{escape(workflow.name)}</title>"
    return "\n".join([head, title, marker, *parts, "</svg>"])


def _rows(workflow: Workflow) -> list[list[str]]:
    depth: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((of(before) for before in workflow.before(workflow.step(name))), default=-1)
        return depth[name]

    rows: list[list[str]] = [[] for _ in range(1 + max(of(step.id) for step in workflow.steps))]
    for step in workflow.steps:
        rows[depth[step.id]].append(step.id)
    return rows


def _arrow(start: tuple[float, float], end: tuple[float, float], step: Any) -> str:
    x1, y1, x2, y2 = start[0] + WIDE / 2, start[1] + HIGH, end[0] + WIDE / 2, end[1]
    middle = (y1 + y2) / 2
    dash = ' stroke-dasharray="5 4"' if step.when else ""
    return (
        f'<path d="M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}" fill="none" '
        f'stroke="#374151"{dash} marker-end="url(#tip)"/>'
    )


def _box(step: Any, x: float, y: float) -> str:
    name, told = escape(_cut(step.name or step.id)), escape(_cut(f"{step.kind}: {what(step)}", 32))
    middle = x + WIDE / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" rx="8" fill="{FILLS[step.kind]}" '
        'stroke="#374151"/>'
        f'<text x="{middle:g}" y="{y + 23:g}" font-size="14" text-anchor="middle">{name}</text>'
        f'<text x="{middle:g}" y="{y + 41:g}" font-size="11" text-anchor="middle" fill="#4b5563">'
        f"{told}</text>"
    )


def _cut(told: str, most: int = 26) -> str:
    return told if len(told) <= most else told[: most - 1] + "…"
