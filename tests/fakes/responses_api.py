"""The Responses API in front of the scripted model: items instead of messages, threads, hosted tools, events.

Hosted tools come from a turn: `"hosted": [{"tool": "web_search", "query": …, "sources": [URL, …]}, {"tool":
"code_interpreter", "code": …, "logs": …}, {"tool": "bing", "query": …, "text": …}]`. They are called only
when the request offers them, or with `"anyway": true`. Sources and outputs are told only where `include`
asks, as the real API has it. How Foundry reports Bing is not documented; here it is a `bing_grounding_call`
and its output.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

Item = dict[str, Any]
TYPES = {"web_search": "web_search", "code_interpreter": "code_interpreter", "bing_grounding": "bing"}


class Wrong(Exception):
    """A request that the real API would answer with HTTP 400."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}


def messages_of(items: str | list[Item], instructions: str = "") -> list[Item]:
    """Input items as chat messages; what the provider's own tools left in the history is passed over."""
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    messages: list[Item] = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item["role"], "content": item["content"]})
        elif kind == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
    return messages


def check_answered(messages: list[Item]) -> None:
    """Every call of ours has an output, as the real API demands before it goes on."""
    answered = {m["tool_call_id"] for m in messages if m["role"] == "tool"}
    for call in (call for m in messages for call in m.get("tool_calls") or ()):
        if call["id"] not in answered:
            raise Wrong(f"No tool output found for function call {call['id']}.", "invalid_value")


def as_chat(body: Item, messages: list[Item]) -> Item:
    """The request as the script knows it: chat messages and functions."""
    functions = [{"function": tool} for tool in body.get("tools", ()) if tool["type"] == "function"]
    return {"messages": messages, "tools": functions, "stream": body.get("stream")}


def hosted_items(turn: Item, body: Item, made: list[Item]) -> list[Item]:
    """The provider's own calls of this turn, as output items; `made` remembers them."""
    offered = {TYPES.get(tool["type"], "") for tool in body.get("tools", ())}
    items: list[Item] = []
    for call in turn.get("hosted", ()):
        if call["tool"] in offered or call.get("anyway"):
            done = _hosted_item(call, len(made) + 1, body.get("include") or ())
            made.append(done[0])
            items += done
    return items


def _hosted_item(call: Item, n: int, include: Any) -> list[Item]:
    status = call.get("status", "completed")
    if call["tool"] == "web_search":
        action: Item = {"type": "search", "query": call["query"]}
        if "web_search_call.action.sources" in include:
            action["sources"] = [{"type": "url", "url": url} for url in call.get("sources", ())]
        return [{"type": "web_search_call", "id": f"ws_{n}", "status": status, "action": action}]
    if call["tool"] == "code_interpreter":
        told = "code_interpreter_call.outputs" in include
        outputs = [{"type": "logs", "logs": call.get("logs", "")}] if told else None
        item = {"type": "code_interpreter_call", "id": f"ci_{n}", "status": status, "code": call["code"]}
        return [{**item, "container_id": "cntr_1", "outputs": outputs}]
    asked = json.dumps({"query": call["query"]})
    item = {
        "type": f"{call['tool']}_grounding_call",
        "id": f"bg_{n}",
        "call_id": f"bgc_{n}",
        "status": status,
    }
    result = {"type": f"{item['type']}_output", "id": f"bgo_{n}", "call_id": f"bgc_{n}", "status": status}
    return [{**item, "arguments": asked}, {**result, "output": call.get("text", "")}]


def output_items(message: Item, n: int) -> list[Item]:
    """The model's message as output items."""
    items: list[Item] = []
    if message["content"]:
        text = {"type": "output_text", "text": message["content"], "annotations": []}
        head = {"type": "message", "id": f"msg_{n}", "role": "assistant", "status": "completed"}
        items.append({**head, "content": [text]})
    for at, call in enumerate(message.get("tool_calls", ())):
        head = {"type": "function_call", "id": f"fc_{n}_{at}", "call_id": call["id"], "status": "completed"}
        items.append({**head, **call["function"]})
    return items


def response_body(n: int, items: list[Item], finish: str, usage: tuple[int, int]) -> Item:
    """The whole response."""
    cut = finish == "length"
    read, wrote = usage
    return {
        "id": f"resp_{n}",
        "object": "response",
        "created_at": int(time.time()),
        "model": "scripted-1",
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "output": items,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": wrote,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + wrote,
        },
    }


async def events(body: Item) -> AsyncIterator[str]:
    """The response as server-sent events: every item added, its text in pieces, done."""
    for n, event in enumerate(_events(body)):
        yield f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': n})}\n\n"


def _events(body: Item) -> list[Item]:
    told: list[Item] = [
        {
            "type": "response.created",
            "response": {**body, "status": "in_progress", "output": [], "usage": None},
        }
    ]
    for at, item in enumerate(body["output"]):
        begun = {**item, "status": "in_progress"}
        if item["type"] == "message":
            begun["content"] = []
        if item["type"] == "function_call":
            begun["arguments"] = ""
        told.append({"type": "response.output_item.added", "output_index": at, "item": begun})
        where = {"item_id": item["id"], "output_index": at}
        if item["type"] == "message":
            part = {"content_index": 0, **where}
            empty = {**item["content"][0], "text": ""}
            told.append({"type": "response.content_part.added", "part": empty, **part})
            for piece in re.findall(r"(?s).{1,20}", item["content"][0]["text"]):
                told.append({"type": "response.output_text.delta", "delta": piece, "logprobs": [], **part})
        if item["type"] == "function_call":
            for piece in re.findall(r"(?s).{1,40}", item["arguments"]):
                told.append({"type": "response.function_call_arguments.delta", "delta": piece, **where})
        told.append({"type": "response.output_item.done", "output_index": at, "item": item})
    return [*told, {"type": f"response.{body['status']}", "response": body}]
