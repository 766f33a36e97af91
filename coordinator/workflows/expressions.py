"""Conditions and mappings of workflow files: CEL, typed by what earlier steps leave.

Every value that an expression may use is a variable of its own (`extract.total`, `inputs.file`), so that CEL
itself finds misspelt outputs and mismatched types when a file is read. Source: https://cel.dev, and the
package cel-expr-python, the CEL project's binding of its C++ implementation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

from coordinator.errors import CoordinatorError
from coordinator.workflows.model import duration_text

TYPES = {
    "string": cel.Type.STRING,
    "number": cel.Type.DOUBLE,
    "integer": cel.Type.INT,
    "boolean": cel.Type.BOOL,
    "time": cel.Type.TIMESTAMP,
    "list": cel.Type.List(cel.Type.DYN),
    "object": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    "any": cel.Type.DYN,
}
WORDS = {
    "STRING": "string",
    "DOUBLE": "number",
    "INT": "integer",
    "UINT": "integer",
    "BOOL": "boolean",
    "TIMESTAMP": "time",
    "DURATION": "duration",
    "DYN": "any",
    "NULL": "null",
}
COMPLAINT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
LARGEST = 2**63 - 1
Kinds = Mapping[str, str]  # variable -> type word


class ExpressionWrong(CoordinatorError):
    """An expression that cannot be compiled: `column` (from 1) says where in it."""

    code = "expression_wrong"
    exit_code = 2

    def __init__(self, why: str, line: int = 1, column: int = 1) -> None:
        super().__init__(why)
        self.why, self.line, self.column = why, line, column


class ExpressionFailed(CoordinatorError):
    """An expression that came to no value with the values there were."""

    code = "expression_failed"


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression that was checked; `type` is the word for what it comes to."""

    text: str
    type: str
    program: Any
    kinds: tuple[tuple[str, str], ...]

    def value(self, values: Mapping[str, Any]) -> Any:
        """What it comes to with these JSON values (by variable); ExpressionFailed if to nothing."""
        bound = {}
        for name, kind in self.kinds:
            if name in values:
                bound[name] = _bound(values[name], kind)
        try:
            found = self.program.eval(data=bound)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ExpressionFailed(f"`{self.text}`: {_first_line(error)}") from None
        if found.type() == cel.Type.ERROR:
            raise ExpressionFailed(f"`{self.text}`: {_plain_error(found.plain_value())}")
        return to_json(found.plain_value())


def compile_expression(text: str, kinds: Kinds, wanted: str = "any") -> Compiled:
    """Compile an expression over these variables; ExpressionWrong unless it comes to the wanted type."""
    compiled = _compile(text, tuple(sorted(kinds.items())))
    if wanted != "any" and compiled.type not in (wanted, "any") and not _fits(compiled.type, wanted):
        raise ExpressionWrong(f"it comes to a {compiled.type}, but a {wanted} is needed here")
    return compiled


@lru_cache(maxsize=4096)
def _compile(text: str, kinds: tuple[tuple[str, str], ...]) -> Compiled:
    try:
        program = _environment(kinds).compile(text)
    except (RuntimeError, ValueError) as error:
        raise _wrong(error) from None
    name = program.return_type().name()
    word = WORDS.get(name) or (
        "list" if name.startswith("LIST") else "object" if name.startswith("MAP") else "any"
    )
    used = tuple((variable, kind) for variable, kind in kinds if variable in text)
    return Compiled(text, word, program, used)


@lru_cache(maxsize=512)
def _environment(kinds: tuple[tuple[str, str], ...]) -> Any:
    return cel.NewEnv(variables={name: TYPES[kind] for name, kind in kinds})


def is_constant(text: str) -> bool:
    """Whether an expression uses no variable at all."""
    try:
        _compile(text, ())
    except ExpressionWrong:
        return False
    return True


def value_of(given: Any, kinds: Kinds, values: Mapping[str, Any]) -> Any:
    """A value as files give them: text is an expression, anything else (also in lists and maps) is itself."""
    if isinstance(given, str):
        return compile_expression(given, kinds).value(values)
    if isinstance(given, list | tuple):
        return [value_of(each, kinds, values) for each in given]
    if isinstance(given, dict):
        return {name: value_of(each, kinds, values) for name, each in given.items()}
    return given


def as_type(value: Any, kind: str) -> Any:
    """The JSON value as this type; ValueError says what it is instead."""
    fine = {
        "string": lambda: isinstance(value, str),
        "number": lambda: isinstance(value, int | float) and not isinstance(value, bool),
        "integer": lambda: _whole(value),
        "boolean": lambda: isinstance(value, bool),
        "time": lambda: isinstance(value, str) and _moment(value) is not None,
        "list": lambda: isinstance(value, list),
        "object": lambda: isinstance(value, dict),
        "any": lambda: True,
    }[kind]
    if not fine():
        raise ValueError(f"{_short(value)} is no {kind}")
    return int(value) if kind == "integer" else value


def to_json(value: Any) -> Any:
    """A CEL value as JSON: times as ISO 8601, durations as 90s."""
    if isinstance(value, dict):
        return {str(name): to_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [to_json(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value


def _bound(value: Any, kind: str) -> Any:
    if kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == "integer" and _whole(value):
        return int(value)
    if kind == "time":
        return _moment(value)
    return _sized(value)


def _sized(value: Any) -> Any:
    """CEL's integers have 64 bits; what is larger goes as a number."""
    if isinstance(value, bool) or not isinstance(value, int | list | dict):
        return value
    if isinstance(value, int):
        return value if -LARGEST <= value <= LARGEST else float(value)
    if isinstance(value, list):
        return [_sized(each) for each in value]
    return {name: _sized(each) for name, each in value.items()}


def _whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or value.is_integer()


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        return None
    return found if found.tzinfo else None


def _fits(got: str, wanted: str) -> bool:
    return (got, wanted) in {("integer", "number"), ("duration", "string")}


def _wrong(error: Exception) -> ExpressionWrong:
    found = COMPLAINT.search(str(error))
    if found is None:
        return ExpressionWrong(_first_line(error))
    why = found[3].replace(" (in container '')", "").replace(" [INVALID_ARGUMENT]", "")
    return ExpressionWrong(why + _hint(why), int(found[1]), int(found[2]))


def _hint(why: str) -> str:
    if "(double, int)" in why or "(int, double)" in why:
        return "; a number is compared with a number: write 10.0 for 10, or double(…)"
    if "no matching overload" in why:
        return "; the two sides have different types"
    return ""


def _plain_error(told: Any) -> str:
    text = str(told)
    for noise in ("NOT_FOUND: ", "INVALID_ARGUMENT: ", "UNKNOWN: "):
        text = text.removeprefix(noise)
    return text


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
