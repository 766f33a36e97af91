"""FastMCP's proxy with one connected client, so that upstream sessions are used again: its fastest form."""

import asyncio
import sys

from fastmcp import Client
from fastmcp.server import create_proxy

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]


async def main() -> None:
    """Serve until told to stop."""
    async with Client(UPSTREAM) as client:
        await create_proxy(client, name="proxy").run_async(
            transport="http",
            host="127.0.0.1",
            port=PORT,
            show_banner=False,
            log_level="error",
            stateless_http=True,
            json_response=True,
            uvicorn_config={"access_log": False},
        )


if __name__ == "__main__":
    asyncio.run(main())
