"""Which policies can say anything about a request at all: Cedar is asked with those only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy

from gateway.canonical import canonical
from gateway.cedar_text import Statement
from gateway.types import Subject, Tool

TYPES = {"agent": "Agent", "user": "User"}
Uid = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything about a request that does not depend on its arguments and context, ready to be asked."""

    key: tuple[Any, ...]
    policies: Any  # cedarpy.PolicySet
    entities: Any  # cedarpy.Entities
    request: dict[str, Any]
    permits: int
    forbids: int
    reads: frozenset[str]  # the context attributes that the policies look at
    never: bool  # a definite denial, whatever arguments and context
    error: str = ""

    def relevant(self, facts: Mapping[str, Any]) -> bytes:
        """The part of the context the decision can depend on."""
        return canonical({name: facts.get(name) for name in self.reads})


def selected(
    statements: list[Statement],
    schema: Any,
    key: tuple[Any, ...],
    subject: Subject,
    group: str,
    tool: Tool,
    known: bool,
) -> Selection:
    """The policies whose scope fits this subject, action and resource, with the entities they need."""
    kind = TYPES.get(subject.kind) if subject.name else None
    plain = group in ("read", "prompt")
    if kind is None or not (known or plain):
        what = (
            f"subject {subject.id!r} is neither agent nor user"
            if kind is None
            else f"{tool.public} is not in the policy schema"
        )
        return Selection(key, None, None, {}, 0, 0, frozenset(), True, what)
    principal: Uid = (kind, subject.name)
    action: Uid = ("Action", group if plain else f"{group}/{tool.public}")
    resource: Uid = (
        {"read": "Resource", "prompt": "Prompt"}.get(group, "Tool"),
        tool.name if plain else tool.public,
    )
    roles = [("Role", role) for role in subject.roles]
    server: Uid = ("Server", tool.server)
    chosen = {
        f"p{n}": statement.parsed
        for n, statement in enumerate(statements)
        if _fits(statement.parsed["principal"], principal, roles)
        and _fits(statement.parsed["action"], action, [] if plain else [("Action", group)])
        and _fits(statement.parsed["resource"], resource, [server])
    }
    policies = cedarpy.PolicySet.from_json_str(
        json.dumps({"staticPolicies": chosen, "templates": {}, "templateLinks": []})
    )
    entities = cedarpy.Entities.from_json_str(
        json.dumps(_entities(principal, subject, roles, resource, server, tool)), schema=schema
    )
    request = {
        "principal": {"type": principal[0], "id": principal[1]},
        "action": {"type": action[0], "id": action[1]},
        "resource": {"type": resource[0], "id": resource[1]},
    }
    permits = sum(1 for policy in chosen.values() if policy["effect"] == "permit")
    never = not permits or _never(request, policies, entities, schema)
    return Selection(
        key, policies, entities, request, permits, len(chosen) - permits, reads(chosen.values()), never
    )


def concerns(policy: Mapping[str, Any], tool: Tool) -> bool:
    """Whether a policy's scope takes in a call or a request of this tool."""
    resource, server = ("Tool", tool.public), ("Server", tool.server)
    return _fits(policy["resource"], resource, [server]) and any(
        _fits(policy["action"], ("Action", f"{group}/{tool.public}"), [("Action", group)])
        for group in ("call", "request")
    )


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


def _never(request: dict[str, Any], policies: Any, entities: Any, schema: Any) -> bool:
    # A preview only: it decides what a list shows, and the call is decided again in full.
    names = {role: f"{uid['type']}::{json.dumps(uid['id'])}" for role, uid in request.items()}
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
    named = scope.get("entities") or ([scope["entity"]] if "entity" in scope else None)
    if named is None:
        return True
    return any((entity.get("type"), entity.get("id")) in uids for entity in named)


def reads(policies: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The attributes of the context that these policies look at; every one when they take it whole."""
    found: set[str] = set()
    pending: list[Any] = [policy.get("conditions", []) for policy in policies]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            for word in (".", "has"):
                inner = node.get(word)
                if isinstance(inner, dict) and inner.get("left") == {"Var": "context"}:
                    found.add(inner["attr"] if isinstance(inner.get("attr"), str) else inner["attr"][0])
                    break
            else:
                if node.get("Var") == "context":
                    found |= {"args", "environment", "now", "chain", "labels", "case", "requester"}
                pending.extend(node.values())
    return frozenset(found)


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
