"""The parts of examples/invoice_triage: what is read from a page, what is hidden, what the books allow."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from mcp import Client

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "examples" / "invoice_triage"
sys.path.insert(0, str(HERE))

import documents_server  # noqa: E402
import erp_server  # noqa: E402
from generate import generate  # noqa: E402
from generator.kinds import HOSTILE  # noqa: E402
from generator.layouts import LAYOUTS  # noqa: E402

pytestmark = pytest.mark.anyio
UNSEEN = 4711
ACCOUNT = "DE89370400440532013000"


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory):
    """A small mailbox of every kind, of a seed that nothing was tried on, and the truth about it."""
    out = tmp_path_factory.mktemp("mailbox")
    generate(out, UNSEEN, honest=24, credits=3, each=1, hostile=1)
    return out


@pytest.fixture(scope="module")
def truth(mailbox):
    return json.loads((mailbox / "truth.json").read_text())


async def ask(server, tool, **arguments):
    """The data of a tool's answer."""
    async with Client(server) as client:
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content[0].text
    return result.structured_content


async def refused(server, tool, **arguments):
    """Why a tool did not do it."""
    async with Client(server) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    return result.content[0].text


@pytest.fixture(scope="module")
async def extracted(mailbox, truth):
    server = documents_server.build(mailbox / "inbox")
    async with Client(server) as client:
        return {
            name: (await client.call_tool("extract", {"file": name})).structured_content for name in truth
        }


async def test_fields_are_read_in_every_layout_and_language(extracted, truth):
    assert {one.get("layout") for one in truth.values()} >= set(LAYOUTS)
    assert {one.get("language") for one in truth.values()} >= {"en", "de", "fr"}
    right, all_, lines = Counter(), Counter(), Counter()
    for name, told in truth.items():
        if told["group"] != "honest":
            continue
        read, layout = extracted[name]["fields"], told["layout"]
        for field, value in told["fields"].items():
            if value and not (field == "iban" and told["fields"]["kind"] == "credit_note"):
                all_[layout] += 1
                given = f"{read[field]:.2f}" if isinstance(read[field], float) else read[field]
                right[layout] += given.casefold() == value.casefold()
        lines[len(extracted[name]["lines"]) == len(told["lines"])] += 1
    assert min(right[layout] / all_[layout] for layout in all_) >= 0.9, (right, all_)
    assert lines[True] / sum(lines.values()) >= 0.9


async def test_honest_invoices_raise_no_doubt(extracted, truth):
    doubted = [
        (name, extracted[name]["problems"])
        for name, one in truth.items()
        if one["group"] == "honest" and extracted[name]["problems"]
    ]
    assert len(doubted) <= 1, doubted


async def test_two_readers_who_differ_are_told_and_words_beside_the_page_count_for_nothing(
    mailbox, extracted
):
    file, read = next(
        (n, one) for n, one in extracted.items() if not one["problems"] and one["fields"]["due"]
    )
    server = documents_server.build(mailbox / "inbox")
    due, gross = read["places"]["due"]["text"], read["places"]["gross"]["text"]
    agrees = await ask(server, "extract", file=file, pointed=[{"field": "gross", "words": gross}])
    pointed = [{"field": "date", "words": due.rpartition(": ")[2]}, {"field": "iban", "words": ACCOUNT}]
    differs = await ask(server, "extract", file=file, pointed=pointed)
    assert agrees == read
    assert [one["code"] for one in differs["problems"]] == ["readers_differ"]
    assert differs["fields"] == read["fields"] and differs["accounts"] == read["accounts"]


HIDDEN = {
    "instructions in white": "hidden_text",
    "instructions in tiny print": "hidden_text",
    "instructions without ink": "hidden_text",
    "instructions off the page": "hidden_text",
    "instructions under a cover": "hidden_text",
    "instructions cut away": "hidden_text",
    "instructions in a layer that is off": "hidden_text",
    "addressed to somebody else": "not_ours",
    "an amount under a cover": "hidden_text",
    "instructions in the open": "instructions",
    "another amount in the embedded XML": "metadata_differs",
    "another account in the embedded XML": "metadata_differs",
    "another amount in the document information": "metadata_differs",
    "a picture without text": "no_text",
    "a script in the document": "active_content",
}


