"""Checks arguments and results against the schemas as they were approved; fetches nothing, hangs nowhere.

A schema comes from a tool server, the values from callers and servers. jsonschema-rs matches patterns in
linear time and remembers what it has checked in schemas that refer to themselves; what could still grow
without bound (references that double, a message for a recursive schema) is refused or left out here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jsonschema_rs

from gateway.canonical import canonical

MAX_SCHEMA = 262_144
MAX_PARTS = 20_000  # of a schema with every reference written out
PATTERN_BYTES = 2_000_000  # a compiled pattern may take
DATA = frozenset(("const", "enum", "default", "examples"))  # their values are no schemas
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
OTHERS = ("additionalProperties", "unevaluatedProperties")
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES)


class Check:
    """A schema made ready to check values."""

    def __init__(self, validator: jsonschema_rs.Validator, *, recursive: bool) -> None:
        self._validator = validator
        self._explains = not recursive  # where references go round, looking for the reason can take for ever

    def problem(self, value: Any) -> str:
        """What is wrong with the value, in one line; empty when nothing is."""
        if self._validator.is_valid(value):
            return ""
        if not self._explains:
            return "arguments: they do not fit the schema, which refers to itself"
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            where = "/".join(str(step) for step in error.instance_path)
            return f"{where or 'arguments'}: {error.message[:300]}"
        return ""


def _build(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(
            schema, pattern_options=_PATTERNS, validate_formats=False, retriever=_nothing
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        reason = getattr(error, "message", "") or str(error)
        raise ValueError(f"it is not a valid schema: {reason[:200]}") from None


def _nothing(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched")


def compile_schema(schema: Any) -> Check:
    """A check for the schema; raises ValueError when it is too large, malformed, or points elsewhere."""
    if not isinstance(schema, dict):
        raise ValueError("it is not an object")
    if len(canonical(schema)) > MAX_SCHEMA:
        raise ValueError(f"it is larger than {MAX_SCHEMA} bytes")
    dialect = schema.get("$schema")
    if isinstance(dialect, str) and "json-schema.org/" not in dialect:
        schema = {name: value for name, value in schema.items() if name != "$schema"}
    try:
        parts = _Parts(schema)
        return Check(_build(_matchable(schema)), recursive=parts.recursive)
    except RecursionError:
        raise ValueError("its references lead too deep") from None


class _Parts:
    """How large a schema is with every reference written out, and whether one goes round."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._sizes: dict[int, int] = {}  # 0: being counted
        self._anchors: dict[str, list[Any]] = {}
        self.recursive = False
        for node in _nodes(schema):
            for word in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := node.get(word), str):
                    self._anchors.setdefault(name, []).append(node)
            if node is not schema and isinstance(node.get("$id"), str) and not node["$id"].startswith("#"):
                raise ValueError(f"a part of it has an $id of its own: {node['$id'][:100]!r}")
        self._count(schema)

    def _count(self, node: Any) -> int:
        known = self._sizes.get(id(node))
        if known is not None:
            self.recursive = self.recursive or not known
            return known or 1
        self._sizes[id(node)] = 0
        size = 1
        for inner in self._below(node):
            size += self._count(inner)
            if size > MAX_PARTS:
                raise ValueError(f"with its references written out it has more than {MAX_PARTS} parts")
        self._sizes[id(node)] = size
        return size

    def _below(self, node: Any) -> Iterator[Any]:
        if isinstance(node, list):
            yield from (inner for inner in node if isinstance(inner, dict | list))
            return
        for word, value in node.items():
            if word in REFERENCES and isinstance(value, str):
                yield from self._meant(value)
            elif isinstance(value, dict | list) and word not in DATA and word not in ("$defs", "definitions"):
                yield value

    def _meant(self, reference: str) -> list[Any]:
        if not reference.startswith("#"):
            raise ValueError(f"it refers to {reference[:100]!r}, outside itself")
        path = reference[1:]
        if path and not path.startswith("/"):
            return self._anchors.get(path, [])
        found: Any = self._schema
        for step in path.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                found = found.get(step) if isinstance(found, dict) else None
        return [found] if isinstance(found, dict | list) else []


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(value for word, value in node.items() if word not in DATA)
        elif isinstance(node, list):
            waiting.extend(node)


@lru_cache(10_000)
def linear(pattern: str) -> bool:
    """Whether the pattern can be matched in linear time: no look-around, no back-reference, not huge."""
    try:
        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=_PATTERNS)
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True


def _matchable(schema: Any) -> Any:
    """The schema without the patterns that are not linear: those the server checks itself."""
    if isinstance(schema, list):
        return [_matchable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {word: value if word in DATA else _matchable(value) for word, value in schema.items()}
    if isinstance(pattern := kept.get("pattern"), str) and not linear(pattern):
        del kept["pattern"]
    named = kept.get("patternProperties")
    if isinstance(named, dict) and not all(map(linear, named)):
        kept["patternProperties"] = {name: value for name, value in named.items() if linear(name)}
        for word in OTHERS:  # what the left-out pattern would have allowed must not be refused
            kept.pop(word, None)
    return kept
