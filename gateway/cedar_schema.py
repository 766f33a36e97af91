"""The Cedar schema of an installation: its subjects, its servers, and three typed actions for every tool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.cedar_values import UNTYPED, Shape, shape_of
from gateway.types import Tool

VERBS = ("call", "request", "approve")
OTHER = ("read", "prompt")

_STRING = {"type": "String"}
_STRINGS = {"type": "Set", "element": _STRING}
_BOOL = {"type": "Boolean"}
_DATETIME = {"type": "Extension", "name": "datetime"}
_DECIMAL = {"type": "Extension", "name": "decimal"}

_CASE = {
    "id": (_STRING, True),
    "run": (_STRING, True),
    "task": (_STRING, True),
    "workflow": (_STRING, False),
    "severity": (_STRING, False),
    "confidence": (_DECIMAL, False),
    "freshness": ({"type": "Long"}, False),
}


def _record(fields: dict[str, tuple[dict[str, Any], bool]]) -> dict[str, Any]:
    return {
        "type": "Record",
        "attributes": {name: {**kind, "required": need} for name, (kind, need) in fields.items()},
    }


def shapes(tools: Iterable[Tool]) -> dict[str, Shape]:
    """The shape of every tool's arguments, by public name."""
    return {tool.public: shape_of(tool.definition.get("inputSchema")) for tool in tools}


def schema_of(known: dict[str, Shape]) -> dict[str, Any]:
    """The schema that policies and requests are checked against, in Cedar's JSON format."""
    actions: dict[str, Any] = {verb: {} for verb in VERBS}
    for public, shape in sorted(known.items()):
        for verb in VERBS:
            actions[f"{verb}/{public}"] = {"memberOf": [{"id": verb}], **_applies("Tool", shape, verb)}
    actions["read"] = _applies("Resource", UNTYPED, "read")
    actions["prompt"] = _applies("Prompt", UNTYPED, "prompt")
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


def _applies(resource: str, shape: Shape, verb: str) -> dict[str, Any]:
    context: dict[str, tuple[dict[str, Any], bool]] = {
        "args": (shape.cedar(), True),
        "environment": (_STRING, True),
        "now": (_DATETIME, True),
        "chain": (_STRINGS, True),
        "labels": (_STRINGS, True),
        "case": (_record(_CASE), False),
    }
    if verb == "approve":
        asker = {"id": (_STRING, True), "chain": (_STRINGS, True), "roles": (_STRINGS, True)}
        context["requester"] = (_record(asker), True)
    return {
        "appliesTo": {
            "principalTypes": ["Agent", "User"],
            "resourceTypes": [resource],
            "context": _record(context),
        }
    }
