"""Cedar files as single policies, each with its name, its words for people, and where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import PolicyError
from gateway.types import Rule

_NOTES = re.compile(r'(?:\s|//[^\n]*\n|@\w+\s*(?:\(\s*"(?:[^"\\]|\\.)*"\s*\))?)*')
_TOKEN = re.compile(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"|;|[^\s]')


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy: its text, its parsed form, and its name as Cedar and a reader know it."""

    rule: Rule
    text: str
    parsed: dict[str, Any]
    file: str
    line: int
    column: int


def read_files(files: list[Path], base: Path | None = None) -> list[Statement]:
    """Every policy of these files; raises PolicyError at the first that does not read."""
    statements: list[Statement] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"{file}: cannot be read: {error}; write policies as UTF-8 text") from error
        name = file.name if base is None else file.relative_to(base).as_posix()
        statements += read_text(text, name)
    _unique(statements)
    return statements


def read_text(text: str, file: str = "policy.cedar") -> list[Statement]:
    """Every policy of this text."""
    return [_statement(piece, file, text, start) for start, piece in _pieces(text)]


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    start = None
    for token in _TOKEN.finditer(text):
        if token[0].startswith("//"):
            continue
        start = token.start() if start is None else start
        if token[0] == ";":
            yield start, text[start : token.end()]
            start = None
    if start is not None:
        yield start, text[start:]


def _statement(piece: str, file: str, whole: str, start: int) -> Statement:
    import cedarpy

    line, column = position(whole, start)
    try:
        found = json.loads(cedarpy.policies_to_json_str(piece))
    except ValueError as error:
        at = position(whole, start + _offset(piece, str(error)))
        raise PolicyError(
            f"{file}:{at[0]}:{at[1]}: does not read as Cedar: {_first_line(error)}; "
            "see `pointsman policy check` after mending it"
        ) from error
    policies = list(found["staticPolicies"].values())
    if len(policies) != 1:
        raise PolicyError(
            f"{file}:{line}:{column}: a policy with ?principal or ?resource is a template, which the gateway "
            "has no use for; name the principal and the resource"
        )
    notes = {name: value or "" for name, value in policies[0].get("annotations", {}).items()}
    rule = Rule(
        id=notes.get("id") or f"{file}:{line}",
        description=notes.get("description", ""),
        advice=notes.get("advice", ""),
        where=f"{file}:{line}",
        approvals=_approvals(notes.get("approvals", "1"), f"{file}:{line}:{column}"),
    )
    return Statement(rule, piece, policies[0], file, line, column)


def _approvals(told: str, where: str) -> int:
    if not re.fullmatch("[1-9]", told):
        raise PolicyError(
            f'{where}: @approvals says how many persons have to agree, "1" to "9", not {told!r}'
        )
    return int(told)


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def locate(statement: Statement, message: str) -> tuple[int, int]:
    """Line and column within the file of what a message about this policy names, as well as can be told."""
    line, column = position(statement.text, _offset(statement.text, message))
    return statement.line + line - 1, column + (statement.column - 1 if line == 1 else 0)


def _offset(text: str, message: str) -> int:
    notes = _NOTES.match(text)
    start = notes.end() if notes else 0  # what annotations say is not what is wrong
    named = re.findall(r"`([^`\n]+)`", message)
    for name in [n.partition(" in ")[0] for n in named if not n.startswith("policy")] + re.findall(
        r'"([^"\n]+)"', message
    ):
        if (at := text.find(f'"{name}"', start)) >= 0:
            return at + 1
        if (at := text.find(name, start)) >= 0:
            return at
    return 0


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _unique(statements: list[Statement]) -> None:
    seen: dict[str, Statement] = {}
    for statement in statements:
        other = seen.setdefault(statement.rule.id, statement)
        if other is not statement:
            raise PolicyError(
                f"{statement.file}:{statement.line}:{statement.column}: the id {statement.rule.id!r} is "
                f"taken by {other.rule.where}; give each policy an @id of its own"
            )
