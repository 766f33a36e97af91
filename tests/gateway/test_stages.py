"""What testing a server says: at which stage it fails, or that no rule permits what it offers."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.test_identity import bound, serving
from tests.gateway.world import OPERATOR, FakeServer, app_with, call

pytestmark = pytest.mark.anyio

# A server of the old era over stdio that fails as it is told to.
SERVER = """
import json, sys
HOW = sys.argv[1]
for line in sys.stdin:
    m = json.loads(line)
    method, number = m.get("method"), m.get("id")
    if number is None:
        continue
    error = {"code": -32601, "message": "no"}
    if method == "initialize" and HOW != "initialize":
        told = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"}}
        print(json.dumps({"jsonrpc": "2.0", "id": number, "result": told}), flush=True)
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}), flush=True)
"""


async def unwelcome(scope: Any, receive: Any, send: Any) -> None:
    """A server that lets nobody in."""
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_every_stage_is_named_when_it_fails(tmp_path: Path, fake: FakeServer) -> None:
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    sock, url = bound()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        servers: dict[str, Any] = {
            "start": {"command": "no-such-program"},
            "resolve": {"url": "http://169.254.169.254/mcp"},
            "connect": {"url": f"http://127.0.0.1:{free.getsockname()[1]}/mcp"},
            "initialize": {"command": sys.executable, "args": [str(program), "initialize"]},
            "auth": {"url": f"{url}/mcp"},
            "list": {"command": sys.executable, "args": [str(program), "list"]},
            "policy": fake.entry(pin="trust"),
        }
        forbidding = 'permit (principal in Role::"operator", action, resource in Server::"gateway");'
        policy = f'@id("o") @description("O.") @advice("O.") {forbidding}'
        async with serving(unwelcome, sock), app_with(tmp_path, servers, policy) as app:
            for stage in servers:
                told = (await call(app, OPERATOR, "gateway__test_server", {"name": stage}))[
                    "structuredContent"
                ]
                if stage == "policy":
                    assert told["ok"] and "read" in told["no_rule_permits"]
                else:
                    assert (told["ok"], told["stage"]) == (False, stage), json.dumps(told)
                    assert told["error"]
