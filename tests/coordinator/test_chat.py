"""One conversation about the bundled incident, as a program would have it: JSON in, JSON out."""

import json
import re
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.coordinator.conftest import ROOT, Workspace

RECORDING = ROOT / "examples" / "incident_triage" / "recording"
KNOWN = json.loads((RECORDING / "recording.json").read_text())
TURNS = (
    "checkout is failing, what is going on?",
    "why not the database?",
    "who deployed that?",
    "show me the logs",
    "what changed?",
    "is orders affected?",
    "is payments affected?",
    "how sure are you?",
    "is it over?",
    "what is the capital of France?",
    "/show 1",
    "/show 999",
    "/why A-1",
    "/why 1",
    "/approve A-7",
    "/approve A-1",
    "/approve A-1 the deploy is the cause",
    "has it recovered?",
    "/nonsense",
)


@dataclass
class Conversation:
    """What was said to each line."""

    answers: dict[str, dict]
    workspace: Workspace
    stderr: str

    def __getitem__(self, line: str) -> dict:
        return self.answers[line]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """The answers of one conversation with the copilot."""
    workspace = Workspace(tmp_path_factory.mktemp("chat"))
    done = workspace.run("chat", "--json", "--recording", str(RECORDING), stdin="\n".join(TURNS) + "\n")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(TURNS), done.stdout
    return Conversation(dict(zip(TURNS, lines, strict=True)), workspace, done.stderr)


def test_the_first_answer_names_the_true_cause_first(said):
    first = said[TURNS[0]]
    action = KNOWN["recovery"]
    [proposal] = [p for p in first["proposals"] if p["n"] == 1]
    assert proposal["action"]["tool"] == f"actions__{action['action']}"
    assert proposal["action"]["arguments"]["service"] == action["service"]
    assert first["cause"]["component"] == action["service"]
    assert first["outcome"] == "likely"


def test_the_first_answer_covers_what_a_person_wants_to_know(said):
    parts = {s["part"] for s in said[TURNS[0]]["sentences"]}
    assert parts >= {
        "What is wrong",
        "Since when",
        "How bad",
        "Why",
        "What else was considered",
        "What to do",
    }


@pytest.mark.parametrize("turn", TURNS[:6] + TURNS[7:8])
def test_every_reference_of_an_answer_has_its_citation(said, turn):
    answer = said[turn]
    used = {int(n) for n in re.findall(r"\[E(\d+)\]", answer["text"])}
    assert used == {c["n"] for c in answer["citations"]}
    assert used, "an answer about facts cites evidence"


def test_a_reference_keeps_its_number_through_the_conversation(said):
    meanings: dict[int, set] = {}
    for answer in said.answers.values():
        for c in answer.get("citations", []):
            meanings.setdefault(c["n"], set()).add((c["call"], c["quote"]))
    assert all(len(m) == 1 for m in meanings.values())


def test_the_question_for_the_database_is_answered_about_it(said):
    answer = said["why not the database?"]
    assert answer["kind"] == "about"
    assert re.search(r"quer|postgres|database", answer["text"])


def test_what_the_alert_claims_is_said_to_be_the_alerts_words(said):
    [first] = [s for s in said[TURNS[0]]["sentences"] if s["part"] == "What is wrong"]
    alert = json.loads((RECORDING / "alert.json").read_text())["alerts"][0]
    assert first["text"].startswith("The alert says: ")
    assert first["text"].removeprefix("The alert says: ").rstrip(".") in json.dumps(alert, ensure_ascii=False)


@pytest.mark.parametrize(
    ("turn", "verdict"), [("is orders affected?", "Yes, "), ("is payments affected?", "Nothing")]
)
def test_whether_a_component_is_affected_is_answered_about_it(said, turn, verdict):
    answer = said[turn]
    assert answer["kind"] == "hit"
    assert answer["text"].startswith(verdict) and turn.split()[1] in answer["text"].split(".")[0]


