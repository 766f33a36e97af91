"""A small OpenAI-compatible server that answers from a script.

`python -m tests.fakes.openai_server --script FILE|investigate [--key K] [--port 0] [--ready-fd N]`

A script is JSON. `{"turns": [TURN, …]}` answers the n-th request of a conversation with the n-th turn (the
last one repeats); `{"by_prompt": {"words": SCRIPT, …}}` chooses by words of the system prompt; "investigate"
is a model that calls every tool it can once and cites what came back. A turn is one of

    {"tool_calls": [{"name": …, "arguments": {…}}, …]}     {"answer": {…}}        the structured answer
    {"text": "…"}      {"raw": "not json"}      {"status": 429}      and "delay": seconds with any
    {"status": 503, "times": 2, "then": TURN}      fails twice, then answers
    "retry_after": seconds with a status           "usage": [read, wrote] with any: the tokens it says it used

It speaks Chat Completions and the Responses API (see `responses_api`, also for the provider's own tools);
the latter under any path, so that it is a Foundry project as well.

In strings, `{{call:0}}` becomes the call id that the first tool message carries, `{{line:0}}` its first data
line, `{{line:0:words}}` its first data line with these words.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes import responses_api

Message = dict[str, Any]
CALL = re.compile(r"\[call ([^\]]+)\]")
_answers = itertools.count(1)
MARK = re.compile(r"\{\{(call|line):(\d+)(?::([^}]*))?\}\}")


class FakeModel:
    """Answers chat completions from a script and remembers what it was asked."""

    def __init__(self, script: Any, key: str = "") -> None:
        self.script = script
        self.key = key
        self.requests: list[dict[str, Any]] = []
        self.arrived: list[float] = []  # when each request came, by the monotonic clock
        self.hosted: list[dict[str, Any]] = []  # the calls of the provider's own tools that were made
        self.threads: dict[str, list[Message]] = {}
        self._failed: Counter[int] = Counter()
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/{base:path}/responses", self.respond, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/requests", self.asked),
                Route("/hosted", self.made),
            ]
        )

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    async def asked(self, _: Request) -> Response:
        return JSONResponse(self.requests)

    async def made(self, _: Request) -> Response:
        return JSONResponse(self.hosted)

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if refused := self._refused(request, body):
            return refused
        turn = self._turn(body)
        if failed := await self._failing(turn):
            return failed
        message, finish = reply(turn, body)
        used = usage(turn)
        if body.get("stream"):
            return StreamingResponse(chunks(message, finish, used), media_type="text/event-stream")
        return JSONResponse(completion("chat.completion", {"message": message}, finish, used))

    async def respond(self, request: Request) -> Response:
        body = await request.json()
        if refused := self._refused(request, body):
            return refused
        try:
            messages = self._thread(body)
        except responses_api.Wrong as wrong:
            return JSONResponse(wrong.body, 400)
        chat = responses_api.as_chat(body, messages)
        turn = self._turn(chat)
        if failed := await self._failing(turn):
            return failed
        made = responses_api.hosted_items(turn, body, self.hosted)
        message, finish = reply(turn, chat)
        n = len(self.threads) + 1
        self.threads[f"resp_{n}"] = [*messages, message]
        told = responses_api.response_body(
            n, [*made, *responses_api.output_items(message, n)], finish, usage(turn)
        )
        if body.get("stream"):
            return StreamingResponse(responses_api.events(told), media_type="text/event-stream")
        return JSONResponse(told)

    def _thread(self, body: dict[str, Any]) -> list[Message]:
        """What was said so far, this request included."""
        before = body.get("previous_response_id")
        if before and before not in self.threads:
            said = f"Previous response with id '{before}' not found."
            raise responses_api.Wrong(said, "previous_response_not_found")
        said = responses_api.messages_of(body["input"], body.get("instructions") or "")
        messages = [*self.threads.get(before or "", ()), *said]
        responses_api.check_answered(messages)
        return messages

    def _refused(self, request: Request, body: dict[str, Any]) -> Response | None:
        self.requests.append(body)
        self.arrived.append(time.monotonic())
        if not self.key or request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        said = f"Incorrect API key provided: {request.headers.get('authorization', '')}"
        return JSONResponse({"error": {"message": said, "type": "invalid_request_error"}}, 401)

    async def _failing(self, turn: dict[str, Any]) -> Response | None:
        await asyncio.sleep(turn.get("delay", 0))
        if "status" in turn:
            error = {"error": {"message": turn.get("message", "scripted failure"), "type": "server_error"}}
            wait = {"retry-after": str(turn.get("retry_after", 0))}
            return JSONResponse(error, turn["status"], headers=wait)
        return Response(turn["raw"], media_type="application/json") if "raw" in turn else None

    def _turn(self, body: dict[str, Any]) -> dict[str, Any]:
        """The turn of the script for this request; a failing one gives way after `times`."""
        script, messages = self.script, body["messages"]
        system = " ".join(str(m["content"]) for m in messages if m["role"] in ("system", "developer"))
        while isinstance(script, dict) and "by_prompt" in script:
            script = next(s for words, s in script["by_prompt"].items() if words in system)
        if script == "investigate" or script.get("investigate"):
            return investigate(messages, body)
        turns = script["turns"]
        at = min(sum(m["role"] == "assistant" for m in messages), len(turns) - 1)
        turn = turns[at]
        if "times" in turn:
            self._failed[at] += 1
            return turn if self._failed[at] <= turn["times"] else turn["then"]
        return turn


def reply(turn: dict[str, Any], body: dict[str, Any]) -> tuple[Message, str]:
    """The assistant's message of a turn, and why it ends."""
    turn = filled(turn, tool_texts(body["messages"]))
    if "text" in turn:
        return {"role": "assistant", "content": turn["text"]}, turn.get("finish", "stop")
    calls = turn.get("tool_calls") or [{"name": form(body), "arguments": turn["answer"]}]
    made = [
        {
            "id": f"tc_{len(body['messages'])}_{n}",
            "type": "function",
            "function": {"name": call["name"], "arguments": written(call["arguments"])},
        }
        for n, call in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}, turn.get("finish", "tool_calls")


