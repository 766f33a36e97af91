"""A small A2A agent that does what it is told, well or badly; it speaks JSON-RPC and SSE by hand.

`FakeAgent(turn, turn, …)`: one turn for each streaming request (the last repeats). A turn is a list of steps:
a dict is sent as the JSON-RPC result, a str as it stands, a function is called with the agent and its answer
sent, `DROP` breaks the connection, `HANG` keeps it open until the caller goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

OURS = "urn:pointsman:a2a:specialist:1"
FINDING_TYPE = "application/vnd.pointsman.finding+json"
DROP, HANG = object(), object()
TASK, CONTEXT = "t-1", "x-1"


class FakeAgent:
    """Answers from a script; remembers what it heard."""

    def __init__(self, *script: Any, specialist: str = "", token: str = "", **more: Any) -> None:
        self.script = list(script)
        self.specialist, self.token, self.more = specialist, token, more
        self.heard: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.stored: dict[str, Any] = {}  # what GetTask answers
        self.cards = 0  # times its card was asked for
        self._turn = 0

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.heard]

    async def card(self, request: Request) -> Response:
        self.cards += 1
        extension = {"uri": OURS, "required": True, "params": {"specialist": self.specialist}}
        return JSONResponse(
            {
                "name": "fake",
                "description": "A fake.",
                "version": "1",
                "supportedInterfaces": [
                    {
                        "url": self.more.get("url", f"{request.base_url}rpc"),
                        "protocolBinding": "JSONRPC",
                        "protocolVersion": "1.0",
                    }
                ],
                "capabilities": {
                    "streaming": self.more.get("streaming", True),
                    "extensions": [extension] if self.specialist else [],
                },
                "skills": [],
                "defaultInputModes": ["text/plain"],
                "defaultOutputModes": ["text/plain"],
            }
        )

    async def rpc(self, request: Request) -> Response:
        body = await request.json()
        self.heard.append((body["method"], dict(request.headers), body.get("params", {})))
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"error": f"not {request.headers.get('authorization')}"}, 401)
        if "redirect" in self.more:
            return RedirectResponse(self.more["redirect"], 307)
        if body["method"] == "CancelTask":
            return self._answer(body, task("CANCELED"))
        if body["method"] == "GetTask":
            return self._answer(body, self.stored or task("WORKING"))
        if body["method"] == "SendMessage":
            return self._answer(body, {"task": task("WORKING")})
        turn = self.script[min(self._turn, len(self.script) - 1)]
        self._turn += 1
        if isinstance(turn, dict) and "error" in turn:
            return JSONResponse({"jsonrpc": "2.0", "id": body["id"]} | turn)
        return StreamingResponse(self._stream(turn, body), media_type="text/event-stream")

    def _answer(self, body: dict[str, Any], result: Any) -> Response:
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result})

    async def _stream(self, turn: Any, body: dict[str, Any]) -> AsyncIterator[str]:
        for step in turn:
            if step is DROP:
                raise ConnectionAbortedError("as the script says")
            if step is HANG:
                await asyncio.Event().wait()
            step = step(self) if callable(step) else step
            said = (
                step
                if isinstance(step, str)
                else json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": step})
            )
            yield f"data: {said}\n\n"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The agent over HTTP in this event loop; gives its URL."""
        routes = [Route("/.well-known/agent-card.json", self.card), Route("/rpc", self.rpc, methods=["POST"])]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
            port=0,
        )
        server, sock = uvicorn.Server(config), config.bind_socket()
        sock.listen(128)
        serving = asyncio.create_task(server._serve(sockets=[sock]))
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def task(state: str = "SUBMITTED", **more: Any) -> dict[str, Any]:
    """A task as GetTask gives it."""
    return {"id": TASK, "contextId": CONTEXT, "status": {"state": f"TASK_STATE_{state}"}} | more


def opened(state: str = "SUBMITTED", **more: Any) -> dict[str, Any]:
    """A task as a stream gives it."""
    return {"task": task(state, **more)}


def status(state: str, *words: str, id_: str = TASK, message: str = "m-1", **part: Any) -> dict[str, Any]:
    """A status update; each of the words is a part of its message."""
    told: dict[str, Any] = {"state": f"TASK_STATE_{state}"}
    if words:
        parts = [{"text": each} | part for each in words]
        told["message"] = {"messageId": message, "role": "ROLE_AGENT", "parts": parts}
    return {"statusUpdate": {"taskId": id_, "contextId": CONTEXT, "status": told}}


def artifact(text: str, media_type: str = "", id_: str = TASK) -> dict[str, Any]:
    """An artifact update of one text part."""
    part = {"text": text} | ({"mediaType": media_type} if media_type else {})
    return {
        "artifactUpdate": {
            "taskId": id_,
            "contextId": CONTEXT,
            "artifact": {"artifactId": "a", "parts": [part]},
        }
    }


def whole(text: str) -> list[dict[str, Any]]:
    """A finding and the end of the task."""
    return [artifact(text, FINDING_TYPE), status("COMPLETED")]
