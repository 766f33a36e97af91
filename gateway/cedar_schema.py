"""The Cedar schema of an installation: its subjects, its servers, and three typed actions for every tool."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import cedarpy

from gateway.canonical import canonical
from gateway.cedar_values import REST, UNTYPED, Shape, shape_of
from gateway.errors import PolicyError
from gateway.types import Tool

VERBS = ("call", "request", "approve")
OTHER = {
    "read": "Resource",
    "prompt": "Prompt",
}  # the actions that are not about tools, and what they are about

AT_ONCE = 100  # tools of one schema
_STRING = {"type": "String"}
_LONG = {"type": "Long"}
_STRINGS = {"type": "Set", "element": _STRING}
_BOOL = {"type": "Boolean"}
_DATETIME = {"type": "Extension", "name": "datetime"}
_DECIMAL = {"type": "Extension", "name": "decimal"}

_CLOCK = {"hour": ({"type": "Long"}, True), "weekday": (_STRING, True)}
_CASE = {
    "id": (_STRING, True),
    "run": (_STRING, True),
    "task": (_STRING, True),
    "workflow": (_STRING, False),
    "severity": (_STRING, False),
    "confidence": (_DECIMAL, False),
    "freshness": ({"type": "Long"}, False),
}


def _shaped(tool: Tool) -> tuple[Shape, bytes]:
    shape = shape_of(tool.definition.get("inputSchema"))
    return shape, canonical(shape.cedar())


def _record(fields: dict[str, tuple[dict[str, Any], bool]]) -> dict[str, Any]:
    return {
        "type": "Record",
        "attributes": {name: {**kind, "required": need} for name, (kind, need) in fields.items()},
    }


class Schemas:
    """Schemas of all tools, some at a time, and small ones of what one request, or a general rule, is about.

    Cedar copies a schema's actions into every request's entities, and checks the whole context against it:
    a request is asked with its own tool only, and with that part of the context its policies look at.
    """

    def __init__(self, tools: Iterable[Tool], before: Schemas | None = None) -> None:
        known = before._of_tools if before is not None else {}
        self._of_tools = {(t.public, t.digest): known.get((t.public, t.digest)) or _shaped(t) for t in tools}
        self.shapes = {public: shape for (public, _), (shape, _) in self._of_tools.items()}
        self._small: dict[tuple[str, frozenset[str]], cedarpy.Schema] = {}

    def forms(self, named: Iterable[str]) -> frozenset[Any]:
        """What rules that name these tools are checked against; the same where nothing else differs."""
        named = set(named)
        forms = (form for _, form in self._of_tools.values())
        own = ((public, form) for (public, _), (_, form) in self._of_tools.items() if public in named)
        return frozenset((*forms, *own))

    @cached_property
    def general(self) -> cedarpy.Schema:
        """For rules that do not name tools or arguments: all tools look alike to them."""
        return _parsed({"any__tool": UNTYPED})

    def about(self, named: Iterable[str], *, arguments: bool) -> Iterator[cedarpy.Schema]:
        """For a rule that names these tools, or looks at arguments: every form they have is in one of these.

        Cedar's schema takes some 100 kB a tool, so that one tool stands for all with the same arguments.
        """
        own = {public: self.shapes[public] for public in named if public in self.shapes}
        if not arguments:
            yield _parsed(own)
            return
        forms = {form: public for (public, _), (_, form) in self._of_tools.items()}
        standing = [public for public in forms.values() if public not in own]
        for at in range(0, max(1, len(standing)), AT_ONCE):
            yield _parsed(own | {public: self.shapes[public] for public in standing[at : at + AT_ONCE]})

    def of(self, public: str, looks_at: frozenset[str]) -> cedarpy.Schema:
        """For requests on this tool (with an empty name: on resources and prompts) by such policies."""
        key = (public, looks_at)
        if key not in self._small:
            self._small[key] = _parsed({public: self.shapes[public]} if public else {}, looks_at)
        return self._small[key]


def _parsed(known: dict[str, Shape], looks_at: frozenset[str] | None = None) -> cedarpy.Schema:
    try:
        return cedarpy.Schema.from_json_str(json.dumps(schema_of(known, looks_at)), release_gil=True)
    except ValueError as error:
        raise PolicyError(
            f"the tools give no valid policy schema: {error}; see `pointsman servers list`"
        ) from error


def schema_of(known: dict[str, Shape], looks_at: frozenset[str] | None = None) -> dict[str, Any]:
    """The schema that policies and requests are checked against, in Cedar's JSON format."""
    actions: dict[str, Any] = {verb: {} for verb in VERBS}
    for public, shape in sorted(known.items()):
        for verb in VERBS:
            applies = _applies("Tool", shape, verb, looks_at)
            actions[f"{verb}/{public}"] = {"memberOf": [{"id": verb}], "appliesTo": applies}
    for verb, resource in OTHER.items():
        actions[verb] = {"appliesTo": _applies(resource, UNTYPED, verb, looks_at)}
    return {"": {"entityTypes": _entities(), "actions": actions}}


def _entities() -> dict[str, Any]:
    subject = _record({"id": (_STRING, True), "name": (_STRING, True)})
    thing = {name: (_BOOL, True) for name in ("readOnly", "destructive", "idempotent", "openWorld")}
    thing |= {"name": (_STRING, True), "labels": (_STRINGS, True)}  # the same for all, so that rules fit all
    return {
        "Role": {},
        "Server": {},
        "Agent": {"memberOfTypes": ["Role"], "shape": subject},
        "User": {"memberOfTypes": ["Role"], "shape": subject},
        "Tool": {"memberOfTypes": ["Server"], "shape": _record(thing)},
        "Resource": {"memberOfTypes": ["Server"], "shape": _record({**thing, "uri": (_STRING, True)})},
        "Prompt": {"memberOfTypes": ["Server"], "shape": _record(thing)},
    }


def _applies(resource: str, shape: Shape, verb: str, looks_at: frozenset[str] | None) -> dict[str, Any]:
    context: dict[str, tuple[dict[str, Any], bool]] = {
        "args": (shape.cedar(), True),
        "environment": (_STRING, True),
        "now": (_DATETIME, True),
        "clock": (_record(_CLOCK), True),
        "chain": (_STRINGS, True),
        "labels": (_STRINGS, True),
        "case": (_record(_CASE), False),
    }
    if verb == "approve":
        asker = {"id": (_STRING, True), "chain": (_STRINGS, True), "roles": (_STRINGS, True)}
        context["requester"] = (_record(asker), True)
        context["roles"] = (_STRINGS, True)  # of the person who decides
        context["waited"] = (_LONG, True)  # seconds since it was asked for
    if looks_at is not None:
        context = {name: kind for name, kind in context.items() if name in looks_at} | _some_args(
            shape, looks_at
        )
    return {"principalTypes": ["Agent", "User"], "resourceTypes": [resource], "context": _record(context)}


def _some_args(shape: Shape, looks_at: frozenset[str]) -> dict[str, tuple[dict[str, Any], bool]]:
    names = {name[5:] for name in looks_at if name.startswith("args.")}
    if not names or "args" in looks_at:
        return {}
    fields = {name: kind for name, kind in shape.fields.items() if name in names}
    return {"args": (Shape("record", fields=fields, rest=shape.rest and REST in names).cedar(), True)}
