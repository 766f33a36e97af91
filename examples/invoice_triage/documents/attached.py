"""What a PDF says beside its pages: document information, embedded XML invoices, and things that act."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from pypdf import PdfReader

# The name of a value in the file, and of the fact on the page it has to agree with.
ATTACHED_FIELDS = {
    "gross": "gross",
    "net": "net",
    "number": "number",
    "currency": "currency",
    "iban": "iban",
    "supplier": "supplier",
}
_CII = {
    "DuePayableAmount": "gross",
    "GrandTotalAmount": "gross",
    "TaxBasisTotalAmount": "net",
    "InvoiceCurrencyCode": "currency",
    "IBANID": "iban",
}
_UBL = {"PayableAmount": "gross", "TaxExclusiveAmount": "net", "DocumentCurrencyCode": "currency"}
_INFO_AMOUNT = re.compile(r"(?:total|amount|gross|betrag|montant)", re.IGNORECASE)
MOST_XML = 2_000_000


def attached_values(reader: PdfReader) -> list[tuple[str, str, str]]:
    """Source, name and value of each fact the file holds beside its pages; ValueError for unsafe XML."""
    found = []
    for key, value in (reader.metadata or {}).items():
        amount = re.fullmatch(r"\s*(\d+(?:\.\d{1,2})?)\s*(?:EUR|GBP|CHF|USD)?\s*", str(value))
        if _INFO_AMOUNT.search(str(key)) and amount:
            found.append((f"the document information {key}", "gross", amount[1]))
    for name, contents in reader.attachments.items():
        for data in contents:
            if name.lower().endswith(".xml"):
                found += [
                    (f"the attachment {name[:40]}", field, value) for field, value in _invoice_xml(data)
                ]
    return found


def _invoice_xml(data: bytes) -> list[tuple[str, str]]:
    """Facts of an embedded invoice in CII (Factur-X, ZUGFeRD) or UBL syntax."""
    if len(data) > MOST_XML or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("an attached XML is too large or declares entities")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"an attached XML is not well formed: {error}") from error
    names = _CII if root.tag.endswith("CrossIndustryInvoice") else _UBL
    found = []
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        if tag in names and element.text:
            found.append((names[tag], element.text.strip()))
        elif tag == "ExchangedDocument" or (element is root and names is _UBL):
            found += [
                ("number", child.text.strip())
                for child in element
                if child.tag.endswith("}ID") and child.text
            ]
        elif tag == "SellerTradeParty":
            found += [("supplier", c.text.strip()) for c in element if c.tag.endswith("}Name") and c.text]
    return found


def has_active_content(reader: PdfReader) -> str:
    """What in the file would act when it is opened or filled in; empty if nothing would."""
    root = reader.root_object
    if "/OpenAction" in root and "/S" in getattr(root["/OpenAction"].get_object(), "keys", dict)():
        return f"an action on opening ({root['/OpenAction'].get_object()['/S']})"
    if "/AA" in root:
        return "actions"
    if "/JavaScript" in root.get("/Names", {}):
        return "a script"
    if "/AcroForm" in root and root["/AcroForm"].get_object().get("/Fields"):
        return "a form"
    annotations = [a.get_object() for page in reader.pages for a in page.get("/Annots", []) or []]
    kinds = {str(one.get("/Subtype")) for one in annotations} - {"/Link"}
    return f"annotations ({', '.join(sorted(kinds))})" if kinds else ""
