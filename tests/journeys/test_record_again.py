"""Any incident becomes a test case: its tools' answers, recorded from the ledger, lead to the same cause."""

import json
from pathlib import Path

from tests.journeys.conftest import INCIDENT, POINTSMAN


def told(result):
    first = result["report"]["hypotheses"][0]
    return first["object"], first["label"], first["confidence"]


def test_a_case_is_recorded_from_the_ledger_and_triaged_again_with_the_same_result(person, tmp_path):
    first = person.json("triage", str(INCIDENT / "recording"))
    written = person.json("cases", "record", first["case"], "again")
    made = person.directory / "again"
    assert written["answers"]["metrics"] >= 1 and written["answers"]["changes"] >= 3
    assert not list(made.glob("metrics*")) and not list(made.glob("traces*")), "answers, not the data"
    assert json.loads((made / "recording.json").read_text())["id"] == first["case"]

    home = str(tmp_path / "another-home")
    second = person.json("triage", "again", POINTSMAN_HOME=home)
    assert second["case"] != first["case"]
    assert told(second) == told(first)


def test_recording_overwrites_nothing_and_says_what_is_not_there(person):
    kept = Path(person.directory, "kept")
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    said = person.run(POINTSMAN, "cases", "record", "INC-AAAAAA", "kept", code=2).stderr
    assert "is not an empty directory" in said
    said = person.run(POINTSMAN, "cases", "record", "INC-AAAAAA", "new", code=2).stderr
    assert "no case 'INC-AAAAAA'" in said
    assert not Path(person.directory, "new").exists()
