"""Checkout: takes a basket to an order."""

from aiohttp import web

from kit.calls import CallFailed
from kit.service import Problem, Service, main


async def check_out(service: Service, request: web.Request) -> dict:
    """Reserve, authorise, store the order, tell the customer."""
    basket = await request.json()
    status, reserved = await service.calls.call(
        "inventory", "POST", "/reservations", {"lines": basket["lines"]}
    )
    if status == 409:
        raise Problem(409, "out of stock")
    payment = {"card": basket["card"], "amount": reserved["total"]}
    status, authorised = await service.calls.call("payments", "POST", "/authorisations", payment)
    if status == 402:
        raise Problem(402, "card declined")
    order = {"customer": basket["customer"], "area": basket["area"], "lines": basket["lines"]}
    order |= {"total": reserved["total"], "payment": authorised["authorisation"]}
    try:
        _, stored = await service.calls.call("orders", "POST", "/orders", order, timeout=2.5)
    except CallFailed as error:
        service.telemetry.log("WARN", f"checkout abandoned, payment voided: {error}")
        await service.calls.call("payments", "POST", "/voids", {"authorisation": authorised["authorisation"]})
        await service.calls.call("inventory", "POST", "/releases", {"lines": basket["lines"]})
        raise
    message = {"customer": basket["customer"], "order": stored["order"]}
    await service.calls.call("notifications", "POST", "/messages", message)
    return {"order": stored["order"], "total": reserved["total"]}


def build(service: Service) -> None:
    """Lay the routes."""
    service.route("POST", "/checkouts", check_out)


if __name__ == "__main__":
    main("checkout", build)
