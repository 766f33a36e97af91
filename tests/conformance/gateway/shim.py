"""Reverse proxy in front of a gateway that renames tools and prompts, so that the
conformance suite (which calls fixed names) can be run through it.

    python shim.py --to http://127.0.0.1:8000/mcp --prefix fixture__ [--header 'Authorization: Bearer x']

Prints its address as one line. Reads HTTP with h11: httptools keeps blanks at the end of header values.

Outward: tools/call and prompts/get params.name, completion ref.name and the Mcp-Name header
get the prefix. Inward: names in tools/list and prompts/list lose it. Everything else is untouched.
"""

import argparse
import asyncio
import base64
import json
import socket

import httpx2 as httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

ap = argparse.ArgumentParser()
ap.add_argument("--to", required=True)
ap.add_argument("--prefix", default="")
ap.add_argument("--header", action="append", default=[])
o = ap.parse_args()
DROP = {"content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"}
upstream = httpx.AsyncClient(timeout=httpx.Timeout(60, read=None))


def out(name: str) -> str:
    return o.prefix + name


def back(name: str) -> str:
    return name.removeprefix(o.prefix)


def rewrite_request(raw: bytes) -> bytes:
    try:
        m = json.loads(raw)
        params = m.get("params") or {}
    except (ValueError, AttributeError):
        return raw
    if m.get("method") in ("tools/call", "prompts/get") and isinstance(params.get("name"), str):
        params["name"] = out(params["name"])
    elif m.get("method") == "completion/complete" and "name" in (params.get("ref") or {}):
        params["ref"]["name"] = out(params["ref"]["name"])
    else:
        return raw
    return json.dumps(m).encode()


def rewrite_response(raw: bytes) -> bytes:
    try:
        result = json.loads(raw).get("result")
    except (ValueError, AttributeError):
        return raw
    if not isinstance(result, dict) or not ("tools" in result or "prompts" in result):
        return raw
    m = json.loads(raw)
    for item in [*(m["result"].get("tools") or []), *(m["result"].get("prompts") or [])]:
        item["name"] = back(item["name"])
    return json.dumps(m).encode()


async def handle(request: Request) -> StreamingResponse:
    body = await request.body()
    headers = [(k, v) for k, v in request.headers.items() if k.lower() not in DROP]
    for h in o.header:
        k, _, v = h.partition(":")
        headers.append((k.strip(), v.strip()))
    method = request.headers.get("mcp-method")
    if method in ("tools/call", "prompts/get"):
        fixed = []
        for k, v in headers:
            if k.lower() == "mcp-name":
                if v.startswith("=?base64?") and v.endswith("?="):
                    inner = base64.b64decode(v[9:-2]).decode()
                    v = "=?base64?" + base64.b64encode(out(inner).encode()).decode() + "?="
                else:
                    v = out(v)
            fixed.append((k, v))
        headers = fixed
    req = upstream.build_request(request.method, o.to, content=rewrite_request(body), headers=headers)
    resp = await upstream.send(req, stream=True)
    sse = resp.headers.get("content-type", "").startswith("text/event-stream")

    async def stream():
        try:
            if not sse:
                yield rewrite_response(await resp.aread())
                return
            buf = b""
            async for chunk in resp.aiter_bytes():
                buf += chunk
                *lines, buf = buf.split(b"\n")
                for line in lines:
                    if line.startswith(b"data:"):
                        data = line[5:].strip()
                        line = b"data: " + rewrite_response(data) if data else line
                    yield line + b"\n"
            if buf:
                yield buf
        finally:
            await resp.aclose()

    keep = {k: v for k, v in resp.headers.items() if k.lower() not in DROP}
    return StreamingResponse(stream(), status_code=resp.status_code, headers=keep)


app = Starlette(routes=[Route("/{rest:path}", handle, methods=["GET", "POST", "DELETE", "PUT", "OPTIONS"])])
sock = socket.socket()
sock.bind(("127.0.0.1", 0))
print(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", flush=True)
config = uvicorn.Config(app, http="h11", ws="none", log_level="warning")
asyncio.run(uvicorn.Server(config).serve(sockets=[sock]))
