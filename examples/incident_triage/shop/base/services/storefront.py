"""The storefront: what a browser sees."""

from aiohttp import web

from kit.service import Problem, Service, main


async def home(service: Service, request: web.Request) -> dict:
    """The front page."""
    _, products = await service.calls.call("inventory", "GET", "/products")
    return {"title": "Lantern & Latch", "products": products["products"][:8]}


async def product(service: Service, request: web.Request) -> dict:
    """One product's page."""
    status, found = await service.calls.call("inventory", "GET", f"/products/{request.match_info['product']}")
    if status == 404:
        raise Problem(404, "there is no such product")
    return found


async def account(service: Service, request: web.Request) -> dict:
    """A customer's earlier orders."""
    customer = request.match_info["customer"]
    _, found = await service.calls.call("orders", "GET", f"/orders?customer={customer}")
    return {"customer": customer, "orders": found["orders"]}


async def checkout(service: Service, request: web.Request) -> dict:
    """Buy what is in the basket."""
    basket = await request.json()
    status, done = await service.calls.call("checkout", "POST", "/checkouts", basket, timeout=5.0)
    if status == 402:
        raise Problem(402, "the card was declined")
    if status == 409:
        raise Problem(409, "out of stock")
    return {"order": done["order"], "total": done["total"]}


def build(service: Service) -> None:
    """Lay the routes."""
    service.route("GET", "/", home)
    service.route("GET", "/product/{product}", product)
    service.route("GET", "/account/{customer}", account)
    service.route("POST", "/checkout", checkout)


if __name__ == "__main__":
    main("storefront", build)
