"""Payments: authorises cards with the processor."""

import asyncio
import random

from aiohttp import web

from kit.service import Problem, Service, main


async def ask_processor(service: Service, card: str) -> bool:
    """Whether the card processor agrees; it takes its time, as processors do."""
    with service.telemetry.span("card processor", kind="client", peer="card-processor"):
        await asyncio.sleep(random.lognormvariate(-3.4, 0.35))
    return not card.endswith("13")


async def authorise(service: Service, request: web.Request) -> dict:
    """Hold an amount on a card."""
    wanted = await request.json()
    if not await ask_processor(service, wanted["card"]):
        service.telemetry.log(
            "INFO", f"card ending in {wanted['card'][-2:]} declined", amount=wanted["amount"]
        )
        raise Problem(402, "card declined")
    number = f"pay-{random.getrandbits(32):08x}"
    service.telemetry.log("INFO", f"authorised {wanted['amount'] / 100} EUR")
    return {"authorisation": number}


async def void(service: Service, request: web.Request) -> dict:
    """Give a held amount back."""
    body = await request.json()
    service.telemetry.log("INFO", f"voided {body['authorisation']}")
    return {}


def build(service: Service) -> None:
    """Lay the routes."""
    service.route("POST", "/authorisations", authorise)
    service.route("POST", "/voids", void)


if __name__ == "__main__":
    main("payments", build)
