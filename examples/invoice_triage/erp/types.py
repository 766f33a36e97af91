"""What the ERP's tools take and give."""

from __future__ import annotations

from pydantic import BaseModel, Field


class LookAlike(BaseModel):
    """A supplier whose name is close, but not the same."""

    supplier: str
    name: str
    likeness: float = Field(description="0 to 1")


class SupplierMatch(BaseModel):
    """Whether the books know who sent an invoice."""

    known: bool = Field(description="Name and VAT id are those of one active supplier.")
    supplier: str = Field(description="Its id; empty if not known.")
    name: str
    why: str = Field(description="What does not agree; empty if everything does.")
    currency: str
    terms_days: int
    accounts_known: bool = Field(
        description="Every account of the invoice stands in the books for this supplier."
    )
    unknown_accounts: list[str]
    usual_gross: float = Field(description="Median of what was paid before; 0 without a history.")
    usual_vat_percent: float = Field(description="Of what was paid before; -1 without a history.")
    look_alikes: list[LookAlike]


class InvoiceLine(BaseModel):
    """A position as the invoice has it; discount in percent."""

    article: str = ""
    words: str = ""
    quantity: float
    price: float
    discount: float = 0.0
    amount: float


class LineMatch(BaseModel):
    """A position beside its line of the order."""

    line: int = Field(description="Of the order; 0: none matches.")
    words: str
    quantity: float
    open: float = Field(description="Received, less what was invoiced before.")
    price: float = Field(description="After discount.")
    ordered_price: float
    over_quantity: float
    price_over_percent: float


class OrderMatch(BaseModel):
    """An invoice beside its order and receipts (the three-way match)."""

    known: bool = Field(description="The order exists and is this supplier's.")
    why: str
    currency_agrees: bool
    lines: list[LineMatch]
    unmatched: int = Field(description="Positions that were not ordered.")
    over_quantity: float = Field(description="The most that a position asks beyond what is open.")
    price_over_percent: float = Field(description="The most that a price is above the ordered one.")
    expected_net: float = Field(description="The positions at ordered prices.")
    net_over: float = Field(description="What the invoice asks beyond that, freight included.")


class Seen(BaseModel):
    """An invoice in the books."""

    number: str
    date: str
    gross: float
    order: str
    status: str
    why: str


class SeenBefore(BaseModel):
    """What in the books may be the same invoice."""

    count: int
    invoices: list[Seen]


class CreditMatch(BaseModel):
    """A credit note beside the invoice that it takes back."""

    known: bool
    why: str
    original_gross: float
    credited_before: float
    over: float = Field(description="What the note takes back beyond what is left of the invoice.")


class OrderLine(BaseModel):
    """A line of an order; discount in percent."""

    line: int
    article: str
    description: str
    unit: str
    quantity: float
    price: float
    discount: float


class PurchaseOrder(BaseModel):
    """An order as it was placed."""

    number: str
    supplier: str
    date: str
    currency: str
    lines: list[OrderLine]


class Receipt(BaseModel):
    """Goods that arrived."""

    line: int
    quantity: float
    date: str


class Receipts(BaseModel):
    """Everything that arrived for an order."""

    order: str
    receipts: list[Receipt]


class Payment(BaseModel):
    """An entry of the payment queue."""

    payment: int
    supplier: str
    number: str
    amount: float
    currency: str
    iban: str
    due: str
    already: bool = Field(description="It was queued before, by the same call.")


class Booked(BaseModel):
    """A credit note in the books."""

    supplier: str
    number: str
    amount: float
    already: bool


class Review(BaseModel):
    """An invoice that waits for a person."""

    digest: str
    reasons: list[str]
    opened: str
