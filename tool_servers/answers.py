"""Recorded answers: what a tool answered before, found again by its name and its arguments.

A recording keeps them in `answers/SERVER.ndjson`, one a line: `{"tool", "arguments", "text"}` and, where
there is such, `"data"`, `"error"` and `"at"`.
Arguments that are times may differ a little: who asks again asks from another "now".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mcp.types import CallToolResult, TextContent

from tool_servers.errors import NotRecorded
from tool_servers.toolkit import parse_time
from tool_servers.world import World

NEAR = 900.0  # seconds by which the times of two calls may differ in sum for them to be the same


@dataclass(frozen=True, slots=True)
class Answer:
    """One recorded answer, and from when on it was given."""

    tool: str
    arguments: dict[str, Any]
    text: str
    data: dict[str, Any] | None
    error: bool
    since: float

    @classmethod
    def of(cls, record: dict[str, Any]) -> Answer:
        """From a line of the recording."""
        return cls(
            tool=record["tool"],
            arguments=given(record.get("arguments") or {}),
            text=record["text"],
            data=record.get("data"),
            error=bool(record.get("error")),
            since=parse_time(record["at"]) if record.get("at") else float("-inf"),
        )

    def result(self) -> CallToolResult:
        """The answer as it was given."""
        content = TextContent(type="text", text=self.text)
        return CallToolResult(content=[content], structured_content=self.data, is_error=self.error)


class Answers:
    """The recorded answers of one server."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self._exact: dict[str, list[Answer]] = {}
        self._alike: dict[str, list[Answer]] = {}
        for answer in map(Answer.of, records):
            self._exact.setdefault(key(answer.tool, answer.arguments), []).append(answer)
            steady, moments = _split(answer.arguments)
            if moments:
                self._alike.setdefault(key(answer.tool, steady), []).append(answer)

    def find(self, tool: str, arguments: dict[str, Any], clock: float) -> Answer | None:
        """The newest answer to this call that is not later than the clock; else to one nearest in time."""
        asked = given(arguments)
        known = [a for a in self._exact.get(key(tool, asked), []) if a.since <= clock]
        if known:
            return max(known, key=lambda a: a.since)
        steady, moments = _split(asked)
        alike = [a for a in self._alike.get(key(tool, steady), []) if a.since <= clock]
        near = [(far, a) for a in alike if (far := _apart(moments, _split(a.arguments)[1])) <= NEAR]
        return min(near, key=lambda pair: pair[0])[1] if near else None


def key(tool: str, arguments: dict[str, Any]) -> str:
    """What an answer is found by: the tool and the arguments that are not defaults."""
    return f"{tool} {json.dumps(given(arguments), sort_keys=True)}"


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without those that say nothing."""
    return {name: value for name, value in arguments.items() if value not in ("", False, None, [])}


def _split(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """The arguments that are no times (with the names of those that are), and the times."""
    moments = {name: at for name, value in arguments.items() if (at := _moment(value)) is not None}
    steady = {name: "a time" if name in moments else value for name, value in arguments.items()}
    return steady, moments


def _moment(value: Any) -> float | None:
    if not isinstance(value, str) or len(value) < 19 or value[4:5] != "-" or value[10:11] not in "T ":
        return None
    try:
        return parse_time(value)
    except ValueError:
        return None


def _apart(one: dict[str, float], other: dict[str, float]) -> float:
    return sum(abs(at - other[name]) for name, at in one.items())


class Replay:
    """Answers calls of one server from the recording served now."""

    def __init__(self, server: str, world: World) -> None:
        self._server, self._world = server, world

    def __call__(self, tool: str, arguments: dict[str, Any]) -> CallToolResult | None:
        """The recorded answer, or nothing when the recording holds none to this call."""
        if not self._world.recorded:
            return None
        answers = self._world.recording().answers(self._server)
        found = answers.find(tool, arguments, self._world.clock()) if answers else None
        return found.result() if found else None


def text_of(world: World, server: str, tool: str, arguments: dict[str, Any]) -> str:
    """The text of a recorded answer; NotRecorded when there is none."""
    answers = world.recording().answers(server)
    found = answers.find(tool, arguments, world.clock()) if answers else None
    if found is None:
        raise NotRecorded(key(tool, arguments))
    return found.text