def test_who_deployed_it_is_named_from_the_deploy_record(said):
    answer = said["who deployed that?"]
    deploys = json.loads((RECORDING / "changes" / "deploys.json").read_text())
    service, version = KNOWN["recovery"]["service"], KNOWN["recovery"]["to_version"]
    [guilty] = [d for d in deploys if d["service"] == service and d.get("previous") == version]
    assert guilty["actor"] in answer["text"] and guilty["version"] in answer["text"]


def test_logs_are_shown_in_their_own_words(said):
    answer = said["show me the logs"]
    assert answer["kind"] == "logs"
    assert any(c["quote"] in answer["text"] for c in answer["citations"])


def test_it_is_not_over_before_and_over_after_the_action(said):
    assert "not over" in said["is it over?"]["text"]
    assert "recovered" in said["has it recovered?"]["text"]


def test_a_question_about_something_else_gets_no_paragraph_about_the_incident(said):
    answer = said["what is the capital of France?"]
    assert answer["kind"] == "unknown" and answer["citations"] == []
    assert "capital" in answer["text"] and KNOWN["recovery"]["service"] in answer["text"]


def test_show_opens_call_arguments_words_and_ledger_record(said):
    text = said["/show 1"]["text"]
    cited = next(c for c in said[TURNS[0]]["citations"] if c["n"] == 1)
    assert cited["tool"] in text and cited["call"] in text
    assert any(line.startswith(">") for line in text.splitlines())
    assert "intent" in text and "outcome" in text and "enforced" in text


def test_why_names_the_rule_with_its_description_and_place(said):
    for turn in ("/why A-1", "/why 1"):
        assert re.search(r"rule [\w-]+, \S+\.cedar:\d+: \w+", said[turn]["text"]), said[turn]["text"]


@pytest.mark.parametrize("turn", ["/show 999", "/approve A-7", "/approve A-1", "/nonsense"])
def test_a_command_that_cannot_be_done_says_so_and_the_conversation_goes_on(said, turn):
    assert said[turn]["error"]["code"] in ("usage", "case_unknown")


def test_an_approved_action_runs_once_and_recovery_is_told_with_evidence(said):
    answer = said["/approve A-1 the deploy is the cause"]
    assert answer["outcome"] == "recovered"
    assert answer["proposals"][0]["action"]["status"] == "done"
    assert answer["citations"]
    state = json.loads((said.workspace.home / "tools" / "state.json").read_text())
    assert len(state["actions"]) == 1


def test_the_ledger_holds_the_case_and_verifies(said):
    case = said[TURNS[0]]["case"]
    done = said.workspace.run("audit", "search", "--case", case, "--limit", "1000", "--json")
    records = json.loads(done.stdout)["records"]
    steps = Counter(r["body"]["kind"] if "kind" in r.get("body", {}) else r.get("status") for r in records
                    if r["kind"] == "step")  # fmt: skip
    assert sum(steps.values()) >= 10
    intents = {r["call"] for r in records if r["kind"] == "intent"}
    outcomes = {r["call"] for r in records if r["kind"] == "outcome"}
    assert intents == outcomes
    person = [r for r in records if r["kind"] == "intent" and r["subject"] == "agent:changes"]
    assert all(any(link.startswith("user:") for link in r["chain"]) for r in person)
    assert said.workspace.run("audit", "verify").returncode == 0


def test_the_report_lies_in_the_home_and_resolves(said):
    case = said[TURNS[0]]["case"]
    text = (said.workspace.home / "cases" / case / "report.md").read_text()
    data = json.loads((said.workspace.home / "cases" / case / "report.json").read_text())
    assert {int(n) for n in re.findall(r"\[E(\d+)\]", text)} == {c["n"] for c in data["citations"]}
    for heading in (
        "Summary",
        "Most likely cause",
        "What else was considered",
        "Timeline",
        "Ledger",
        "Approvals",
    ):
        assert f"## {heading}" in text


def test_a_later_message_goes_on_with_the_case(said):
    done = said.workspace.run("chat", "--recording", str(RECORDING), "--message", "who deployed that?")
    assert done.returncode == 0, done.stderr
    case = said[TURNS[0]]["case"]
    assert f"continuing case {case}" in done.stdout
    assert "deployed" in done.stdout and "[E" in done.stdout
