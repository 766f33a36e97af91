"""A tool server of one's own: who is on call, as an MCP server of the official SDK.

    python server.py                 on stdin and stdout
    python server.py --http PORT     over HTTP, at http://127.0.0.1:PORT/mcp

Nothing in it knows Pointsman.
"""

import sys
from typing import Annotated

from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

ROTA = {"orders": "ana", "payments": "bela", "checkout": "chidi"}
PAGED: list[str] = []
server = MCPServer("oncall", instructions="Who is on call for a service.")


@server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
def who(service: Annotated[str, Field(description="Name of the service.")]) -> str:
    """Say who is on call for a service."""
    return f"{ROTA.get(service, 'nobody')} is on call for {service}"


@server.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False))
def page(service: str, message: str) -> str:
    """Page the person who is on call for a service."""
    PAGED.append(message)
    return f"paged {ROTA.get(service, 'nobody')}: {message}"


if __name__ == "__main__":
    if "--http" in sys.argv:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[-1]))
    else:
        server.run("stdio")
