"""Approvals over plain HTTP and JSON, for pages and scripts: the admin tools on the one road, no second road.

GET  /api/approvals?status=S&case=ID    {"approvals": […]}
GET  /api/approvals/ID                  one, whole
POST /api/approvals/ID                  {"decision": "grant" | "deny", "reason": "…"} → the approval
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import orjson

from gateway import strictjson
from gateway.caller import Caller
from gateway.errors import RpcError
from gateway.pipeline import Gateway
from gateway.types import Subject

PREFIX = "/api/approvals"
DECISIONS = {"grant": "gateway__grant_approval", "deny": "gateway__deny_approval"}
# What a refusal's code is in HTTP; whatever else the tools say no to is a conflict with how things stand.
STATUS = {
    "denied": 403,
    "invalid_arguments": 400,
    "limit_exceeded": 429,
    "ledger_unavailable": 503,
    "unknown_tool": 404,
}
Answer = tuple[int, bytes]


def is_ours(path: str) -> bool:
    """Whether a path belongs to this interface."""
    return path == PREFIX or path.startswith(PREFIX + "/")


async def answer(
    gateway: Gateway, subject: Subject, verb: str, path: str, query: bytes, body: bytes
) -> Answer:
    """The status and the JSON for one request of this subject."""
    approval = path[len(PREFIX) + 1 :]
    if verb == "GET" and not approval:
        wanted = dict(parse_qsl(query.decode("latin-1")))
        return await _call(gateway, subject, "gateway__list_approvals", wanted)
    if verb == "GET":
        return await _call(gateway, subject, "gateway__show_approval", {"id": approval})
    if verb != "POST" or not approval:
        return _no(405, "method", "GET /api/approvals, GET or POST /api/approvals/ID")
    try:
        told = strictjson.read(body, limit=len(body))
    except RpcError as error:
        return _no(400, "protocol", str(error))
    tool = DECISIONS.get(str(told.get("decision"))) if isinstance(told, dict) else None
    if tool is None:
        return _no(400, "usage", 'the body is {"decision": "grant" or "deny", "reason": "why"}')
    rest = {name: value for name, value in told.items() if name != "decision"}
    return await _call(gateway, subject, tool, {"id": approval, **rest})


async def _call(gateway: Gateway, subject: Subject, tool: str, arguments: dict[str, Any]) -> Answer:
    try:
        result = await gateway.call(Caller(subject), "tools/call", {"name": tool, "arguments": arguments})
    except RpcError as error:
        return _no(400, "protocol", str(error))
    if result.get("isError") is not True:
        return 200, orjson.dumps(result["structuredContent"])
    refusal = result.get("_meta", {}).get("pointsman/refusal")
    if refusal is not None:
        return STATUS.get(refusal["code"], 409), orjson.dumps(refusal)
    code, _, message = result["content"][0]["text"].partition(": ")
    return _no(409, code, message)


def _no(status: int, code: str, message: str) -> Answer:
    return status, orjson.dumps({"code": code, "message": message})
