"""Inventory: products, stock and reservations."""

from aiohttp import web

from kit.service import Problem, Service, main

SCHEMA = [
    "CREATE TABLE IF NOT EXISTS products (id int PRIMARY KEY, name text NOT NULL, price int NOT NULL, "
    "stock int NOT NULL)",
    "INSERT INTO products SELECT n, (ARRAY['Brass lantern','Hall lamp','Gate latch','Door hinge',"
    "'Wall sconce','Drawer knob'])[1 + n % 6] || ' No. ' || n, 450 + n * 35, 4000 "
    "FROM generate_series(1, 60) n ON CONFLICT DO NOTHING",
]


async def listing(service: Service, request: web.Request) -> dict:
    """All products."""
    async with service.db.session() as db:
        return {"products": await db.query("SELECT id, name, price FROM products ORDER BY id")}


async def product(service: Service, request: web.Request) -> dict:
    """One product with its stock."""
    async with service.db.session() as db:
        rows = await db.query("SELECT * FROM products WHERE id = %s", int(request.match_info["product"]))
    if not rows:
        raise Problem(404, "no such product")
    return rows[0]


async def reserve(service: Service, request: web.Request) -> dict:
    """Take the lines of a basket out of stock and price them."""
    lines = sorted((await request.json())["lines"], key=lambda line: line["product"])
    async with service.db.session() as db:
        rows = await db.query(
            "UPDATE products SET stock = stock - l.quantity "
            "FROM unnest(%s::int[], %s::int[]) AS l(product, quantity) "
            "WHERE id = l.product AND stock >= l.quantity RETURNING id, price * l.quantity AS price, stock",
            [line["product"] for line in lines],
            [line["quantity"] for line in lines],
        )
    if len(rows) < len(lines):
        raise Problem(409, "out of stock")
    return {"total": sum(row["price"] for row in rows)}


async def release(service: Service, request: web.Request) -> dict:
    """Put the lines of a basket back."""
    lines = (await request.json())["lines"]
    async with service.db.session() as db:
        await db.query(
            "UPDATE products SET stock = stock + l.quantity "
            "FROM unnest(%s::int[], %s::int[]) AS l(product, quantity) WHERE id = l.product",
            [line["product"] for line in lines],
            [line["quantity"] for line in lines],
        )
    return {}


def build(service: Service) -> None:
    """Lay the tables and routes."""
    service.db.schema = SCHEMA
    service.route("GET", "/products", listing)
    service.route("GET", "/products/{product}", product)
    service.route("POST", "/reservations", reserve)
    service.route("POST", "/releases", release)


if __name__ == "__main__":
    main("inventory", build)
