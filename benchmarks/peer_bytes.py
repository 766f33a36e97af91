"""The floor of an idiomatic Python hop: Starlette on uvicorn, one aiohttp client, bytes forwarded."""

import sys
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]
OWN = ("host", "content-length", "connection", "accept-encoding")
BACK = ("content-type", "mcp-session-id")
kept: dict[str, Any] = {}


async def forward(request: Request) -> Response:
    """One request to the upstream and its answer back."""
    if "client" not in kept:
        kept["client"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256))
    body = await request.body()
    headers = [(name, value) for name, value in request.headers.items() if name not in OWN]
    async with kept["client"].request(request.method, UPSTREAM, data=body, headers=headers) as answer:
        back = {name: answer.headers[name] for name in BACK if name in answer.headers}
        return Response(await answer.read(), answer.status, back)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/mcp", forward, methods=["GET", "POST", "DELETE"])])
    uvicorn.run(app, port=PORT, loop="uvloop", log_level="warning", access_log=False)
