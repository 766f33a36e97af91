"""A tool server of the tests: `look` and `mend` note every run, and stop at a door that a test closed.

Run as `python things_server.py FOLDER`; it speaks MCP on stdin and stdout.
"""

import asyncio
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

FOLDER = Path(sys.argv[1])
server = MCPServer("things", log_level="ERROR")


@server.tool(annotations=ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True))
async def look(n: int) -> str:
    """Look at thing number n."""
    with (FOLDER / "looks.log").open("a") as log:
        log.write(f"{n}\n")
    while (FOLDER / f"door-{n}").exists():  # noqa: ASYNC110 (another process opens it)
        await asyncio.sleep(0.05)
    return f"thing {n} is broken since 2026-01-31T09:12:00Z"


@server.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False))
async def mend(n: int) -> str:
    """Mend thing number n."""
    with (FOLDER / "mends.log").open("a") as log:
        log.write(f"{n}\n")
    while (FOLDER / f"door-mend-{n}").exists():  # noqa: ASYNC110 (another process opens it)
        await asyncio.sleep(0.05)
    return f"thing {n} was mended"


if __name__ == "__main__":
    server.run("stdio")
