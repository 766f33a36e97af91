"""The official SDK as a plain proxy: its server in front, one shared client behind."""

import sys
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server.lowlevel import Server

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]


async def main() -> None:
    """Serve until told to stop."""
    command = [str(Path(__file__).with_name("upstream.py")), "--stdio"]
    behind: Any = (
        StdioServerParameters(command=sys.executable, args=command) if UPSTREAM == "stdio" else UPSTREAM
    )
    async with Client(behind) as client:

        async def tools(context: Any, params: Any) -> Any:
            return await client.list_tools()

        async def call(context: Any, params: Any) -> Any:
            return await client.call_tool(params.name, params.arguments or {})

        server = Server("proxy", version="1", on_list_tools=tools, on_call_tool=call)
        app = server.streamable_http_app(stateless_http=True, json_response=True)
        await uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="warning", access_log=False)).serve()


if __name__ == "__main__":
    uvloop.run(main())
