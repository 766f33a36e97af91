"""A whole invoice from the bytes of a PDF: what it says, and what does not fit together."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from documents.attached import ATTACHED_FIELDS, attached_values, has_active_content
from documents.fields import Buyer, Found, Reading, read_fields, settle_sums
from documents.labels import ORDERS_TO_MACHINES
from documents.layout import Row, rows
from documents.lines import Position, positions
from documents.page import Run, UnreadablePage, layers_off, read_page
from documents.pointed import differing, fill, found_there
from documents.values import decimal_mark, flat, fold, iban_is_valid

MOST_PAGES = 30
MOST_BYTES = 10_000_000
HIDDEN_LETTERS = 3
NEEDED = ("supplier", "number", "date", "gross", "net", "currency")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something a person should look at: a stable code, what it is, and the page (0 = the file)."""

    code: str
    what: str
    page: int = 0


@dataclass
class Invoice:
    """What an invoice says; amounts of a credit note are positive here, however they were printed."""

    digest: str
    pages: int = 0
    kind: str = "invoice"
    facts: dict[str, Found] = field(default_factory=dict)
    lines: list[Position] = field(default_factory=list)
    rebate: Decimal = Decimal(0)
    freight: Decimal = Decimal(0)
    accounts: list[str] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    text: str = ""


