"""Which policies can say anything about a request at all: Cedar is asked with those only."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cedarpy
import orjson

from gateway.cedar_schema import OTHER, VERBS, Schemas
from gateway.cedar_text import Statement
from gateway.types import Subject, Tool

TYPES = {"agent": "Agent", "user": "User"}
ARGS = {".": {"left": {"Var": "context"}, "attr": "args"}}
EVERYTHING = ("args", "environment", "now", "clock", "chain", "labels", "case", "requester")
REMEMBERED = 8_192
Uid = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything about a request that does not depend on its arguments and context, ready to be asked."""

    key: tuple[Any, ...]
    never: bool  # a definite denial, whatever arguments and context
    error: str = ""
    policies: Any = None  # cedarpy.PolicySet; None when no policy can match
    entities: Any = None  # cedarpy.Entities
    schema: Any = None  # cedarpy.Schema
    request: Mapping[str, Any] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()  # what of the context the policies look at
    compared: Mapping[str, frozenset[str]] = field(default_factory=dict)  # see `compared`
    arguments: frozenset[str] = field(init=False)  # those of the arguments that they name

    def __post_init__(self) -> None:
        names = frozenset(name[5:] for name in self.reads if name.startswith("args."))
        object.__setattr__(self, "arguments", names)

    def relevant_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments the decision can depend on, as a context that holds nothing else."""
        if "args" in self.reads:
            return {"args": arguments}
        names = self.arguments
        return {"args": {name: arguments[name] for name in names if name in arguments}} if names else {}

    def alike(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The facts, with every argument left out that is only compared, and with none of its own words."""
        given = facts.get("args")
        if not given or not self.compared:
            return facts
        same = {
            name: None if name in self.compared and value not in self.compared[name] else value
            for name, value in given.items()
            if type(value) is str
        }
        return {**facts, "args": {**given, **same}}


class Scopes:
    """Chooses for each subject, action and tool the policies whose scope fits, and remembers the choice."""

    def __init__(self, statements: list[Statement], schemas: Schemas) -> None:
        self._statements = statements
        self._schemas = schemas
        self._sets: dict[tuple[str, ...], tuple[Any, frozenset[str], dict[str, frozenset[str]]]] = {}
        self._known: OrderedDict[tuple[Any, ...], Selection] = OrderedDict()
        self._nevers: dict[tuple[Any, ...], bool] = {}
        told = [mentions(statement.parsed) for statement in statements]
        self._named = frozenset(name for names, _ in told for name in names)
        self._by_name = any(by_name for _, by_name in told)

    def never(self, subject: Subject, group: str, tool: Tool) -> bool:
        """Whether the subject is denied this tool in any case; asked once for all that look alike."""
        own = tool.public if self._by_name or tool.public in self._named else ""
        known = tool.public in self._schemas.shapes
        key = (subject.id, subject.roles, group, tool.server, _hints(tool), own, known)
        found = self._nevers.get(key)
        if found is None:
            if len(self._nevers) > REMEMBERED:
                self._nevers.clear()
            found = self._nevers[key] = self.select(subject, group, tool).never
        return found

    def select(self, subject: Subject, group: str, tool: Tool) -> Selection:
        """The policies that can say anything here, with the entities and the schema they need."""
        key = (subject.id, subject.roles, group, tool.server, tool.public, tool.name, _hints(tool))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._selected(key, subject, group, tool)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _selected(self, key: tuple[Any, ...], subject: Subject, group: str, tool: Tool) -> Selection:
        kind = TYPES.get(subject.kind) if subject.name else None
        plain = group in OTHER
        if kind is None:
            return Selection(key, True, f"subject {subject.id!r} is neither agent nor user")
        if not plain and tool.public not in self._schemas.shapes:
            return Selection(key, True, f"{tool.public} is not in the policy schema")
        principal: Uid = (kind, subject.name)
        action: Uid = ("Action", group if plain else f"{group}/{tool.public}")
        resource: Uid = (OTHER.get(group, "Tool"), tool.name if plain else tool.public)
        roles, server = [("Role", role) for role in subject.roles], ("Server", tool.server)
        chosen = {
            f"p{n}": statement.parsed
            for n, statement in enumerate(self._statements)
            if _fits(statement.parsed["principal"], principal, roles)
            and _fits(statement.parsed["action"], action, [] if plain else [("Action", group)])
            and _fits(statement.parsed["resource"], resource, [server])
        }
        policies, looks_at, words = self._set(chosen)
        schema = self._schemas.of("" if plain else tool.public, looks_at)
        entities = _entities(principal, subject, roles, resource, server, tool)
        parsed = cedarpy.Entities.from_json_str(orjson.dumps(entities).decode(), schema=schema)
        asked = {"principal": principal, "action": action, "resource": resource}
        request = {part: {"type": uid[0], "id": uid[1]} for part, uid in asked.items()}
        never = _never(chosen, request, policies, parsed, schema)
        asked_with = policies if chosen else None
        return Selection(key, never, "", asked_with, parsed, schema, request, looks_at, words)

    def _set(self, chosen: dict[str, Any]) -> tuple[Any, frozenset[str], dict[str, frozenset[str]]]:
        names = tuple(chosen)
        if names not in self._sets:
            whole = {"staticPolicies": chosen, "templates": {}, "templateLinks": []}
            parsed = cedarpy.PolicySet.from_json_str(orjson.dumps(whole).decode())
            self._sets[names] = (parsed, reads(chosen.values()), compared(chosen.values()))
        return self._sets[names]


