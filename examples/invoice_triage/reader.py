"""A second reader of invoices: a model, if the settings name one; without a model the rules read alone."""

from collections.abc import AsyncIterator

from specialists.toolbox import Toolbox
from specialists.types import Card, Event, Finding, Task

TASK = """\
Points at the fields of an invoice. Read it with documents__page_text. Make one claim for each field you
find: `component` is the field, `text` is its value exactly as the page has it, character by character
and without its label, and the evidence quotes the row it stands in. The fields: number (of the invoice),
date, due, order (the buyer's order number), original (on a credit note: the invoice it takes back),
currency, net, vat, gross (the whole amount to pay), iban, supplier (the firm that wants to be paid),
vat_id (the supplier's). Leave out what is not there."""


class InvoiceReader:
    """Points at the words of a page; what they are worth is for `documents__extract` to say."""

    card = Card(name="invoice-reader", description=TASK, tools=("documents__page_text",))

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Without a model there is no second reading: it abstains and calls nothing."""
        summary = "No model is asked; the rules read the invoice alone."
        yield Finding(task=task.id, specialist=self.card.name, status="abstained", summary=summary)
