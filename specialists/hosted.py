"""Tools a provider runs itself: how each is asked for, and how its calls are read from what came back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from specialists.settings import Cloud

LONGEST = 8_000  # characters of one code, one output
MOST_SOURCES = 50
MOST_TEXT = 300_000  # characters of code and output that one answer's report may hold
OURS = ("function_call", "custom_tool_call")  # calls that we run, through the gateway
NAMES = {"bing_grounding": "bing"}
# What the Responses API leaves out of its report unless it is asked for.
INCLUDE = {
    "web_search": "web_search_call.action.sources",
    "code_interpreter": "code_interpreter_call.outputs",
}


def forms(names: Iterable[str], settings: Cloud) -> list[dict[str, Any]]:
    """The hosted tools as a request names them."""
    return [_form(name, settings) for name in names]


def _form(name: str, settings: Cloud) -> dict[str, Any]:
    if name == "code_interpreter":
        return {"type": "code_interpreter", "container": {"type": "auto"}}
    if name == "bing":
        # As a plain dict: what the Agent Framework makes of it (agent-framework-foundry 1.15) is no JSON.
        search = {"project_connection_id": settings.bing_connection, "count": 5}
        return {"type": "bing_grounding", "bing_grounding": {"search_configurations": [search]}}
    return {"type": name}


def included(names: Iterable[str]) -> list[str]:
    """What the provider is asked to tell of its calls."""
    return [INCLUDE[name] for name in names if name in INCLUDE]


def reported(items: Iterable[Mapping[str, Any]], offered: Iterable[str]) -> list[dict[str, Any]]:
    """The provider's own calls among the output items of an answer, also of kinds nobody knows yet."""
    items, offered = [item for item in items if isinstance(item.get("type"), str)], set(offered)
    made = [item for item in items if item["type"].endswith("_call") and item["type"] not in OURS]
    results = {str(item.get("call_id")): item for item in items if item["type"].endswith("_call_output")}
    room = min(LONGEST, MOST_TEXT // max(1, 2 * len(made)))
    return [_call(item, results.get(str(item.get("call_id"))), offered, room) for item in made]


def _call(
    item: Mapping[str, Any], result: Mapping[str, Any] | None, offered: set[str], room: int
) -> dict[str, Any]:
    kind = str(item["type"]).removesuffix("_call")
    tool = NAMES.get(kind, kind)
    action = item.get("action")
    told: dict[str, Any] = {**item, **(action if isinstance(action, Mapping) else {})}
    asked = (
        "query",
        "queries",
        "url",
        "pattern",
        "code",
        "arguments",
        "name",
        "server_label",
        "container_id",
    )
    sources = told.get("sources") or told.get("results") or []
    outputs = [told.get("outputs"), told.get("output"), (result or {}).get("output")]
    return {
        "tool": tool[:100],
        "id": str(item.get("id") or item.get("call_id") or "")[:200],
        "status": str(item.get("status") or "unknown")[:50],
        "offered": tool in offered,
        "arguments": {name: _cut(value, room) for name in asked if (value := told.get(name))},
        "sources": [_source(source) for source in sources if source][:MOST_SOURCES],
        "output": "\n".join(_cut(_words(output), room) for output in outputs if output)[:room],
    }


def _source(source: Any) -> dict[str, Any]:
    """A page or a document, as it was reported."""
    if not isinstance(source, Mapping):
        return {"text": str(source)[:500]}
    return {str(k): _cut(v, 500) for k, v in source.items() if isinstance(v, str | int | float) and v != ""}


def _words(output: Any) -> str:
    """An output as text: the logs of a run of code, else JSON."""
    if isinstance(output, str):
        return output
    if isinstance(output, list):
        return "\n".join(_words(piece) for piece in output)
    if isinstance(output, Mapping) and isinstance(output.get("logs"), str):
        return output["logs"]
    return json.dumps(output, ensure_ascii=False, default=str)


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, list):
        return [_cut(each, limit // max(1, len(value))) for each in value]
    if isinstance(value, str) and len(value) > limit:
        return value[: limit - 1] + "…"
    return value
