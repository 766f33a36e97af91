"""Notifications: messages to customers."""

import asyncio
import random

from aiohttp import web

from kit.service import Service, main

queue: asyncio.Queue[dict] = asyncio.Queue()


async def accept(service: Service, request: web.Request) -> dict:
    """Take a message to be sent later."""
    queue.put_nowait(await request.json())
    return {"queued": queue.qsize()}


async def deliver(service: Service) -> None:
    """Send what is queued, one message at a time."""
    while True:
        message = await queue.get()
        await asyncio.sleep(random.uniform(0.01, 0.03))
        service.telemetry.counters["messages_sent_total"] += 1
        if message["order"] % 10 == 0:
            service.telemetry.log("INFO", f"confirmation of order {message['order']} sent")


def build(service: Service) -> None:
    """Lay the routes and the sender."""
    service.route("POST", "/messages", accept)
    service.background.append(deliver)


if __name__ == "__main__":
    main("notifications", build)
