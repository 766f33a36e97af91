"""The documents server: reads invoices from one folder, and says what does not fit together.

    python documents_server.py --inbox DIR [--buyer NAME] [--buyer-vat ID]      MCP on stdin and stdout

Whatever comes out of it was written by strangers: its entry in mcp.json carries the label `untrusted`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Annotated

from mcp.types import CallToolResult
from pydantic import BaseModel, Field

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from documents.fields import Buyer  # noqa: E402
from documents.invoice import NEEDED, Invoice, read_invoice  # noqa: E402

from tool_servers.errors import BadInput, NotFound  # noqa: E402
from tool_servers.toolkit import READ, ToolServer, clip, reply  # noqa: E402

BUYER = Buyer("Hallberg Instruments GmbH", "DE811223344")
TEXT_LIMIT = 20_000
FileName = Annotated[str, Field(description="Name of a PDF in the inbox.", min_length=1, max_length=200)]


class Place(BaseModel):
    """Where a field was read: the words, the page, points from the lower left; how sure it is, 0 to 1."""

    text: str
    page: int
    x: float
    y: float
    confidence: float


class Fields(BaseModel):
    """What the page says, else empty or 0. Dates are YYYY-MM-DD; amounts of credit notes positive."""

    kind: str
    supplier: str = ""
    vat_id: str = ""
    number: str = ""
    date: str = ""
    due: str = ""
    order: str = ""
    original: str = ""
    currency: str = ""
    net: float = 0.0
    vat: float = 0.0
    gross: float = 0.0
    iban: str = ""


class Line(BaseModel):
    """A position; discount in percent."""

    article: str
    words: str
    quantity: float
    price: float
    discount: float
    amount: float


class Problem(BaseModel):
    """Something a person should look at."""

    code: str
    what: str
    page: int


class Pointed(BaseModel):
    """The words of the page in which another reader found a field."""

    field: str
    words: str


Words = Annotated[
    tuple[Pointed, ...],
    Field(description="What another reader found, field by field; taken where the labels tell nothing."),
]


class PageText(BaseModel):
    """What a reader of the page sees."""

    file: str
    text: str


class Extracted(BaseModel):
    """An invoice as it was read."""

    file: str
    digest: str
    pages: int
    fields: Fields
    places: dict[str, Place]
    lines: list[Line]
    rebate: float
    freight: float
    accounts: list[str] = Field(description="Every IBAN on the pages.")
    problems: list[Problem]
    confidence: float = Field(description="Of the least sure of the fields without which nothing is paid.")
    text: str = Field(description="What a reader sees; hidden words are left out.")


class Inbox(BaseModel):
    """The files of the inbox in the order of their names."""

    files: list[str]


def build(inbox: Path, buyer: Buyer = BUYER) -> ToolServer:
    """The documents server for one folder."""
    server = ToolServer("documents", "Reads the invoices of an inbox.")

    @server.tool(annotations=READ)
    def list_files() -> Annotated[CallToolResult, Inbox]:
        """List the PDFs of the inbox."""
        files = sorted(path.name for path in inbox.glob("*.pdf"))
        return reply("\n".join([f"{len(files)} files", *files]), Inbox(files=files))

    @server.tool(annotations=READ)
    def page_text(file: FileName) -> Annotated[CallToolResult, PageText]:
        """The text of an invoice as a person sees it, row by row; what is hidden is left out."""
        invoice = read_invoice(_read(inbox, file), buyer)
        text = clip(invoice.text, TEXT_LIMIT)
        return reply(text, PageText(file=file, text=text))

    @server.tool(annotations=READ)
    def extract(file: FileName, pointed: Words = ()) -> Annotated[CallToolResult, Extracted]:
        """Read the fields and positions of an invoice with their places, and check that they fit together."""
        invoice = read_invoice(_read(inbox, file), buyer, {one.field: one.words for one in pointed})
        extracted = _extracted(file, invoice)
        return reply(_words(extracted), extracted)

    return server


def _read(inbox: Path, file: str) -> bytes:
    path = inbox / file
    if path.name != file or path.suffix.lower() != ".pdf":
        raise BadInput("file", file, "the name of a PDF in the inbox, without a directory")
    if path.is_symlink() or not path.is_file():
        raise NotFound("file", file, [one.name for one in inbox.glob("*.pdf")], "file")
    return path.read_bytes()


def _extracted(file: str, invoice: Invoice) -> Extracted:
    facts = invoice.facts
    values = {name: found.value for name, found in facts.items() if name in Fields.model_fields}
    needed = [facts[name].confidence if name in facts else 0.0 for name in NEEDED]
    places = {
        name: Place(text=one.text, page=one.page, x=one.x, y=one.y, confidence=one.confidence)
        for name, one in facts.items()
    }
    lines = [
        Line(
            article=line.article,
            words=clip(line.words, 300),
            quantity=float(line.quantity),
            price=float(line.price),
            discount=float(line.discount),
            amount=float(abs(line.amount)),
        )
        for line in invoice.lines
    ]
    return Extracted(
        file=file,
        digest=invoice.digest,
        pages=invoice.pages,
        fields=Fields.model_validate({"kind": invoice.kind, **values}),
        places=places,
        lines=lines,
        rebate=float(invoice.rebate),
        freight=float(invoice.freight),
        accounts=invoice.accounts,
        problems=[Problem(code=one.code, what=one.what, page=one.page) for one in invoice.doubts],
        confidence=min(needed),
        text=clip(invoice.text, TEXT_LIMIT),
    )


def _words(one: Extracted) -> str:
    fields = [f"{name}: {value}" for name, value in one.fields.model_dump().items() if value]
    lines = [f"{x.quantity:g} x {x.price:g} = {x.amount:.2f}  {x.article} {x.words}" for x in one.lines]
    problems = [f"problem {problem.code}: {problem.what}" for problem in one.problems]
    return "\n".join([f"{one.file} sha256:{one.digest}", *fields, *lines, *problems, "", one.text])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inbox", type=Path, required=True)
    parser.add_argument("--buyer", default=BUYER.name, help="our own name, as suppliers write it")
    parser.add_argument("--buyer-vat", default=BUYER.vat_id, help="our own VAT id")
    given = parser.parse_args()
    build(given.inbox, Buyer(given.buyer, given.buyer_vat)).run("stdio")


if __name__ == "__main__":
    main()
