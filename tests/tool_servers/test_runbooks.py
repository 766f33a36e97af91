"""The runbooks server: ingest, search, read."""

import pytest
from pypdf import PdfWriter

from tests.tool_servers.making import a_world, ask, data, refusal, text_of
from tool_servers.retrieval.passages import read

pytestmark = pytest.mark.anyio


async def test_a_question_finds_the_passage_and_where_it_stands(world):
    found = (await data(world, "runbooks", "search", query="requests wait for database connections"))[
        "passages"
    ]
    assert [(one["document"], one["heading"], one["lines"]) for one in found] == [
        ("pool.md", "Connection pool exhausted > Meaning", "6-8")
    ]
    assert found[0]["title"] == "Connection pool exhausted"
    lines = (world.recording().root / "runbooks" / "pool.md").read_text().splitlines()
    assert found[0]["passage"] == "\n".join(lines[5:8])


async def test_an_alert_name_in_one_word_is_understood(world):
    found = (await data(world, "runbooks", "search", query="alert: node disk filling"))["passages"]
    assert found[0]["document"] == "DiskFillingUp.md"


@pytest.mark.parametrize(
    "query",
    [
        "how do I bake bread",
        "invoice without an order number",
        "guitar chords",
        "what is the capital of France",
        "the of and",
    ],
)
async def test_an_unrelated_question_finds_nothing(world, query):
    result = await ask(world, "runbooks", "search", query=query)
    assert result.structured_content == {"passages": []}
    assert text_of(result) == "0 passages: no runbook is about this"


async def test_a_document_is_read_by_lines(world):
    part = await data(world, "runbooks", "read", document="pool.md", start_line=10, limit=3)
    assert part["text"].splitlines() == [
        "## What to do",
        "",
        "Look for a recent deploy that opens more queries, and roll it back.",
    ]
    assert (part["start_line"], part["end_line"], part["total_lines"]) == (10, 12, 12)


async def test_a_document_that_is_not_there_is_said_with_the_nearest(world):
    text = await refusal(world, "runbooks", "read", document="pol.md")
    assert "did you mean 'pool.md'?" in text
    assert "1 to 12" in await refusal(world, "runbooks", "read", document="pool.md", start_line=13)


async def test_a_runbook_that_changes_is_found_as_it_is_now(world, recording):
    assert (await data(world, "runbooks", "search", query="certificate expired"))["passages"] == []
    (recording / "runbooks" / "pool.md").write_text("# Certificate expired\n\nRenew the certificate.\n")
    found = (await data(world, "runbooks", "search", query="certificate expired"))["passages"]
    assert [one["document"] for one in found] == ["pool.md"]
    (recording / "runbooks" / "pool.md").unlink()
    assert (await data(world, "runbooks", "search", query="certificate expired"))["passages"] == []


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "queue_backlog.txt").write_text("When the queue grows, add a consumer.\n\nNever purge it.\n")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "sheet.pdf").write_bytes(a_pdf("Replica lag is high. Promote the standby."))
    return folder


def a_pdf(text: str) -> bytes:
    """A real PDF of one page with a line of text, written by hand."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
        b"/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
    ]
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        body
        + b"xref\n0 5\n0000000000 65535 f \n"
        + table
        + b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(body)
    )


async def test_text_and_pdf_are_taken_in_and_found(shelf, tmp_path):
    world = a_world(tmp_path / "state", runbooks=str(shelf))
    done = await data(world, "runbooks", "ingest", path=".")
    assert done["documents"] == ["queue_backlog.txt", "sheet.pdf"]
    assert [name.partition(":")[0] for name in done["skipped"]] == ["picture.png"]
    found = (await data(world, "runbooks", "search", query="standby replica lag"))["passages"]
    assert (found[0]["document"], found[0]["heading"]) == ("sheet.pdf", "page 1")
    found = (await data(world, "runbooks", "search", query="queue backlog grows"))["passages"]
    assert found[0]["document"] == "queue_backlog.txt"


async def test_taking_in_again_changes_nothing(shelf, tmp_path):
    world = a_world(tmp_path / "state", runbooks=str(shelf))
    await data(world, "runbooks", "ingest", path="queue_backlog.txt")
    assert (await data(world, "runbooks", "ingest", path="queue_backlog.txt"))["documents"] == []
    found = (await data(world, "runbooks", "search", query="queue backlog grows"))["passages"]
    assert len(found) == 1


async def test_only_the_allowed_directory_is_taken_in(shelf, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (shelf / "link.txt").symlink_to(tmp_path / "secret.txt")
    world = a_world(tmp_path / "state", runbooks=str(shelf))
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "missing.md"):
        assert (await refusal(world, "runbooks", "ingest", path=path)).startswith("invalid argument 'path'")
    assert "secret" not in text_of(await ask(world, "runbooks", "ingest", path="."))
    closed = a_world(tmp_path / "state2")
    assert "no directory is allowed" in await refusal(closed, "runbooks", "ingest", path="secret.txt")


async def test_a_file_that_cannot_be_read_is_named(shelf, tmp_path):
    (shelf / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    empty = PdfWriter()
    empty.add_blank_page(100, 100)
    empty.write(shelf / "blank.pdf")
    (shelf / "latin.md").write_bytes(b"caf\xe9")
    world = a_world(tmp_path / "state", runbooks=str(shelf))
    assert "a PDF that can be read" in await refusal(world, "runbooks", "ingest", path="broken.pdf")
    assert "a PDF with text in it" in await refusal(world, "runbooks", "ingest", path="blank.pdf")
    assert "a file in UTF-8" in await refusal(world, "runbooks", "ingest", path="latin.md")


def test_passages_know_their_headings_and_lines(recording):
    manual = read(recording / "runbooks" / "DiskFillingUp.md", "disk")
    assert [(one.heading, one.first, one.last) for one in manual.passages] == [("DiskFillingUp", 1, 10)]
    assert "# this is no heading" in manual.passages[0].text


def test_a_long_section_is_cut_between_paragraphs(tmp_path):
    paragraphs = [f"Paragraph {number}. " + "word " * 100 for number in range(10)]
    path = tmp_path / "long.md"
    path.write_text("# Long\n\n" + "\n\n".join(paragraphs))
    lines = path.read_text().splitlines()
    passages = read(path, "long").passages
    assert len(passages) >= 4 and all(len(one.text) <= 1400 for one in passages)
    for one in passages:
        assert one.text == "\n".join(lines[one.first - 1 : one.last])
        assert one.text.splitlines()[-1].startswith("Paragraph")
