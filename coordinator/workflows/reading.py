"""Reads a workflow file and says what is wrong with it: file, line, column, and what to write instead."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from coordinator.errors import UsageError
from coordinator.workflows.model import GATES, Workflow

LARGEST_FILE = 256 * 1024
Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    line: int
    column: int
    text: str


class WorkflowInvalid(UsageError):
    """A workflow file that cannot be used; `problems` says everything that is wrong."""

    code = "workflow_invalid"

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source, self.problems = source, sorted(problems)
        super().__init__("\n".join(f"{source}:{p.line}:{p.column}: {p.text}" for p in self.problems))


@dataclass(frozen=True, slots=True)
class Source:
    """A workflow as it was read: its text, its version, and where in the text everything stands."""

    workflow: Workflow
    text: str
    version: str  # of the text: the first 12 hex digits of its SHA-256
    name: str
    marks: dict[Path_, tuple[int, int]] = field(repr=False)

    def mark(self, *path: str | int) -> tuple[int, int]:
        """The line and column of a part of the file, or of the nearest part around it."""
        return _nearest(self.marks, path)


def version_of(text: str) -> str:
    """What tells two versions of a workflow apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_file(path: Path) -> Source:
    """A checked workflow; WorkflowInvalid with every problem, UsageError when there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"no workflow file {path}: see `pointsman workflows list`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}; a workflow is a YAML file in UTF-8") from None
    return read_text(text, str(path))


@lru_cache(maxsize=256)
def read_text(text: str, name: str = "<workflow>") -> Source:
    """A checked workflow from its text; WorkflowInvalid with every problem."""
    from coordinator.workflows.checking import problems_of

    source = _parsed(text, name)
    if found := problems_of(source):
        raise WorkflowInvalid(name, found)
    return source


def _parsed(text: str, name: str) -> Source:
    if len(text.encode()) > LARGEST_FILE:
        raise WorkflowInvalid(name, [Problem(1, 1, f"the file is larger than {LARGEST_FILE // 1024} KiB")])
    reader = _Reader()
    try:
        node = yaml.compose(text, Loader=_Yaml)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        place = (at.line + 1, at.column + 1) if at else (1, 1)
        raise WorkflowInvalid(name, [Problem(*place, f"no valid YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        raise WorkflowInvalid(name, [Problem(1, 1, f"no valid YAML: {error}")]) from None
    told = reader.read(node, ()) if node is not None else None
    if reader.problems:
        raise WorkflowInvalid(name, reader.problems)
    if not isinstance(told, dict):
        raise WorkflowInvalid(name, [Problem(1, 1, "a workflow is a map that begins with `id:`")])
    try:
        workflow = Workflow.model_validate(told)
    except ValidationError as error:
        raise WorkflowInvalid(name, list(_complaints(error, reader.marks))) from None
    return Source(workflow, text, version_of(text), name, reader.marks)


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's core scalars: `on`, `off`, `yes` and `no` are words, dates are text."""


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":bool", ":timestamp"))]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


class _Reader:
    """Turns YAML nodes into plain values and remembers where they stand; aliases and tags are refused."""

    def __init__(self) -> None:
        self.marks: dict[Path_, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._seen: set[int] = set()
        self._loader = _Yaml("")

    def read(self, node: yaml.Node, path: Path_) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.marks.setdefault(path, place)
        if id(node) in self._seen:
            self.problems.append(Problem(*place, "aliases (`*name`) are not read: write it out"))
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._map(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(each, (*path, n)) for n, each in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except yaml.MarkedYAMLError as error:
            self.problems.append(Problem(*place, f"no valid value: {error.problem}"))
            return None

    def _map(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for key, value in node.value:
            name = str(getattr(key, "value", ""))
            place = (key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(*place, "a key is one word"))
            elif name in told:
                self.problems.append(Problem(*place, f"`{name}` stands here twice: keep one"))
            else:
                self.marks[(*path, name, "#key")] = place
                told[name] = self.read(value, (*path, name))
        return told


def _complaints(error: ValidationError, marks: dict[Path_, tuple[int, int]]) -> Iterator[Problem]:
    for each in error.errors():
        path = _path(each["loc"])
        place = marks.get((*path, "#key")) if each["type"] == "extra_forbidden" else None
        yield Problem(*(place or _nearest(marks, path)), _said(each, path))


def _path(loc: tuple[Any, ...]) -> Path_:
    """A location in the file: pydantic adds the kind of a step or trigger after its number."""
    tagged = len(loc) > 2 and loc[0] in ("steps", "triggers")
    return (*loc[:2], *loc[3:]) if tagged else loc


def _said(each: Any, path: Path_) -> str:
    what, kind = ".".join(str(part) for part in path), each["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), sorted(_known_keys()), 1)
        return f"`{path[-1]}` is not known here" + (f": did you mean `{near[0]}`?" if near else "")
    if kind == "missing":
        return f"`{path[-1]}` is missing"
    if kind == "literal_error":
        near = difflib.get_close_matches(str(each["input"]), GATES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{what}: {each['input']!r} is not one of {each['ctx']['expected']}{hint}"
    return f"{what}: {each['msg'].removeprefix('Value error, ')}"


def _known_keys() -> set[str]:
    schema = Workflow.model_json_schema()
    keys = set(schema["properties"])
    for part in schema["$defs"].values():
        keys |= set(part.get("properties", ()))
    return keys


def _nearest(marks: dict[Path_, tuple[int, int]], path: Path_) -> tuple[int, int]:
    for length in range(len(path), -1, -1):
        if path[:length] in marks:
            return marks[path[:length]]
    return (1, 1)
