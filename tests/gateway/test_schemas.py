"""Schemas: they mean what the specification says, and none can keep the gateway busy."""

import random
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.schemas import compile_schema, linear

WORDS: list[Any] = [
    *("string", "object", "weird", 5, None, True, {}, [], ["a", "a"], ["a"], [1], ["string"]),
    *({"a": {"type": "string"}}, {"a": 5}, {"a": True}, {"a": {"type": "nope"}}, {"a": {"title": 3}}),
    *({"a": {"type": "array"}, "b": {"default": [1], "description": "x"}}, {"a": {"type": ["string"]}}),
]
KEYS = ("title", "description", "properties", "required", "additionalProperties")
VALUES: list[Any] = [None, True, 1, 1.5, "a", [], {}, ["a"], {"a": 1}]


def some_schema(chance: random.Random) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": chance.choice(["object", "object", "object", "string", 5])}
    return schema | {key: chance.choice(WORDS) for key in KEYS if chance.random() < 0.4}


def test_schemas_and_values_are_taken_exactly_where_the_specification_takes_them() -> None:
    chance = random.Random(3)
    taken = refused = 0
    for _ in range(1_500):
        schema = some_schema(chance)
        try:
            Draft202012Validator.check_schema(schema)
        except Exception:
            refused += 1
            with pytest.raises(ValueError, match="not a valid schema"):
                compile_schema(schema)
            continue
        taken += 1
        check, careful = compile_schema(schema), Draft202012Validator(schema)
        for value in ({}, {"a": chance.choice(VALUES)}, {"a": 1, "b": chance.choice(VALUES)}, "text"):
            assert bool(check.problem(value)) != careful.is_valid(value), (schema, value)
    assert taken > 150 and refused > 150


def text_of(pattern: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"text": {"type": "string", "pattern": pattern}}}


def doubling(steps: int) -> dict[str, Any]:
    """A schema that asks twice for the next one at every step."""
    steps_of_it = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(steps)}
    return {"$defs": {**steps_of_it, f"d{steps}": True}, "allOf": [{"$ref": "#/$defs/d0"}]}


BACK_TRACKING = [
    *("^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^" + "a*" * 20 + "b$", "(.*a){20}b", "^(a{0,30}){0,30}b$"),
    *("(x+x+)+y", r"^(\w+\s?)*$", r"^((a{0,9}){0,9}){0,9}$"),
]


@pytest.mark.parametrize("pattern", BACK_TRACKING)
def test_a_pattern_made_to_hang_is_matched_in_linear_time(pattern: str) -> None:
    check = compile_schema(text_of(pattern))
    named = compile_schema({"type": "object", "patternProperties": {pattern: False}})
    before = time.process_time()
    assert check.problem({"text": "a" * 50_000 + "!"})
    named.problem({"a" * 50_000 + "!": 1})
    assert time.process_time() - before < 2


def test_a_pattern_that_cannot_be_linear_is_left_to_the_server() -> None:
    for pattern in ("(?=a*)b", r"(a*)\1", "((a{1000}){1000}){1000}"):
        assert not linear(pattern)
        assert compile_schema(text_of(pattern)).problem({"text": "c"}) == ""
    left_out = {"type": "object", "patternProperties": {"^(?!x)": {}}, "additionalProperties": False}
    assert compile_schema(left_out).problem({"a": 1}) == ""
    assert "does not match" in compile_schema(text_of("^[a-z]+$")).problem({"text": "5"})
    assert compile_schema({"const": {"pattern": "(?=a)"}}).problem({"pattern": "(?=a)"}) == ""


BOMBS = {
    "references that double": doubling(40),
    "doubling by anchors": {
        "$defs": {
            **{f"d{n}": {"$anchor": f"d{n}", "allOf": [{"$ref": f"#d{n + 1}"}] * 2} for n in range(40)},
            "d40": {"$anchor": "d40"},
        },
        "$ref": "#d0",
    },
    "a chain of references": {
        "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(5_000)},
        "$ref": "#/$defs/d0",
    },
    "a part that moves the base": {"properties": {"a": {"$id": "http://x.example/", "$ref": "b"}}},
    "somewhere else": {"properties": {"a": {"$ref": "http://127.0.0.1:1/a.json"}}},
    "a file": {"$ref": "file:///etc/passwd"},
    "beside it": {"$id": "http://127.0.0.1:1/a", "$ref": "b"},
    "too large": {"description": "x" * 300_000},
    "a wrong type": {"type": 5},
    "a reference to nothing": {"$ref": "#/$defs/none"},
}


@pytest.mark.parametrize("schema", BOMBS.values(), ids=BOMBS)
def test_a_schema_that_could_keep_us_busy_or_leads_elsewhere_is_refused(schema: dict[str, Any]) -> None:
    before = time.process_time()
    with pytest.raises(ValueError, match=r"\w"):
        compile_schema(schema)
    assert time.process_time() - before < 2


CYCLES: list[dict[str, Any]] = [
    {"$ref": "#"},
    {"allOf": [{"$ref": "#"}]},
    {
        "allOf": [{"properties": {"text": {"$ref": "#"}}}] * 2,
        "properties": {"text": {"not": {"type": "integer"}}},
    },
    {"anyOf": [{"properties": {"text": {"$ref": "#"}}, "required": ["text"]}] * 2},
    {"$dynamicAnchor": "n", "allOf": [{"properties": {"text": {"$dynamicRef": "#n"}}}] * 2},
    {"type": "object", "patternProperties": {".": {"oneOf": [{"$ref": "#"}, {"$ref": "#"}]}}},
]


@pytest.mark.parametrize("schema", CYCLES)
def test_a_schema_that_refers_to_itself_is_checked_in_bounded_time(schema: dict[str, Any]) -> None:
    value: Any = {"text": 1}
    for _ in range(60):
        value = {"text": value}
    before = time.process_time()
    compile_schema(schema).problem(value)
    assert time.process_time() - before < 2


def test_a_tree_is_checked_at_every_depth() -> None:
    node: dict[str, Any] = {
        "type": "object",
        "properties": {"of": {"type": "array", "items": {"$ref": "#/$defs/node"}}, "n": {"type": "integer"}},
        "additionalProperties": False,
    }
    check = compile_schema({"$defs": {"node": node}, "$ref": "#/$defs/node"})
    assert check.problem({"of": [{"n": 1, "of": [{"n": 2}]}]}) == ""
    assert check.problem({"of": [{"n": 1, "of": [{"n": "2"}]}]})


def test_a_large_value_is_checked_quickly() -> None:
    row = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
        "required": ["a"],
    }
    check = compile_schema({"type": "object", "properties": {"rows": {"type": "array", "items": row}}})
    unique = compile_schema({"type": "array", "uniqueItems": True})
    rows = [{"a": "x", "b": n + 0.5} for n in range(100_000)]
    before = time.process_time()
    assert check.problem({"rows": rows}) == "" and unique.problem(rows) == ""
    assert "rows/100000" in check.problem({"rows": [*rows, {}]})
    assert time.process_time() - before < 3
