"""The main job: ask what is wrong, and be able to trust every sentence of the answer."""

import json
from collections import Counter
from pathlib import Path

from tests.journeys.conftest import ROOT

QUESTION = "checkout is failing, what is going on?"


def test_the_copilot_names_the_true_cause_and_every_citation_stands(person, truth):
    """One question to `scripts/chat`; then everything it said is held against the ledger and the servers."""
    done = person.run(str(ROOT / "scripts" / "chat"), "--message", QUESTION, "--json")
    answer = json.loads(done.stdout)

    cause = answer["cause"]
    assert cause["object"] == f"commit/{truth['cause']['commit']}"
    assert cause["component"] == truth["cause"]["service"]
    assert all(decoy.get("commit", "-") not in cause["object"] for decoy in truth["decoys"])

    # every sentence with a fact cites something, and everything cited stands in the result of a recorded call
    citations = {each["n"]: each for each in answer["citations"]}
    cited = {n for sentence in answer["sentences"] for n in sentence["cites"]}
    assert cited and cited <= set(citations)
    for call in {each["call"] for each in citations.values()}:
        shown = person.json("audit", "show", call)
        quoted = [each["quote"] for each in citations.values() if each["call"] == call]
        assert [quote for quote in quoted if quote not in shown["text"]] == [], call
        assert [record["kind"] for record in shown["records"]] == ["intent", "outcome"]

    # what the ledger says was run is what the servers say they ran
    access = Path(person.environment["POINTSMAN_HOME"], "tools", "access.log").read_text()
    seen = Counter((line["server"], line["tool"]) for line in map(json.loads, access.splitlines()))
    intents = Counter(
        (record["server"], record["tool"].removeprefix(record["server"] + "__"))
        for record in person.records(kind="intent")
        if record["server"] != "gateway"
    )
    assert intents == seen
    assert person.json("audit", "verify")["ok"] is True