def written(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def usage(turn: dict[str, Any]) -> tuple[int, int]:
    read, wrote = turn.get("usage", (10, 5))
    return read, wrote


def completion(
    kind: str, inner: dict[str, Any], finish: str | None, used: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "logprobs": None} | inner
    usage = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
    n = next(_answers) if kind == "chat.completion" else 0
    head = {"id": f"chatcmpl-{n}", "object": kind, "created": int(time.time()), "model": "scripted-1"}
    return head | {"choices": [choice], "usage": usage if finish else None}


async def chunks(message: Message, finish: str, used: tuple[int, int]) -> AsyncIterator[str]:
    """The message as a stream: a piece of text or of arguments at a time."""
    for delta in deltas(message):
        yield f"data: {json.dumps(completion('chat.completion.chunk', {'delta': delta}, None))}\n\n"
    yield f"data: {json.dumps(completion('chat.completion.chunk', {'delta': {}}, finish, used))}\n\n"
    yield "data: [DONE]\n\n"


def deltas(message: Message) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant"}
    for piece in re.findall(r"(?s).{1,20}", message["content"] or ""):
        yield {"content": piece}
    for n, call in enumerate(message.get("tool_calls", ())):
        yield {"tool_calls": [{"index": n, **call, "function": {**call["function"], "arguments": ""}}]}
        for piece in re.findall(r"(?s).{1,40}", call["function"]["arguments"]):
            yield {"tool_calls": [{"index": n, "function": {"arguments": piece}}]}


def form(body: dict[str, Any]) -> str:
    """The name of the answer form: the offered tool that is not a gateway tool."""
    return next(name for name in offered(body) if "__" not in name)


def offered(body: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in body.get("tools", ())]


def tool_texts(messages: list[Message]) -> list[str]:
    return [text(m["content"]) for m in messages if m["role"] == "tool"]


def text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def data_lines(result: str) -> list[str]:
    """The lines of a result that are quotable data: those that hold a record, else all after the header."""
    lines = [line.strip() for line in result.splitlines()[1:] if len(line.strip()) >= 3 and line[0] != "…"]
    return [line for line in lines if line.startswith("{")] or lines


def filled(value: Any, results: list[str]) -> Any:
    """The value with `{{call:n}}` and `{{line:n}}` replaced by what the tool messages hold."""
    if isinstance(value, dict):
        return {k: filled(v, results) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, results) for v in value]
    if not isinstance(value, str):
        return value

    def put(mark: re.Match[str]) -> str:
        what, n, words = mark.groups()
        result = results[int(n)] if int(n) < len(results) else ""
        if what == "call":
            found = CALL.search(result)
            return found[1] if found else "no-such-call"
        return next((line for line in data_lines(result) if (words or "") in line), "")

    return MARK.sub(put, value)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "logs__search": {"severity": "ERROR", "limit": 20},
    "logs__patterns": {"limit": 20},
    "changes__commits": {"limit": 20},
}
KINDS = {
    "logs": "symptom",
    "metrics": "symptom",
    "traces": "symptom",
    "kubernetes": "symptom",
    "changes": "change",
}


