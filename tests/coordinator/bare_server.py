"""A small MCP server of the new era on bare pipes; loading an SDK would cost more than everything it does."""

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

Tool = tuple[dict[str, Any], Callable[..., Any]]  # a definition, and what is done when it is called
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TEXT = {"type": "object", "properties": {"result": {"type": "string"}}, "required": ["result"]}


def serve(name: str, tools: dict[str, Tool]) -> None:
    """Answer on stdout what is asked on stdin until it closes; every call runs by itself."""
    telling = threading.Lock()
    listed = [{"name": tool, **definition} for tool, (definition, _) in tools.items()]

    def tell(number: Any, **answer: Any) -> None:
        line = json.dumps({"jsonrpc": "2.0", "id": number, **answer})
        with telling:
            print(line, flush=True)

    def call(number: Any, params: dict[str, Any]) -> None:
        told = tools[params["name"]][1](**params.get("arguments", {}))
        structured = told if isinstance(told, dict) else {"result": told}
        text = told if isinstance(told, str) else json.dumps(told)
        content = [{"type": "text", "text": text}]
        tell(number, result={"resultType": "complete", "content": content, "structuredContent": structured})

    known = {
        "server/discover": {
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": name, "version": "1"}},
        },
        "tools/list": {"resultType": "complete", "tools": listed, "ttlMs": 0, "cacheScope": "private"},
    }
    for line in sys.stdin:
        asked = json.loads(line)
        number, method = asked.get("id"), asked.get("method")
        if number is None:
            continue
        if method == "tools/call":
            threading.Thread(target=call, args=(number, asked["params"]), daemon=True).start()
        elif method in known:
            tell(number, result=known[method])
        else:
            tell(number, error={"code": -32601, "message": f"no {method} here"})
