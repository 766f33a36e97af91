"""Orders: stores them and shows a customer's history."""

from aiohttp import web

from kit.service import Service, main

SCHEMA = [
    "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, customer int NOT NULL, area text NOT NULL, "
    "total int NOT NULL, payment text NOT NULL, stored_at timestamptz NOT NULL DEFAULT now())",
    "CREATE INDEX IF NOT EXISTS orders_customer ON orders (customer)",
    "CREATE TABLE IF NOT EXISTS order_lines (order_id bigint NOT NULL, product int NOT NULL, "
    "quantity int NOT NULL)",
]


async def store(service: Service, request: web.Request) -> dict:
    """Store one order with its lines."""
    order = await request.json()
    async with service.db.session() as db:
        rows = await db.query(
            "INSERT INTO orders (customer, area, total, payment) VALUES (%s, %s, %s, %s) RETURNING id",
            order["customer"],
            order["area"],
            order["total"],
            order["payment"],
        )
        number = rows[0]["id"]
        await db.query(
            "INSERT INTO order_lines SELECT %s, * FROM unnest(%s::int[], %s::int[])",
            number,
            [line["product"] for line in order["lines"]],
            [line["quantity"] for line in order["lines"]],
        )
    service.telemetry.log("INFO", f"order {number} stored")
    return {"order": number}


async def history(service: Service, request: web.Request) -> dict:
    """A customer's orders, newest first."""
    async with service.db.session() as db:
        orders = await db.query(
            "SELECT id, total, stored_at::text FROM orders WHERE customer = %s ORDER BY id DESC",
            int(request.query["customer"]),
        )
    return {"orders": orders}


def build(service: Service) -> None:
    """Lay the tables and routes."""
    service.db.schema = SCHEMA
    service.route("POST", "/orders", store)
    service.route("GET", "/orders", history)


if __name__ == "__main__":
    main("orders", build)
