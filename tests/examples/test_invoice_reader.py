"""Invoices whose labels nobody has heard of: a model points at the fields, the page has the last word."""

import asyncio
import json
import sys
from contextlib import chdir
from pathlib import Path

import pytest

from tests.fakes.openai_server import serving

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "examples" / "invoice_triage"
sys.path.insert(0, str(HERE))

import evaluate  # noqa: E402
from documents.invoice import read_invoice  # noqa: E402
from documents_server import BUYER  # noqa: E402
from generate import generate  # noqa: E402
from generator import words  # noqa: E402
from workspace import lay_out  # noqa: E402

from coordinator.session import open_session  # noqa: E402
from coordinator.types import Trigger  # noqa: E402

LABEL = {"number": "Kenning", "order": "Writ"}  # what the labels of two needed fields say here


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory):
    """A small mailbox with strange labels, and the truth about its invoices below the limit of finance."""
    with pytest.MonkeyPatch.context() as patch:
        out = tmp_path_factory.mktemp("strange")
        for language in words.WORDS:
            for name, label in LABEL.items():
                patch.setitem(words.WORDS[language], name, [label])
        generate(out, 12, honest=12, credits=0, each=0, hostile=0)
        lay_out(out)
        patch.setenv("POINTSMAN_HOME", str(out / "home"))
        patch.setenv("XDG_STATE_HOME", str(out / "state"))
        truth = json.loads((out / "truth.json").read_text())
        small = {name: one for name, one in truth.items() if float(one["fields"]["gross"]) < 5000}
        yield out, small


def pointing(file, told, **instead):
    """What a model does: read the page, then point at the two fields, at the rows where they stand."""
    said = {name: told["fields"][name] for name in LABEL} | instead
    claims = [
        {
            "kind": "context",
            "component": name,
            "text": value,
            "confidence": 0.9,
            "evidence": [{"call": "{{call:0}}", "quote": f"{{{{line:0:{told['fields'][name]}}}}}"}],
        }
        for name, value in said.items()
    ]
    answer = {"status": "found", "summary": "Read.", "claims": claims}
    return {
        "turns": [
            {"tool_calls": [{"name": "documents__page_text", "arguments": {"file": file}}]},
            {"answer": answer},
        ]
    }


def test_a_model_points_at_what_the_labels_do_not_tell_and_cannot_bring_in_anything(mailbox):
    directory, truth = mailbox
    (read, told), (lied, other), *_ = truth.items()

    async def run(*files):
        found = []
        async with open_session() as session:
            for file, model.script in files:
                opened = Trigger(
                    kind="file",
                    title=file,
                    question="Pay it?",
                    workflow="invoice-triage",
                    inputs={"file": file},
                )
                found.append(evaluate.told(file, await session.runner.start(opened)))
        return found

    with chdir(directory), serving({}) as (url, model):
        evaluate.ask_model(url, "scripted")
        true, false = pointing(read, told), pointing(lied, other, number="INV-NOT-THERE-1", gross="1.00")
        pointed, made_up = asyncio.run(run((read, true), (lied, false)))

    assert (
        not {"number", "order"} & read_invoice((directory / "inbox" / read).read_bytes(), BUYER).facts.keys()
    )
    assert pointed.ended == "paid"
    assert {name: pointed.fields[name] for name in LABEL} == {name: told["fields"][name] for name in LABEL}
    assert made_up.ended == "asked" and made_up.fields["number"] == ""
    assert made_up.fields["gross"] == float(other["fields"]["gross"])