def read_invoice(pdf: bytes, buyer: Buyer, pointed: Mapping[str, str] | None = None) -> Invoice:
    """Read an invoice; whatever hinders that, or does not fit, is a doubt and never an exception.

    `pointed` has, by field, the words of the page that another reader found it in.
    """
    invoice = Invoice(hashlib.sha256(pdf).hexdigest())
    if len(pdf) > MOST_BYTES:
        return _unreadable(invoice, f"{len(pdf)} bytes; at most {MOST_BYTES} are read")
    try:
        reader = PdfReader(io.BytesIO(pdf))
        if reader.is_encrypted:
            return _unreadable(invoice, "it is encrypted")
        invoice.pages = len(reader.pages)
        if invoice.pages > MOST_PAGES:
            return _unreadable(invoice, f"{invoice.pages} pages; at most {MOST_PAGES} are read")
        off = layers_off(reader.root_object)
        runs = [read_page(page, off) for page in reader.pages]
        attached = attached_values(reader)
        active = has_active_content(reader)
    except (
        PyPdfError,
        UnreadablePage,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        return _unreadable(invoice, f"{type(error).__name__}: {str(error)[:200]}")
    _seen(invoice, runs, buyer, pointed or {})
    if active:
        invoice.doubts.append(Doubt("active_content", f"the file holds {active}, which no invoice needs"))
    _compare_attached(invoice, attached)
    return invoice


def _unreadable(invoice: Invoice, why: str) -> Invoice:
    invoice.doubts.append(Doubt("unreadable", f"the file cannot be read: {why}"))
    return invoice


def _seen(invoice: Invoice, pages: list[list[Run]], buyer: Buyer, pointed: Mapping[str, str]) -> None:
    table: list[Row] = []
    for page, runs in enumerate(pages, 1):
        _hidden(invoice, runs, page)
        table += [row for row in rows([run for run in runs if not run.hidden], page) if row]
    invoice.text = "\n".join("   ".join(segment.text for segment in row) for row in table)
    if not invoice.text.strip():
        invoice.doubts.append(Doubt("no_text", "there is no text to read: a picture, or an empty page"))
        return
    mark = decimal_mark(segment.text for row in table for segment in row)
    reading = read_fields(table, mark, buyer)
    other = found_there(table, pointed, mark)
    fill(reading, other)
    invoice.kind = "credit_note" if reading.credit else "invoice"
    invoice.lines = positions(table, mark)
    total = sum((abs(line.amount) for line in invoice.lines), Decimal(0))
    invoice.facts = {**reading.facts, **{k: _unsigned(v) for k, v in settle_sums(reading).items()}}
    invoice.doubts += [Doubt("readers_differ", what) for what in differing(invoice.facts, other)]
    invoice.accounts = [one.value for one in reading.accounts]
    invoice.rebate, invoice.freight = _one(reading, "rebate"), _one(reading, "freight")
    _instructions(invoice, table)
    if not reading.ours:
        invoice.doubts.append(Doubt("not_ours", f"{buyer.name} does not stand on it: for somebody else?"))
    _complete(invoice)
    _arithmetic(invoice, total)
    _check_accounts(invoice)


def _hidden(invoice: Invoice, runs: list[Run], page: int) -> None:
    reasons: dict[str, int] = {}
    for run in runs:
        letters = sum(sign.isalnum() for sign in run.text)
        if run.hidden and letters >= HIDDEN_LETTERS:
            reasons[run.hidden] = reasons.get(run.hidden, 0) + letters
    for why, letters in reasons.items():
        what = f"{letters} letters and digits that a reader does not see ({why}); they were left out"
        invoice.doubts.append(Doubt("hidden_text", what, page))


def _instructions(invoice: Invoice, table: list[Row]) -> None:
    """Words on the page that speak to a machine; lines are joined, since sentences go on in the next."""
    lines = [(fold(segment.text), segment.page) for row in table for segment in row]
    for index, (line, page) in enumerate(lines):
        both = f"{line} {lines[index + 1][0]}" if index + 1 < len(lines) else line
        if ORDERS_TO_MACHINES.search(both):
            invoice.doubts.append(Doubt("instructions", "words on the page speak to a machine", page))
            return


def _complete(invoice: Invoice) -> None:
    missing = [name for name in NEEDED if name not in invoice.facts]
    if missing:
        invoice.doubts.append(Doubt("incomplete", f"not found on the page: {', '.join(missing)}"))
    if not invoice.lines:
        invoice.doubts.append(Doubt("no_lines", "no position could be read"))


def _arithmetic(invoice: Invoice, total: Decimal) -> None:
    for index, line in enumerate(invoice.lines, 1):
        if not line.fits:
            what = f"position {index}: {line.quantity} x {line.price} is not {line.amount}"
            invoice.doubts.append(Doubt("arithmetic", what, line.page))
    sums = {
        name: Decimal(invoice.facts[name].value) for name in ("net", "vat", "gross") if name in invoice.facts
    }
    expected = total - invoice.rebate + invoice.freight
    if "net" in sums and invoice.lines and expected != sums["net"]:
        what = f"the positions make {expected}, the page says {sums['net']} net"
        invoice.doubts.append(Doubt("arithmetic", what))
    if {"net", "gross"} <= sums.keys() and sums["net"] + sums.get("vat", Decimal(0)) != sums["gross"]:
        what = f"net {sums['net']} and VAT {sums.get('vat', 0)} do not make {sums['gross']}"
        invoice.doubts.append(Doubt("arithmetic", what))


def _check_accounts(invoice: Invoice) -> None:
    for iban in invoice.accounts:
        if not iban_is_valid(iban):
            invoice.doubts.append(Doubt("iban_invalid", f"{iban} has wrong check digits"))


def _compare_attached(invoice: Invoice, attached: list[tuple[str, str, str]]) -> None:
    """What the file says beside the page has to be what the page says."""
    for source, name, value in attached:
        seen = invoice.facts.get(ATTACHED_FIELDS[name])
        page = {"iban": invoice.accounts}.get(name, [seen.value] if seen else [])
        if not any(_same(name, value, other) for other in page):
            what = f"{source} says {name} {value[:60]}, the page says {', '.join(page) or 'nothing'}"
            invoice.doubts.append(Doubt("metadata_differs", what))


def _same(name: str, one: str, other: str) -> bool:
    if name in ("net", "gross"):
        try:
            return Decimal(one) == Decimal(other)
        except ArithmeticError:
            return False
    return "".join(fold(flat(one)).split()) == "".join(fold(flat(other)).split())


def _one(reading: Reading, name: str) -> Decimal:
    found = reading.sums.get(name)
    return abs(Decimal(found[-1].value)) if found else Decimal(0)


def _unsigned(found: Found) -> Found:
    return Found(found.value.lstrip("-"), found.text, found.page, found.x, found.y, found.confidence)
