"""The one gateway of a home, and the operator's way in: its admin tools, under the operator's own token."""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import GatewayError, GatewayRunning, GatewayUnreachable, Refusal
from gateway.types import Rule

VERSION = "2026-07-28"
SECONDS = 120.0
ENDING_SECONDS = 15.0  # a gateway that ends lets what is under way end first
POLL_SECONDS = 0.05
ABOUT = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "pointsman", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home's lock; waits for a gateway that is ending, and refuses when one runs."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    until = time.monotonic() + ENDING_SECONDS
    with (home / "gateway.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                where = _where(home)
                if where or time.monotonic() > until:
                    raise GatewayRunning(
                        f"a gateway already runs in {home}{where}: use it, or stop it first"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield


def _where(home: Path) -> str:
    """The gateway that serves this home; empty while it starts or ends, and after it was killed."""
    try:
        about = json.loads((home / "gateway.json").read_text())
        os.kill(int(about["pid"]), 0)
        return f" ({about['url']}, process {about['pid']})"
    except (OSError, ValueError, KeyError):
        return ""


def running(home: Path) -> dict[str, Any] | None:
    """What HOME/gateway.json says, when a gateway holds the home's lock; None when none runs."""
    try:
        with (home / "gateway.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None  # nobody holds it
    except FileNotFoundError:
        return None
    except BlockingIOError:
        try:
            return json.loads((home / "gateway.json").read_text())
        except (OSError, ValueError) as error:
            raise GatewayUnreachable(
                f"a gateway runs in {home}, but its gateway.json cannot be read ({error}): "
                "wait until it has started, or run this as the user who started it"
            ) from None


async def call_admin(
    home: Path, tool: str, arguments: dict[str, Any], token: str = ""
) -> dict[str, Any] | None:
    """The structured result of an admin tool of the running gateway; None when no gateway runs.

    It is called with the operator's own token unless another is given.
    """
    until = time.monotonic() + ENDING_SECONDS
    while True:
        try:
            about = running(home)
            break
        except GatewayUnreachable:
            if (home / "gateway.json").exists() or time.monotonic() > until:
                raise
            await asyncio.sleep(POLL_SECONDS)  # it is just starting, or ending
    if about is None:
        return None
    about = about | ({"operator_token": token} if token else {})
    return await asyncio.to_thread(_call, about, f"gateway__{tool}", arguments)


def _call(about: dict[str, Any], tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    # One plain request, as the 2026-07-28 protocol has it: an MCP client library takes a second to load.
    url = urlsplit(about["url"])
    params = {"name": tool, "arguments": arguments, "_meta": ABOUT}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {
        "Authorization": f"Bearer {about['operator_token']}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port or 80, timeout=SECONDS)
    try:
        connection.request("POST", "/mcp", body, headers)
        answer = connection.getresponse()
        message = _message(answer.read(), answer.headers.get_content_type())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise GatewayUnreachable(
            f"the gateway at {about['url']} did not answer ({type(error).__name__}: {error}): "
            "see its log, or restart it"
        ) from None
    finally:
        connection.close()
    if "result" not in message:
        problem = (message.get("error") or {}).get("message") or f"HTTP {answer.status}"
        raise GatewayError(f"the gateway at {about['url']} refused {tool}: {problem}; is it of this version?")
    return _structured(message["result"])


def _message(body: bytes, kind: str) -> dict[str, Any]:
    if kind != "text/event-stream":
        return json.loads(body)
    events = [json.loads(line[5:]) for line in body.decode().splitlines() if line.startswith("data:")]
    return next(event for event in reversed(events) if "id" in event)


def _structured(result: dict[str, Any]) -> dict[str, Any]:
    if not result.get("isError"):
        return result.get("structuredContent") or {}
    text = "; ".join(part.get("text", "") for part in result.get("content", ()))
    refusal = (result.get("_meta") or {}).get("pointsman/refusal")
    if refusal:
        rules = tuple(Rule(**rule) for rule in refusal.get("rules", ()))
        raise Refusal(refusal["code"], refusal["message"], rules=rules, approval=refusal.get("approval", ""))
    code, _, message = text.partition(": ")
    if any(known.code == code for known in _classes(GatewayError)):
        raise error_told(code, message)
    raise GatewayError(text or "the admin tool failed and did not say why: see the gateway's log")


def error_told(code: str, message: str) -> GatewayError:
    """The error of another process of ours."""
    return next((k for k in _classes(GatewayError) if k.code == code), GatewayError)(message)


def _classes(base: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """The errors that take a message and nothing else."""
    yield base
    for one in base.__subclasses__():
        if one.__init__ is GatewayError.__init__:
            yield from _classes(one)
