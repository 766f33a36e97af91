"""Makes a mailbox of invoices, the ERP's books that they meet, and the truth about each.

    python examples/invoice_triage/generate.py OUT --seed 7

OUT/inbox/*.pdf are the invoices, OUT/erp.db the books; OUT/truth.json is for the evaluation alone. Settings,
tool servers, policy and workflow are put beside them, so that OUT is ready for `pointsman workflows run`.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from generator.kinds import DISCREPANT, HOSTILE, make_pieces, orders_needed  # noqa: E402
from generator.layouts import LAYOUTS  # noqa: E402
from generator.world import Invoice, World, make_world  # noqa: E402
from workspace import lay_out  # noqa: E402


def generate(
    out: Path, seed: int, *, honest: int = 150, credits: int = 10, each: int = 2, hostile: int = 2
) -> None:
    """Write a mailbox of honest invoices and credit notes; `each` and `hostile` are so many of every kind."""
    rng = random.Random(seed)
    names = list(LAYOUTS)
    rng.shuffle(names)
    world = make_world(rng, 36, orders_needed(honest, each, hostile), names)
    pieces = make_pieces(rng, world, honest, credits, each, hostile)
    inbox = out / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    truth = {}
    for index, piece in enumerate(pieces, 1):
        name = f"{piece.day}-{index:04d}.pdf"
        (inbox / name).write_bytes(piece.pdf)
        truth[name] = piece.truth()
    write_books(out / "erp.db", world)
    (out / "truth.json").write_text(json.dumps(truth, indent=1, ensure_ascii=False), encoding="utf-8")


def write_books(path: Path, world: World) -> None:
    """The ERP as it stands before the mailbox is read."""
    path.unlink(missing_ok=True)
    books = sqlite3.connect(path)
    with books:
        books.executescript((HERE / "erp" / "schema.sql").read_text())
        for one in world.suppliers:
            books.execute(
                "INSERT INTO supplier VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'active')",
                (one.id, one.name, one.street, one.city, one.country, one.vat_id, one.currency, one.terms),
            )
            books.execute("INSERT INTO bank_account VALUES (?, ?, ?)", (one.id, one.iban, one.bic))
        for order in world.orders.values():
            day = order.date.isoformat()
            books.execute(
                "INSERT INTO purchase_order VALUES (?, ?, ?, ?)",
                (order.number, order.supplier, day, order.currency),
            )
            arrived = (order.date + timedelta(days=2)).isoformat()
            for index, (line, received) in enumerate(zip(order.lines, order.received, strict=True), 1):
                article = line.article
                books.execute(
                    "INSERT INTO order_line VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        order.number,
                        index,
                        article.code,
                        article.words,
                        article.unit,
                        *tuple(map(str, (line.quantity, line.price, line.discount))),
                    ),
                )
                if received:
                    books.execute(
                        "INSERT INTO goods_receipt (purchase_order, line, quantity, date) "
                        "VALUES (?, ?, ?, ?)",
                        (order.number, index, str(received), arrived),
                    )
        for invoice in world.paid:
            _write_paid(books, invoice)
    books.close()


def _write_paid(books: sqlite3.Connection, invoice: Invoice) -> None:
    row = books.execute(
        "INSERT INTO invoice (supplier, number, kind, date, purchase_order, currency, net, gross, status) "
        "VALUES (?, ?, 'invoice', ?, ?, ?, ?, ?, 'paid') RETURNING id",
        (
            invoice.supplier.id,
            invoice.number,
            invoice.date.isoformat(),
            invoice.order,
            invoice.supplier.currency,
            f"{invoice.net:.2f}",
            f"{invoice.gross:.2f}",
        ),
    ).fetchone()
    for index, line in enumerate(invoice.lines, 1):
        books.execute(
            "INSERT INTO invoice_line VALUES (?, ?, ?, ?, ?)",
            (row[0], index, str(line.quantity), str(line.price), str(line.amount)),
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Example: generate.py out --seed 7"
    )
    parser.add_argument("out", type=Path, help="a directory, made if missing")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another company and mailbox")
    parser.add_argument("--honest", type=int, default=150, help="invoices in order")
    parser.add_argument("--credits", type=int, default=10, help="credit notes in order")
    parser.add_argument(
        "--each", type=int, default=2, help=f"of each of {len(DISCREPANT)} kinds of discrepancy"
    )
    parser.add_argument("--hostile", type=int, default=2, help=f"of each of {len(HOSTILE)} hostile kinds")
    given = parser.parse_args()
    if given.out.is_dir() and any(given.out.iterdir()):
        parser.error(f"{given.out} is not empty: name a new directory")
    generate(
        given.out,
        given.seed,
        honest=given.honest,
        credits=given.credits,
        each=given.each,
        hostile=given.hostile,
    )
    lay_out(given.out)
    print(f"{len(list((given.out / 'inbox').glob('*.pdf')))} invoices in {given.out / 'inbox'}")


if __name__ == "__main__":
    main()
