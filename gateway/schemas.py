"""Checks arguments and results against the schemas as they were approved; fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from gateway.canonical import canonical

MAX_SCHEMA = 262_144
MAX_STRING = 100_000
_read_pattern = import_module("re._parser").parse  # the standard library's own reading of a pattern


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Any:
    """`pattern`, but only those that take linear time: the server checks the others itself."""
    if (
        isinstance(instance, str)
        and len(instance) <= MAX_STRING
        and linear(pattern)
        and not re.search(pattern, instance)
    ):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Any:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        if linear(pattern):
            for name, value in instance.items():
                if re.search(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


_UNSURE = ("ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS", "ATOMIC_GROUP")
_LINEAR = {"pattern": _pattern, "patternProperties": _pattern_properties}


def linear(pattern: str) -> bool:
    """Whether matching the pattern cannot take more than quadratic time: no repeat inside a repeat."""
    try:
        return not _nested(_read_pattern(pattern), repeats=0)
    except (re.error, RecursionError):
        return False


def _nested(part: Any, repeats: int) -> bool:
    return any(_risky(str(operation), value, repeats) for operation, value in part)


def _risky(operation: str, value: Any, repeats: int) -> bool:
    match operation:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, inner = value
            counts = repeats + (1 if high - low > 1 else 0)
            return counts > 1 or _nested(inner, counts)
        case "SUBPATTERN":
            return _nested(value[-1], repeats)
        case "BRANCH":
            return bool(repeats) or any(_nested(branch, repeats) for branch in value[1])
        case _:
            return operation in _UNSURE


class Check:
    """A compiled schema: plain values are accepted at once, everything else is looked at carefully."""

    def __init__(self, schema: dict[str, Any], validator: Any) -> None:
        self._schema = schema
        self._validator = validator
        self._plain = _plain(schema)

    @cached_property
    def _careful(self) -> Any:
        return self._validator(self._schema, registry=Registry())

    def problem(self, value: Any) -> str:
        """What is wrong with the value, in one line; empty when nothing is."""
        if self._plain is not None and self._plain(value):
            return ""
        try:
            error = next(iter(self._careful.iter_errors(value)), None)
        except (Unresolvable, RecursionError) as trouble:
            return f"the schema cannot be followed ({type(trouble).__name__})"
        if error is None:
            return ""
        where = "/".join(str(step) for step in error.absolute_path)
        return f"{where or 'arguments'}: {error.message[:300]}"


_KINDS: dict[Any, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_TYPES = frozenset(("string", "integer", "number", "boolean", "array", "object", "null"))
_SAYS_NOTHING = frozenset(("title", "description", "default", "examples", "$schema", "x-mcp-header"))


def _plain(schema: dict[str, Any]) -> Callable[[Any], bool] | None:
    """An acceptor for an object of simple properties; None when the schema says more than that."""
    if schema.get("type") != "object":
        return None
    if set(schema) - _SAYS_NOTHING - {"type", "properties", "required", "additionalProperties"}:
        return None
    kinds: dict[str, tuple[type, ...]] = {}
    for name, inner in schema.get("properties", {}).items():
        simple = isinstance(inner, dict) and not set(inner) - _SAYS_NOTHING - {"type"}
        kind = inner.get("type") if simple else None
        if isinstance(kind, str) and kind in _KINDS:
            kinds[name] = _KINDS[kind]
    required = frozenset(schema.get("required", ()))

    def accepts(value: Any) -> bool:
        # Exact types are asked for, so that True is no integer; unknown names go to the careful check.
        if type(value) is not dict or not required <= value.keys():
            return False
        return all(type(given) in kinds.get(name, ()) for name, given in value.items())

    return accepts


def _obvious(schema: dict[str, Any]) -> bool:
    """Whether a schema is valid at sight, as most are; the others are checked against their own schema."""
    inner = schema.get("properties", {})
    required = schema.get("required", [])
    return (
        schema.keys() <= {"type", "title", "description", "properties", "required", "additionalProperties"}
        and schema.get("type") == "object"
        and _told(schema)
        and isinstance(schema.get("additionalProperties", True), bool)
        and isinstance(required, list)
        and all(isinstance(name, str) for name in required)
        and len(set(required)) == len(required)
        and isinstance(inner, dict)
        and all(_obvious_value(each) for each in inner.values())
    )


def _obvious_value(schema: Any) -> bool:
    return (
        isinstance(schema, dict)
        and schema.keys() <= {"type", "title", "description", "default"}
        and isinstance(schema.get("type", "string"), str)
        and schema.get("type", "string") in _TYPES
        and _told(schema)
    )


def _told(schema: dict[str, Any]) -> bool:
    return isinstance(schema.get("title", ""), str) and isinstance(schema.get("description", ""), str)


def compile_schema(schema: Any) -> Check:
    """A check for the schema; raises ValueError when it is too large, malformed, or points elsewhere."""
    if not isinstance(schema, dict):
        raise ValueError("it is not an object")
    if len(canonical(schema)) > MAX_SCHEMA:
        raise ValueError(f"it is larger than {MAX_SCHEMA} bytes")
    _only_local(schema)
    base = validator_for(schema, default=Draft202012Validator)
    if not _obvious(schema):
        try:
            base.check_schema(schema)
        except SchemaError as error:
            raise ValueError(f"it is not a valid schema: {error.message[:200]}") from None
    return Check(schema, _linear_class(base))


@lru_cache
def _linear_class(base: Any) -> Any:
    return extend(base, _LINEAR)


def _only_local(schema: Any) -> None:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for word in ("$ref", "$dynamicRef", "$recursiveRef"):
                target = node.get(word)
                if isinstance(target, str) and not target.startswith("#"):
                    raise ValueError(f"it refers to {target[:100]!r}, outside itself")
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