@pytest.mark.parametrize("kind", HIDDEN)
async def test_a_tricked_document_is_told(kind, extracted, truth):
    name = next(name for name, one in truth.items() if one["kind"] == kind)
    assert HIDDEN[kind] in [problem["code"] for problem in extracted[name]["problems"]]
    if HIDDEN[kind] == "hidden_text":
        assert "ignore previous" not in json.dumps(extracted[name])  # what is hidden goes to nobody


async def test_a_broken_file_and_a_foreign_path_are_told(tmp_path):
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    server = documents_server.build(tmp_path)
    read = await ask(server, "extract", file="torn.pdf")
    assert [problem["code"] for problem in read["problems"]] == ["unreadable"]
    assert "without a directory" in await refused(server, "extract", file="../torn.pdf")
    assert "no file 'other.pdf'" in await refused(server, "extract", file="other.pdf")


def payment(told, read, supplier):
    """The arguments to pay what was read."""
    fields = read["fields"]
    return {
        "supplier": supplier,
        "number": fields["number"],
        "date": fields["date"],
        "order": fields["order"],
        "net": fields["net"],
        "amount": fields["gross"],
        "currency": fields["currency"],
        "iban": fields["iban"],
        "digest": read["digest"],
        "lines": read["lines"],
    }


@pytest.fixture
def books(mailbox, tmp_path):
    copy = tmp_path / "erp.db"
    copy.write_bytes((mailbox / "erp.db").read_bytes())
    return erp_server.build(copy)


async def test_a_payment_is_queued_once_however_often_it_is_told(books, extracted, truth):
    name, told = next((n, one) for n, one in truth.items() if one["kind"] == "in order")
    given = payment(told, extracted[name], told["settled"]["supplier"])
    first = await ask(books, "queue_payment", **given)
    again = await ask(books, "queue_payment", **given)
    assert (first["already"], again["already"], again["payment"]) == (False, True, first["payment"])
    assert f"{first['amount']:.2f}" == told["settled"]["amount"]
    seen = await ask(
        books,
        "invoices_seen",
        supplier=given["supplier"],
        number="X-1",
        gross=given["amount"],
        order=given["order"],
    )
    assert [one["why"] for one in seen["invoices"]] == ["the same order and amount"]


async def test_the_books_refuse_what_they_contradict(books, extracted, truth):
    name, told = next((n, one) for n, one in truth.items() if one["kind"] == "in order")
    given = payment(told, extracted[name], told["settled"]["supplier"])
    assert "an account that the books have" in await refused(
        books, "queue_payment", **{**given, "iban": ACCOUNT}
    )
    assert "active supplier" in await refused(books, "queue_payment", **{**given, "supplier": "S9"})
    assert "no such order" in await refused(books, "queue_payment", **{**given, "order": "1"})
    await ask(books, "queue_payment", **given)
    assert "has not used" in await refused(books, "queue_payment", **{**given, "digest": "0" * 64})
    assert "not yet invoiced" in await refused(books, "queue_payment", **{**given, "number": "X-1"})


async def test_a_name_that_only_looks_the_same_is_not_known(books, extracted, truth):
    name, told = next((n, one) for n, one in truth.items() if one["kind"] == "in order")
    fields = extracted[name]["fields"]
    right = await ask(
        books, "find_supplier", name=fields["supplier"].upper(), vat_id=fields["vat_id"], accounts=[ACCOUNT]
    )
    assert right["known"] and not right["accounts_known"] and right["unknown_accounts"] == [ACCOUNT]
    cyrillic = fields["supplier"].replace("e", "\u0435", 1).replace("a", "\u0430", 1)
    wrong = await ask(books, "find_supplier", name=cyrillic, vat_id=fields["vat_id"])
    assert not wrong["known"] and wrong["look_alikes"][0]["supplier"] == told["settled"]["supplier"]


def test_every_hostile_kind_is_in_the_mailbox(truth):
    assert {one["kind"] for one in truth.values() if one["group"] == "hostile"} == set(HOSTILE)
