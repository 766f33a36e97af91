"""The network between the shop and its database: forwards bytes to a socket, a few milliseconds late.

Everything runs on one machine, where a query takes no time at all; in production the database is
another machine. Run as a process of its own: `python link.py SOCKET DELAY_MS`; it prints its port.
"""

import asyncio
import sys


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Copy one direction, every piece late by the delay and in order."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await pieces.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                return writer.close()
            writer.write(data)

    delivery = asyncio.create_task(deliver())
    try:
        while data := await reader.read(65536):
            pieces.put_nowait((loop.time() + delay, data))
    except ConnectionError as error:
        print(f"link: {error}", file=sys.stderr)
    pieces.put_nowait((loop.time() + delay, b""))
    await delivery


async def main(path: str, delay: float) -> None:
    """Serve until the process is stopped."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(forward(reader, far_writer, delay), forward(far_reader, writer, delay))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]) / 1000))
