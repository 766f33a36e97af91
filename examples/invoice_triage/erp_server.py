"""The ERP server: suppliers, orders, receipts, invoices and the payment queue.

python erp_server.py --books FILE      MCP on stdin and stdout
"""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from erp.books import Books  # noqa: E402
from erp.types import (  # noqa: E402
    Booked,
    CreditMatch,
    InvoiceLine,
    OrderMatch,
    Payment,
    PurchaseOrder,
    Receipts,
    Review,
    SeenBefore,
    SupplierMatch,
)

from tool_servers.toolkit import READ, ToolServer, reply  # noqa: E402

PAYS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
BOOKS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)

Id = Annotated[str, Field(description="A supplier's id.", max_length=40)]
Number = Annotated[str, Field(description="The invoice's number.", min_length=1, max_length=60)]
Order = Annotated[str, Field(description="A purchase order's number.", max_length=60)]
Day = Annotated[str, Field(description="YYYY-MM-DD.", pattern=r"^\d{4}-\d{2}-\d{2}$")]
Amount = Annotated[float, Field(description="At most two decimals.", gt=0, lt=100_000_000)]
Currency = Annotated[str, Field(description="ISO 4217.", pattern=r"^[A-Z]{3}$")]
Iban = Annotated[str, Field(description="Without spaces.", max_length=34)]
Digest = Annotated[str, Field(description="SHA-256 of the document.", pattern=r"^[0-9a-f]{64}$")]
Lines = Annotated[list[InvoiceLine], Field(max_length=500)]


def build(path: Path) -> ToolServer:
    """The ERP server for one file of books."""
    server = ToolServer("erp", "Suppliers, purchase orders, goods receipts, invoices, payments.")
    books = Books(path)

    @server.tool(annotations=READ)
    def find_supplier(
        name: str, vat_id: str = "", accounts: list[str] | None = None
    ) -> Annotated[CallToolResult, SupplierMatch]:
        """Find who sent an invoice by name and VAT id, and whether the accounts on it are theirs."""
        found = books.find_supplier(name, vat_id, accounts or [])
        looks = "".join(
            f"\nlooks like {one.name} ({one.supplier}, {one.likeness})" for one in found.look_alikes
        )
        strange = f"\nunknown accounts: {', '.join(found.unknown_accounts)}" if found.unknown_accounts else ""
        head = f"{found.supplier} {found.name}" if found.known else f"{name} is not known: {found.why}"
        return reply(f"{head}{strange}{looks}", found)

    @server.tool(annotations=READ)
    def purchase_order(number: Order) -> Annotated[CallToolResult, PurchaseOrder]:
        """Read a purchase order."""
        found = books.order(number)
        lines = [
            f"{x.line} {x.article} {x.description}: {x.quantity:g} {x.unit} at {x.price:g}"
            for x in found.lines
        ]
        return reply("\n".join([f"order {number} of {found.date} to {found.supplier}", *lines]), found)

    @server.tool(annotations=READ)
    def goods_receipts(order: Order) -> Annotated[CallToolResult, Receipts]:
        """Read what arrived for a purchase order."""
        found = books.receipts(order)
        lines = [f"line {one.line}: {one.quantity:g} on {one.date}" for one in found.receipts]
        return reply("\n".join([f"{len(lines)} receipts for {order}", *lines]), found)

    @server.tool(annotations=READ)
    def match_order(
        supplier: Id, order: Order, currency: str, net: float, lines: Lines
    ) -> Annotated[CallToolResult, OrderMatch]:
        """Hold an invoice against its order, what arrived and what was invoiced before."""
        found = books.match_order(supplier, order, currency, _money(net), lines)
        text = (
            f"order {order or '(none)'}: {found.why or 'found'}; {found.unmatched} positions not ordered, "
            f"{found.over_quantity:g} too many, {found.price_over_percent:g} % too dear, "
            f"{found.net_over:.2f} over"
        )
        return reply(text, found)

    @server.tool(annotations=READ)
    def invoices_seen(
        supplier: Id, number: str, gross: float, order: Order = "", digest: str = ""
    ) -> Annotated[CallToolResult, SeenBefore]:
        """Find invoices in the books that may be the same one."""
        found = books.seen(supplier, number, _money(gross), order, digest)
        lines = [
            f"{one.number} of {one.date} over {one.gross:.2f} ({one.status}): {one.why}"
            for one in found.invoices
        ]
        return reply("\n".join([f"{found.count} seen before", *lines]), found)

    @server.tool(annotations=READ)
    def match_credit(supplier: Id, original: str, gross: float) -> Annotated[CallToolResult, CreditMatch]:
        """Hold a credit note against the invoice that it takes back."""
        found = books.match_credit(supplier, original, _money(gross))
        return reply(found.why or f"takes back {gross:.2f} of {found.original_gross:.2f}", found)

    @server.tool(annotations=PAYS)
    def queue_payment(
        supplier: Id,
        number: Number,
        date: Day,
        order: Order,
        net: Amount,
        amount: Amount,
        currency: Currency,
        iban: Iban,
        digest: Digest,
        lines: Lines,
    ) -> Annotated[CallToolResult, Payment]:
        """Queue the payment of an invoice; it leaves with the next run to the bank."""
        given = (supplier, number, date, order, _money(net), _money(amount), currency, iban, digest, lines)
        done = books.queue_payment(*given)
        again = " (it was queued before)" if done.already else ""
        text = (
            f"payment {done.payment}: {done.amount:.2f} {currency} to {iban} for {supplier} {number}{again}"
        )
        return reply(text, done)

    @server.tool(annotations=BOOKS)
    def book_credit(
        supplier: Id,
        number: Number,
        date: Day,
        original: str,
        currency: Currency,
        net: Amount,
        gross: Amount,
        digest: Digest,
    ) -> Annotated[CallToolResult, Booked]:
        """Book a credit note against its invoice."""
        done = books.book_credit(
            supplier, number, date, original, currency, _money(net), _money(gross), digest
        )
        return reply(f"credited {done.amount:.2f} {currency} of {supplier} {number} against {original}", done)

    @server.tool(annotations=BOOKS)
    def send_to_review(
        digest: Digest, reasons: Annotated[list[str], Field(max_length=50)]
    ) -> Annotated[CallToolResult, Review]:
        """Put an invoice before a person, with the reasons."""
        done = books.review(digest, [reason[:300] for reason in reasons])
        return reply("\n".join([f"waits for a person since {done.opened}", *done.reasons]), done)

    return server


def _money(amount: float) -> Decimal:
    return Decimal(str(amount))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--books", type=Path, required=True)
    given = parser.parse_args()
    if not given.books.is_file():
        parser.error(f"no file {given.books}: make one with generate.py")
    build(given.books).run("stdio")


if __name__ == "__main__":
    main()