def investigate(messages: list[Message], body: dict[str, Any]) -> dict[str, Any]:
    """A diligent, unimaginative model: calls each tool that needs no arguments, then cites what it read."""
    asked = max(n for n, m in enumerate(messages) if m["role"] == "user")
    messages = messages[asked:]  # an earlier task of the thread is done
    if not any(m["role"] == "tool" for m in messages):
        able = [t["function"] for t in body.get("tools", ()) if "__" in t["function"]["name"]]
        free = [f["name"] for f in able if not set(f["parameters"].get("required", ())) - set(ARGUMENTS)]
        calls = [{"name": name, "arguments": ARGUMENTS.get(name, {})} for name in free]
        if calls:
            return {"tool_calls": calls}
    called = [c["function"]["name"] for m in messages for c in m.get("tool_calls") or ()]
    claims = []
    for name, result in zip(called, tool_texts(messages), strict=False):
        found, lines = CALL.search(result), data_lines(result.partition("\n")[2])
        if found and lines and "] error" not in result.partition("\n")[0]:
            kind = KINDS.get(name.partition("__")[0], "context")
            claims += [claim(kind, name, found[1], line) for line in lines[-3:]]
    status = "found" if claims else "abstained"
    return {"answer": {"status": status, "summary": f"{len(claims)} observations.", "claims": claims}}


def claim(kind: str, tool: str, call: str, line: str) -> dict[str, Any]:
    said = f"{tool} shows: {line[:160]}"
    return {"kind": kind, "text": said, "confidence": 0.5, "evidence": [{"call": call, "quote": line[:400]}]}


@contextmanager
def serving(script: Any, key: str = "") -> Iterator[tuple[str, FakeModel]]:
    """The server in a thread of this process; gives its base URL and the model."""
    model = FakeModel(script, key)
    server = uvicorn.Server(uvicorn.Config(model.app, port=0, log_level="error", lifespan="off"))
    with listening(server) as url:
        yield f"{url}/v1", model


@contextmanager
def listening(server: uvicorn.Server) -> Iterator[str]:
    """Run a uvicorn server in a thread until the block ends; gives its URL."""
    sock = server.config.bind_socket()
    sock.listen(128)
    port = sock.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        sock.close()


def main() -> None:
    """Serve until stopped; say the URL as one JSON line on the ready descriptor, or on stdout."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--script", required=True, help="a JSON file, or the word investigate")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--ready-fd", type=int, default=1)
    options.add_argument("--key", default="")
    given = options.parse_args()
    script = given.script if given.script == "investigate" else json.loads(Path(given.script).read_text())
    config = uvicorn.Config(
        FakeModel(script, given.key).app, port=given.port, log_level="error", lifespan="off"
    )
    sock = config.bind_socket()
    sock.listen(128)
    ready = {"url": f"http://127.0.0.1:{sock.getsockname()[1]}/v1", "pid": os.getpid()}
    os.write(given.ready_fd, (json.dumps(ready) + "\n").encode())
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    sys.exit(main())
