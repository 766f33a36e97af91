"""What a gateway is on the wire, without policy or ledger: call ids, replay by key, refusals, approvals.

In memory: `SmallGateway({"logs__search": "three lines of text"}).server` is anything `mcp.Client` takes.
As a program: `python -m tests.fakes.small_gateway --tools FILE.json [--port 0] [--ready-fd N] [--token T]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import Server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ElicitRequest,
    InputRequiredResult,
    ListToolsResult,
    TextContent,
    Tool,
)
from starlette.responses import JSONResponse

from tests.fakes.openai_server import listening

Answer = Any  # text, {"text", "data"}, {"error"}, {"refusal"}, {"approval"}, {"ask"}, a result, a function


@dataclass
class SmallGateway:
    """Answers tools/call from a table, as the gateway would; remembers what reached it."""

    tools: dict[str, Answer]
    token: str = ""
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: Path | None = None
    made: list[dict[str, Any]] = field(default_factory=list)  # calls that ran, in order
    keys: list[str] = field(default_factory=list)  # every key that arrived, replays included
    hosted: tuple[str, ...] = ("model",)  # what `hosted/NAME` it lets through
    books: list[dict[str, Any]] = field(default_factory=list)  # what was asked and recorded of hosted models
    _replayed: int = 0
    _done: dict[str, CallToolResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server: Server[Any] = Server("small", on_list_tools=self._list, on_call_tool=self._call)

    async def _list(self, _context: Any, _params: Any) -> ListToolsResult:
        schema = {"type": "object", "properties": {}, "additionalProperties": True}
        named = [(name, self.schemas.get(name, schema)) for name in self.tools]
        return ListToolsResult(
            tools=[Tool(name=n, description=f"The tool {n}.", input_schema=s) for n, s in named]
        )

    async def _call(
        self, _context: Any, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        arguments, key = params.arguments or {}, str((params.meta or {}).get("pointsman/key", ""))
        if params.name.startswith("hosted/") or params.name == "gateway__record_model":
            return self._book(params.name, arguments)
        self.keys.append(key)
        self._write({"arrived": params.name, "key": key})
        if key in self._done:
            self._replayed += 1
            earlier = self._done[key]
            return earlier.model_copy(update={"meta": {**(earlier.meta or {}), "pointsman/replayed": True}})
        call = f"C{len(self.keys) - self._replayed}"
        answer = self.tools.get(params.name, {"refusal": "unknown_tool"})
        if (params.meta or {}).get("pointsman/recorded"):
            waits = isinstance(answer, dict) and "approval" in answer
            answer = answer if waits else {"refusal": "key_conflict"}
        answer = answer(arguments) if callable(answer) else answer
        answer = await answer if inspect.isawaitable(answer) else answer
        if isinstance(answer, dict):
            await asyncio.sleep(answer.get("delay", 0))
            if refused := refusal(call, params.name, answer):
                return refused
        self._remember({"tool": params.name, "arguments": arguments, "key": key, "call": call})
        result = released(call, answer)
        self._done[key] = result
        return result

    def _book(self, name: str, arguments: dict[str, Any]) -> CallToolResult | InputRequiredResult:
        """Let a hosted model or tool through, or write down what it answered; what it cost so far."""
        call = f"B{len(self.books) + 1}"
        self.books.append({"tool": name, **arguments})
        if name.startswith("hosted/") and name.partition("/")[2] not in self.hosted:
            refused = refusal(call, name, {"refusal": "denied"})
            assert refused is not None
            return refused
        answers = [b for b in self.books if b["tool"] == "gateway__record_model" and b["status"] == "ok"]
        spent = sum(b["input_tokens"] + b["output_tokens"] for b in answers)
        last = answers[-1] if answers else {}
        thread = {name: last[name] for name in ("response", "waits_for") if last}
        told = {"spent": {"tokens": spent}, "thread": thread, "recorded": arguments.get("hosted", [])}
        return released(call, {"text": json.dumps(told), "data": told})

    def _remember(self, call: dict[str, Any]) -> None:
        self.made.append(call)
        self._write(call)

    def _write(self, line: dict[str, Any]) -> None:
        if self.log:
            with self.log.open("a") as out:
                out.write(json.dumps(line) + "\n")

    def app(self) -> Any:
        """The same over HTTP, with a bearer token if one was set."""
        inner = self.server.streamable_http_app(stateless_http=True, json_response=True)

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            given = dict(scope.get("headers") or ()).get(b"authorization", b"").decode()
            if scope["type"] == "http" and self.token and given != f"Bearer {self.token}":
                await JSONResponse({"error": "unauthorized"}, 401)(scope, receive, send)
                return
            await inner(scope, receive, send)

        return guarded

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """The gateway over HTTP in a thread; gives its MCP URL."""
        config = uvicorn.Config(self.app(), port=0, log_level="error")
        with listening(uvicorn.Server(config)) as url:
            yield f"{url}/mcp"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The gateway over HTTP in this event loop; gives its MCP URL."""
        config = uvicorn.Config(self.app(), port=0, log_level="error", timeout_graceful_shutdown=1)
        server, sock = uvicorn.Server(config), config.bind_socket()
        sock.listen(128)
        serving = asyncio.create_task(server._serve(sockets=[sock]))
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await serving


def released(call: str, answer: Answer) -> CallToolResult:
    """The result with the call's id; an upstream's own result passes as it is."""
    if isinstance(answer, CallToolResult):
        return answer.model_copy(update={"meta": {**(answer.meta or {}), "pointsman/call": call}})
    parts = answer if isinstance(answer, dict) else {"text": answer}
    text = str(parts.get("error") or parts.get("text") or "")
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=parts.get("data"),
        is_error="error" in parts,
        _meta={"pointsman/call": call},
    )


def refusal(call: str, tool: str, answer: dict[str, Any]) -> CallToolResult | InputRequiredResult | None:
    """The refusal or question that an entry of the table stands for."""
    if asked := answer.get("ask"):
        form = {
            "method": "elicitation/create",
            "params": {
                "mode": "form",
                "message": f"{tool} needs approval {asked}",
                "requestedSchema": {"type": "object", "properties": {}},
            },
        }
        requests = {"pointsman-approval": ElicitRequest.model_validate(form)}
        return InputRequiredResult(input_requests=requests, request_state="s", _meta={"pointsman/call": call})
    code = "approval_pending" if "approval" in answer else answer.get("refusal")
    if not code:
        return None
    said = f"{tool}: refused by the table; change the table"
    meta = {"code": code, "message": said, "rules": [{"id": "table"}], "approval": answer.get("approval")}
    return CallToolResult(
        content=[TextContent(type="text", text=f"{code}: {said}")],
        is_error=True,
        _meta={"pointsman/call": call, "pointsman/refusal": meta},
    )


def main() -> None:
    """Serve until stopped; say the URL as one JSON line on the ready descriptor, or on stdout."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tools", type=Path, required=True)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--ready-fd", type=int, default=1)
    options.add_argument("--token", default="")
    options.add_argument("--log", type=Path)
    given = options.parse_args()
    gateway = SmallGateway(json.loads(given.tools.read_text()), token=given.token, log=given.log)
    config = uvicorn.Config(gateway.app(), port=given.port, log_level="error")
    sock = config.bind_socket()
    sock.listen(128)
    ready = {"url": f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", "pid": os.getpid()}
    os.write(given.ready_fd, (json.dumps(ready) + "\n").encode())
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    sys.exit(main())
