"""The books: questions to them, and the few entries that may be made. Amounts are decimal text in SQLite."""

from __future__ import annotations

import difflib
import json
import re
import sqlite3
import statistics
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from erp.types import (
    Booked,
    CreditMatch,
    InvoiceLine,
    LineMatch,
    LookAlike,
    OrderLine,
    OrderMatch,
    Payment,
    PurchaseOrder,
    Receipt,
    Receipts,
    Review,
    Seen,
    SeenBefore,
    SupplierMatch,
)
from tool_servers.errors import BadInput, NotFound

CLOSE_NAME = 0.82
CLOSE_WORDS = 0.6
CENT = Decimal("0.01")
SCHEMA = Path(__file__).with_name("schema.sql")


class Books:
    """The ERP's SQLite file; every entry is one transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find_supplier(self, name: str, vat_id: str, accounts: Sequence[str]) -> SupplierMatch:
        """Who that is by name and VAT id, and whether the accounts are theirs."""
        with self._open() as books:
            rows = books.execute("SELECT * FROM supplier").fetchall()
            by_name = [row for row in rows if same_name(row["name"], name)]
            by_vat = [row for row in rows if vat_id and bare(row["vat_id"]) == bare(vat_id)]
            row = next((one for one in by_name if one in by_vat), None)
            found = row or (by_vat or by_name or [None])[0]
            why = _who(row, by_name, by_vat)
            known = row is not None and not why
            ours = self._accounts(books, found["id"]) if found else set()
            strange = [iban for iban in accounts if iban not in ours]
            return SupplierMatch(
                known=known,
                supplier=found["id"] if found and known else "",
                name=found["name"] if found and known else "",
                why=why,
                currency=found["currency"] if found else "",
                terms_days=found["terms_days"] if found else 0,
                accounts_known=known and not strange,
                unknown_accounts=strange,
                usual_gross=self._usual(books, found["id"]) if found and known else 0.0,
                usual_vat_percent=self._usual_vat(books, found["id"]) if found and known else -1.0,
                look_alikes=_look_alikes(rows, name) if not known else [],
            )

    def order(self, number: str) -> PurchaseOrder:
        """An order as it was placed; NotFound."""
        with self._open() as books:
            row = books.execute("SELECT * FROM purchase_order WHERE number = ?", (number,)).fetchone()
            if row is None:
                raise NotFound("order", number, (), "purchase order")
            lines = [_order_line(line) for line in self._order_lines(books, number)]
            return PurchaseOrder(
                number=number,
                supplier=row["supplier"],
                date=row["date"],
                currency=row["currency"],
                lines=lines,
            )

    def receipts(self, number: str) -> Receipts:
        """What arrived for an order."""
        with self._open() as books:
            rows = books.execute(
                "SELECT * FROM goods_receipt WHERE purchase_order = ? ORDER BY id", (number,)
            )
            receipts = [Receipt(line=r["line"], quantity=float(r["quantity"]), date=r["date"]) for r in rows]
        return Receipts(order=number, receipts=receipts)

    def match_order(
        self, supplier: str, number: str, currency: str, net: Decimal, lines: Sequence[InvoiceLine]
    ) -> OrderMatch:
        """The positions beside the order's lines, what arrived, and what was invoiced before."""
        with self._open() as books:
            return self._match(books, supplier, number, currency, net, lines)

    def seen(self, supplier: str, number: str, gross: Decimal, order: str, digest: str) -> SeenBefore:
        """What in the books has the same document or (nearly) the same number, or looks like a replay."""
        with self._open() as books:
            rows = books.execute(
                "SELECT * FROM invoice WHERE supplier = ? ORDER BY date", (supplier,)
            ).fetchall()
        found = []
        for row in rows:
            if why := _same_invoice(row, number, gross, order, digest):
                found.append(
                    Seen(
                        number=row["number"],
                        date=row["date"],
                        gross=float(row["gross"]),
                        order=row["purchase_order"],
                        status=row["status"],
                        why=why,
                    )
                )
        return SeenBefore(count=len(found), invoices=found)

    def match_credit(self, supplier: str, original: str, gross: Decimal) -> CreditMatch:
        """A credit note beside the invoice that it names."""
        with self._open() as books:
            return self._match_credit(books, supplier, original, gross)

    def queue_payment(
        self,
        supplier: str,
        number: str,
        day: str,
        order: str,
        net: Decimal,
        amount: Decimal,
        currency: str,
        iban: str,
        digest: str,
        lines: Sequence[InvoiceLine],
    ) -> Payment:
        """Queue a payment; whatever the books contradict is refused here too, in the same transaction."""
        with self._open(write=True) as books:
            if earlier := self._queued(books, supplier, number, digest, amount):
                return earlier
            row = books.execute(
                "SELECT * FROM supplier WHERE id = ? AND status = 'active'", (supplier,)
            ).fetchone()
            if row is None:
                raise NotFound("supplier", supplier, (), "active supplier")
            if iban not in self._accounts(books, supplier):
                raise BadInput("iban", iban, f"an account that the books have for {supplier}")
            match = self._match(books, supplier, order, currency, net, lines)
            if why := _why_not(match):
                raise BadInput("order", order, f"an order that covers the invoice: {why}")
            due = (date.fromisoformat(day) + timedelta(days=row["terms_days"])).isoformat()
            invoice = self._enter(
                books, supplier, number, "invoice", day, order, currency, net, amount, digest
            )
            for position, line in zip(match.lines, lines, strict=True):
                books.execute(
                    "INSERT INTO invoice_line VALUES (?, ?, ?, ?, ?)",
                    (invoice, position.line, str(line.quantity), str(line.price), str(line.amount)),
                )
            payment = books.execute(
                "INSERT INTO payment (invoice, iban, amount, currency, due, queued) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                (invoice, iban, f"{amount:.2f}", currency, due, _now()),
            ).fetchone()["id"]
        return Payment(
            payment=payment,
            supplier=supplier,
            number=number,
            amount=float(amount),
            currency=currency,
            iban=iban,
            due=due,
            already=False,
        )

    def book_credit(
        self,
        supplier: str,
        number: str,
        day: str,
        original: str,
        currency: str,
        net: Decimal,
        gross: Decimal,
        digest: str,
    ) -> Booked:
        """Book a credit note against its invoice."""
        with self._open(write=True) as books:
            row = books.execute(
                "SELECT * FROM invoice WHERE supplier = ? AND number = ?", (supplier, number)
            ).fetchone()
            if row is not None and row["digest"] == digest:
                return Booked(supplier=supplier, number=number, amount=float(row["gross"]), already=True)
            match = self._match_credit(books, supplier, original, gross)
            if not match.known or match.over > 0:
                raise BadInput(
                    "original", original, match.why or "an invoice of which as much is left to take back"
                )
            self._enter(books, supplier, number, "credit_note", day, original, currency, net, gross, digest)
        return Booked(supplier=supplier, number=number, amount=float(gross), already=False)

    def review(self, digest: str, reasons: Sequence[str]) -> Review:
        """Put an invoice before a person; told twice, it is there once."""
        with self._open(write=True) as books:
            books.execute(
                "INSERT INTO review VALUES (?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET reasons = excluded.reasons",
                (digest, json.dumps(list(reasons)), _now()),
            )
            row = books.execute("SELECT * FROM review WHERE digest = ?", (digest,)).fetchone()
        return Review(digest=digest, reasons=list(reasons), opened=row["opened"])

    def _match(
        self,
        books: sqlite3.Connection,
        supplier: str,
        number: str,
        currency: str,
        net: Decimal,
        lines: Sequence[InvoiceLine],
    ) -> OrderMatch:
        order = books.execute("SELECT * FROM purchase_order WHERE number = ?", (number,)).fetchone()
        known = order is not None and order["supplier"] == supplier
        why = "" if known else "no such order" if order is None else "the order is another supplier's"
        ordered = self._order_lines(books, number) if known else []
        open_ = {row["line"]: self._open_quantity(books, number, row["line"]) for row in ordered}
        matches, expected, left = [], Decimal(0), list(ordered)
        for line in lines:
            row = _best(left, line)
            if row is not None:
                left.remove(row)
            match = _line_match(line, row, open_)
            matches.append(match)
            expected += Decimal(str(match.quantity)) * _net_price(row) if row is not None else Decimal(0)
        expected = expected.quantize(CENT, ROUND_HALF_UP)
        return OrderMatch(
            known=known,
            why=why,
            currency_agrees=known and order["currency"] == currency,
            lines=matches,
            unmatched=sum(one.line == 0 for one in matches),
            over_quantity=max((one.over_quantity for one in matches), default=0.0),
            price_over_percent=max((one.price_over_percent for one in matches), default=0.0),
            expected_net=float(expected),
            net_over=float(net - expected) if known else float(net),
        )

    def _open_quantity(self, books: sqlite3.Connection, order: str, line: int) -> Decimal:
        received = books.execute(
            "SELECT quantity FROM goods_receipt WHERE purchase_order = ? AND line = ?", (order, line)
        ).fetchall()
        invoiced = books.execute(
            "SELECT l.quantity FROM invoice_line l JOIN invoice i ON i.id = l.invoice "
            "WHERE i.purchase_order = ? AND i.kind = 'invoice' AND l.line = ?",
            (order, line),
        ).fetchall()
        arrived = sum((Decimal(row["quantity"]) for row in received), Decimal(0))
        return arrived - sum((Decimal(row["quantity"]) for row in invoiced), Decimal(0))

    def _match_credit(
        self, books: sqlite3.Connection, supplier: str, original: str, gross: Decimal
    ) -> CreditMatch:
        row = books.execute(
            "SELECT * FROM invoice WHERE supplier = ? AND number = ? AND kind = 'invoice'",
            (supplier, original),
        ).fetchone()
        if row is None:
            why = "the books have no such invoice of this supplier"
            return CreditMatch(
                known=False, why=why, original_gross=0.0, credited_before=0.0, over=float(gross)
            )
        credited = sum(
            Decimal(one["gross"])
            for one in books.execute(
                "SELECT gross FROM invoice "
                "WHERE supplier = ? AND kind = 'credit_note' AND purchase_order = ?",
                (supplier, original),
            )
        )
        over = gross - (Decimal(row["gross"]) - credited)
        return CreditMatch(
            known=True,
            why="more is taken back than is left of the invoice" if over > 0 else "",
            original_gross=float(row["gross"]),
            credited_before=float(credited),
            over=float(over),
        )

    def _queued(
        self, books: sqlite3.Connection, supplier: str, number: str, digest: str, amount: Decimal
    ) -> Payment | None:
        row = books.execute(
            "SELECT i.digest, p.* FROM invoice i LEFT JOIN payment p ON p.invoice = i.id "
            "WHERE i.supplier = ? AND i.number = ?",
            (supplier, number),
        ).fetchone()
        if row is None:
            return None
        if row["digest"] != digest or row["amount"] is None or Decimal(row["amount"]) != amount:
            raise BadInput(
                "number", number, f"a number that {supplier} has not used: this one is in the books"
            )
        return Payment(
            payment=row["id"],
            supplier=supplier,
            number=number,
            amount=float(row["amount"]),
            currency=row["currency"],
            iban=row["iban"],
            due=row["due"],
            already=True,
        )

    @staticmethod
    def _enter(
        books: sqlite3.Connection,
        supplier: str,
        number: str,
        kind: str,
        day: str,
        order: str,
        currency: str,
        net: Decimal,
        gross: Decimal,
        digest: str,
    ) -> int:
        status = "queued" if kind == "invoice" else "credited"
        try:
            return books.execute(
                "INSERT INTO invoice (supplier, number, kind, date, purchase_order, currency, net, gross, "
                "status, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (supplier, number, kind, day, order, currency, f"{net:.2f}", f"{gross:.2f}", status, digest),
            ).fetchone()["id"]
        except sqlite3.IntegrityError as error:
            raise BadInput("number", number, f"a number that {supplier} has not used: {error}") from error

    @staticmethod
    def _accounts(books: sqlite3.Connection, supplier: str) -> set[str]:
        rows = books.execute("SELECT iban FROM bank_account WHERE supplier = ?", (supplier,))
        return {row["iban"] for row in rows}

    @staticmethod
    def _usual(books: sqlite3.Connection, supplier: str) -> float:
        rows = books.execute(
            "SELECT gross FROM invoice WHERE supplier = ? AND kind = 'invoice' AND status = 'paid'",
            (supplier,),
        )
        amounts = [float(row["gross"]) for row in rows]
        return statistics.median(amounts) if amounts else 0.0

    @staticmethod
    def _usual_vat(books: sqlite3.Connection, supplier: str) -> float:
        rows = books.execute(
            "SELECT net, gross FROM invoice WHERE supplier = ? AND kind = 'invoice' AND status = 'paid'",
            (supplier,),
        )
        rates = [float(row["gross"]) / float(row["net"]) - 1 for row in rows if float(row["net"])]
        return round(statistics.median(rates) * 100, 2) if rates else -1.0

    @staticmethod
    def _order_lines(books: sqlite3.Connection, number: str) -> list[sqlite3.Row]:
        return books.execute(
            "SELECT * FROM order_line WHERE purchase_order = ? ORDER BY line", (number,)
        ).fetchall()

    @contextmanager
    def _open(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        books = sqlite3.connect(self._path, timeout=20, isolation_level=None)
        try:
            books.row_factory = sqlite3.Row
            books.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield books
            books.execute("COMMIT")
        finally:
            books.close()  # what was not committed is undone


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same but for capitals and spaces; accents and every other sign count."""
    return _plain(one) == _plain(other)


def bare(text: str) -> str:
    """Letters and digits only, in capitals."""
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _who(row: sqlite3.Row | None, by_name: list[sqlite3.Row], by_vat: list[sqlite3.Row]) -> str:
    if row is not None:
        return "" if row["status"] == "active" else f"the supplier is {row['status']}"
    if by_vat:
        return f"the VAT id is that of {by_vat[0]['name']}, the name is not"
    return "the name is known, the VAT id is not theirs" if by_name else "neither name nor VAT id is known"


def _look_alikes(rows: Sequence[sqlite3.Row], name: str) -> list[LookAlike]:
    found = []
    for row in rows:
        likeness = difflib.SequenceMatcher(None, _plain(row["name"]), _plain(name)).ratio()
        if likeness >= CLOSE_NAME:
            found.append(LookAlike(supplier=row["id"], name=row["name"], likeness=round(likeness, 3)))
    return sorted(found, key=lambda one: -one.likeness)[:3]


def _best(rows: list[sqlite3.Row], line: InvoiceLine) -> sqlite3.Row | None:
    """The line of the order that a position is: by article, else by the likest words."""
    for row in rows:
        if line.article and bare(row["article"]) == bare(line.article):
            return row
    named = [row for row in rows if bare(row["article"]) in bare(line.words)]
    if named:
        return named[0]
    if line.article:
        return None
    likeness = {
        row["line"]: difflib.SequenceMatcher(None, _plain(row["description"]), _plain(line.words)).ratio()
        for row in rows
    }
    best = max(rows, key=lambda row: likeness[row["line"]], default=None)
    return best if best is not None and likeness[best["line"]] >= CLOSE_WORDS else None


def _net_price(row: sqlite3.Row) -> Decimal:
    return Decimal(row["price"]) * (1 - Decimal(row["discount"]) / 100)


def _line_match(line: InvoiceLine, row: sqlite3.Row | None, open_: dict[int, Decimal]) -> LineMatch:
    asked, quantity = Decimal(str(line.amount)), Decimal(str(line.quantity))
    price = asked / quantity if quantity else asked
    ordered = _net_price(row) if row is not None else Decimal(0)
    left = open_[row["line"]] if row is not None else Decimal(0)
    over = max(Decimal(0), asked - (quantity * ordered).quantize(CENT, ROUND_HALF_UP))
    base = quantity * ordered
    return LineMatch(
        line=row["line"] if row is not None else 0,
        words=line.words[:200],
        quantity=line.quantity,
        open=float(left),
        price=float(round(price, 4)),
        ordered_price=float(round(ordered, 4)),
        over_quantity=float(max(Decimal(0), quantity - left)),
        price_over_percent=float(round(over / base * 100, 2)) if base else 100.0,
    )


def _why_not(match: OrderMatch) -> str:
    if not match.known:
        return match.why
    if not match.currency_agrees:
        return "the currency is another"
    if match.unmatched or not match.lines:
        return f"{match.unmatched} positions were not ordered"
    return "more is asked than was received and not yet invoiced" if match.over_quantity > 0 else ""


def _same_invoice(row: sqlite3.Row, number: str, gross: Decimal, order: str, digest: str) -> str:
    if digest and row["digest"] == digest:
        return "the same document"
    one, other = bare(row["number"]), bare(number)
    if one == other:
        return "the same number"
    if (
        row["kind"] == "invoice"
        and order
        and row["purchase_order"] == order
        and Decimal(row["gross"]) == gross
    ):
        return "the same order and amount"
    if len(one) >= 4 and (other.startswith(one) or one.startswith(other)) and Decimal(row["gross"]) == gross:
        return "nearly the same number and the same amount"
    return ""


def _order_line(row: sqlite3.Row) -> OrderLine:
    return OrderLine(
        line=row["line"],
        article=row["article"],
        description=row["description"],
        unit=row["unit"],
        quantity=float(row["quantity"]),
        price=float(row["price"]),
        discount=float(row["discount"]),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
