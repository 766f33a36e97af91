"""A tool server of the tests: a gauge that shows what stands in a file. Run as `gauge_server.py FILE`."""

import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("gauge", log_level="ERROR")


@server.tool(annotations=ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True))
def value() -> dict[str, float]:
    """What the gauge shows."""
    return {"value": float(Path(sys.argv[1]).read_text())}


@server.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True))
def reset() -> str:
    """Set it to nothing."""
    return "done"


if __name__ == "__main__":
    server.run("stdio")