def concerns(policy: Mapping[str, Any], tool: Tool) -> bool:
    """Whether a policy's scope takes in a call or a request of this tool."""
    resource, server = ("Tool", tool.public), ("Server", tool.server)
    return _fits(policy["resource"], resource, [server]) and any(
        _fits(policy["action"], ("Action", f"{group}/{tool.public}"), [("Action", group)])
        for group in ("call", "request")
    )


def _hints(tool: Tool) -> tuple[Any, ...]:
    return tool.read_only, tool.destructive, tool.idempotent, tool.open_world, tool.labels


def looks_at_arguments(policy: Mapping[str, Any]) -> bool:
    """Whether a policy looks at arguments."""
    return any(name.partition(".")[0] == "args" for name in reads([policy]))


def about_tools(policy: Mapping[str, Any]) -> bool:
    """Whether a policy names a tool's own action or looks at arguments, so that tools differ to it."""
    return looks_at_arguments(policy) or bool(mentions(policy)[0])


def mentions(policy: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The tools a policy names, as such or by their actions, and whether it looks at the names of tools."""
    names: dict[str, None] = {}
    by_name = False
    pending: list[Any] = [policy]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            kind, word = node.get("type"), str(node.get("id"))
            if kind == "Action" and "/" in word:
                names[word.partition("/")[2]] = None
            elif kind in ("Tool", "Resource", "Prompt") and "id" in node:
                names[word] = None
            if node.get("attr") in ("name", "uri") and node.get("left") != {"Var": "principal"}:
                by_name = True
            pending.extend(node.values())
    return list(names), by_name


def labels_named(policy: Mapping[str, Any]) -> set[str]:
    """The labels a policy looks for, among those of a run or of a tool."""
    words: set[str] = set()
    pending: list[Any] = [policy]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            pending.extend(node.values())
            left, right = node.get("left"), node.get("right")
            for about, among in ((left, right), (right, left)):
                if _is_labels(about):
                    fixed = (_fixed(among, many=False) or []) + (_fixed(among, many=True) or [])
                    values = [item["Value"] if isinstance(item, dict) else item for item in fixed]
                    words.update(value for value in values if isinstance(value, str))
    return words


def _is_labels(node: Any) -> bool:
    path = node.get(".") if isinstance(node, dict) else None
    return isinstance(path, dict) and path.get("attr") == "labels" and "Var" in (path.get("left") or {})


def named_tools(policy: Mapping[str, Any]) -> list[str]:
    """The tools whose own actions stand in the policy's scope."""
    actions = [str(entity.get("id")) for entity in _named(policy["action"]) or ()]
    parts = [action.partition("/") for action in actions]
    return list(dict.fromkeys(public for verb, _, public in parts if public and verb in VERBS))


def without_tools(policy: Mapping[str, Any], absent: list[str]) -> str:
    """The policy as text, with these tools' actions taken out of its scope; empty when none is left."""
    kept = [e for e in _named(policy["action"]) or () if str(e.get("id")).partition("/")[2] not in absent]
    if not kept:
        return ""
    reduced = {**policy, "action": {"op": "in", "entities": kept}}
    whole = {"staticPolicies": {"policy0": reduced}, "templates": {}, "templateLinks": []}
    return cedarpy.policies_from_json_str(json.dumps(whole))


def spoken_of(policy: Mapping[str, Any]) -> list[Subject]:
    """Subjects of every kind, name and set of roles that a policy mentions."""
    named: dict[str, set[str]] = {"Role": set(), "Agent": {"somebody"}, "User": {"somebody"}}
    pending: list[Any] = [policy]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            if node.get("type") in named and isinstance(node.get("id"), str):
                named[node["type"]].add(node["id"])
            pending.extend(node.values())
    roles = tuple(sorted(named["Role"]))
    ids = [f"{kind}:{name}" for kind, entity in TYPES.items() for name in sorted(named[entity])]
    return [Subject(who, held) for who in ids for held in ((), roles)]


def _never(
    chosen: dict[str, Any], request: dict[str, Any], policies: Any, entities: Any, schema: Any
) -> bool:
    if not any(policy["effect"] == "permit" for policy in chosen.values()):
        return True
    # A preview only: it decides what a list shows, and the call is decided again in full.
    names = {part: f"{uid['type']}::{json.dumps(uid['id'])}" for part, uid in request.items()}
    if not all(name.isascii() and "\\" not in name for name in names.values()):
        return False
    partial = cedarpy.is_authorized_partial({**names, "context": None}, policies, entities, schema=schema)
    return partial.decision is cedarpy.Decision.Deny


def _fits(scope: Mapping[str, Any], uid: Uid, parents: list[Uid]) -> bool:
    op = scope["op"]
    if op == "All":
        return True
    if op == "is":
        inside = scope.get("in")
        return scope["entity_type"] == uid[0] and (inside is None or _among(inside, [uid, *parents]))
    if op == "==":
        return _among(scope, [uid])
    if op == "in":
        return _among(scope, [uid, *parents])
    return True  # an operator we do not know is left to Cedar


def _among(scope: Mapping[str, Any], uids: list[Uid]) -> bool:
    named = _named(scope)
    return named is None or any((entity.get("type"), entity.get("id")) in uids for entity in named)


def _named(scope: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    return scope.get("entities") or ([scope["entity"]] if "entity" in scope else None)


def reads(policies: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """What of the context these policies look at: attributes; arguments as `args.NAME`, or all as `args`."""
    found: set[str] = set()
    pending: list[Any] = [policy.get("conditions", []) for policy in policies]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            path = _path(node)
            if path:
                found.add(path)
            elif node.get("Var") == "context":
                found.update(EVERYTHING)
            else:
                pending.extend(node.values())
    return frozenset(found)


def compared(policies: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """The arguments that these policies only compare with fixed words, with the words.

    Any two strings that are none of the words are alike to such policies, so that one decision serves both.
    """
    words: dict[str, set[str]] = {}
    otherwise: set[str] = set()
    pending: list[Any] = [policy.get("conditions", []) for policy in policies]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            name, among = _comparison(node)
            if name:
                words.setdefault(name, set()).update(among)
            elif "has" in node and _path(node):
                continue  # whether it is there stays visible
            elif (path := _path(node)) or node.get("Var") == "context":
                otherwise.add(path or "args")
            else:
                pending.extend(node.values())
    if "args" in otherwise:
        return {}
    return {name: frozenset(found) for name, found in words.items() if f"args.{name}" not in otherwise}


def _comparison(node: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The argument this expression compares with nothing but fixed words, and the words."""
    for operator in ("==", "!=", "contains"):
        sides = node.get(operator)
        if not isinstance(sides, dict):
            continue
        left, right = sides.get("left"), sides.get("right")
        for about, fixed in ((left, right), (right, left)):
            path = _path(about) if isinstance(about, dict) and "." in about else ""
            values = _fixed(fixed, many=operator == "contains")
            if path.startswith("args.") and values is not None:
                return path[5:], [value for value in values if isinstance(value, str)]
    return "", []


def _fixed(node: Any, *, many: bool) -> list[Any] | None:
    if not isinstance(node, dict):
        return None
    if not many:
        return [node["Value"]] if "Value" in node else None
    items = node.get("Set")
    if not isinstance(items, list) or not all(isinstance(item, dict) and "Value" in item for item in items):
        return None
    return [item["Value"] for item in items]


def _path(node: Mapping[str, Any]) -> str:
    """The attribute of the context that an expression is about; empty for any other expression."""
    for word in (".", "has"):
        inner = node.get(word)
        if not isinstance(inner, dict) or not isinstance(inner.get("attr"), str):
            continue
        if inner.get("left") == {"Var": "context"}:
            return inner["attr"]
        if inner.get("left") == ARGS:
            return f"args.{inner['attr']}"
    return ""


def _entities(
    principal: Uid, subject: Subject, roles: list[Uid], resource: Uid, server: Uid, tool: Tool
) -> list[dict[str, Any]]:
    attributes: dict[str, Any] = {
        "name": tool.name,
        "readOnly": tool.read_only,
        "destructive": tool.destructive,
        "idempotent": tool.idempotent,
        "openWorld": tool.open_world,
        "labels": sorted(tool.labels),
    }
    if resource[0] == "Resource":
        attributes["uri"] = tool.name
    who = {"id": subject.id, "name": subject.name}
    return [
        *(_entity(role) for role in dict.fromkeys(roles)),
        _entity(principal, who, roles),
        _entity(server),
        _entity(resource, attributes, [server]),
    ]


def _entity(
    uid: Uid, attributes: dict[str, Any] | None = None, parents: Iterable[Uid] = ()
) -> dict[str, Any]:
    above = [{"type": kind, "id": name} for kind, name in parents]
    return {"uid": {"type": uid[0], "id": uid[1]}, "attrs": attributes or {}, "parents": above}
