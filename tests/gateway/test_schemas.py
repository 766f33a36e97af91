"""Schemas: what is accepted at sight is what the careful check accepts."""

import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.schemas import compile_schema

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
    for _ in range(3_000):
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
    assert taken > 300 and refused > 300
