"""The same incident with specialists at hosted models; every call of a hosted tool is in the ledger."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import httpx2

from tests.journeys.conftest import INCIDENT, ROOT

KEY = "sk-journey-not-a-real-key"
SHIPPED = ROOT / "gateway" / "defaults" / "policy" / "default.cedar"
RECORDING = str(INCIDENT / "recording")


@contextmanager
def endpoint(script="investigate"):
    """An OpenAI-compatible endpoint of ours, as another process, with a generic investigator behind it."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "tests.fakes.openai_server", "--script", str(script), "--key", KEY]
    process = subprocess.Popen(
        [*command, "--port", "0", "--ready-fd", str(writer)],
        pass_fds=[writer],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            yield json.loads(pipe.readline())["url"]
    finally:
        process.kill()
        process.wait()


def assert_nowhere(key, person):
    """Nothing that was kept holds the key."""
    home = person.directory.parent / "home"
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert kept and key.encode() not in kept


SEARCH = {
    "tool": "web_search",
    "query": "hikari pool exhausted",
    "sources": [PAGE := "https://a.example/pool"],
}
CODE = {"tool": "code_interpreter", "code": "print(2+2)", "logs": "4"}
LOOK = {"name": "logs__search", "arguments": {"severity": "ERROR", "limit": 20}}
SEEN = {"kind": "symptom", "text": "Errors are logged.", "confidence": 0.5}
SCRIPT = {
    "by_prompt": {
        "the research specialist": {
            "turns": [
                {
                    "hosted": [SEARCH, {**SEARCH, "query": "second"}],
                    "answer": {
                        "status": "found",
                        "summary": "One page.",
                        "guidance": [{"title": "P", "where": PAGE, "passage": {"call": PAGE, "quote": PAGE}}],
                    },
                }
            ]
        },
        "the logs specialist": {
            "turns": [
                {"tool_calls": [LOOK], "hosted": [CODE]},
                {
                    "answer": {
                        "status": "found",
                        "summary": "Errors.",
                        "claims": [{**SEEN, "evidence": [{"call": "{{call:0}}", "quote": "{{line:0}}"}]}],
                    }
                },
            ]
        },
    }
}
RULES = """
@id("hosted") @description("Two specialists use hosted tools.") @advice("Ask an operator.")
permit (principal, action in Action::"call", resource in Server::"hosted")
when {
  (principal == Agent::"research" && resource.name == "web_search") ||
  (principal == Agent::"logs" && resource.name == "code_interpreter")
};
"""


def test_every_hosted_call_of_a_case_stands_in_the_ledger(person, truth, tmp_path):
    (person.directory / "policy").mkdir()
    for name, text in (("default", SHIPPED.read_text()), ("hosted", RULES)):
        (person.directory / "policy" / f"{name}.cedar").write_text(text)
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))
    with endpoint(tmp_path / "script.json") as url:
        project = url.replace("/v1", "/api/projects/p")
        done = person.json(
            "triage",
            RECORDING,
            OPENAI_API_KEY=KEY,
            ENTRA=KEY,
            POINTSMAN_SPECIALISTS__RESEARCH__MODE="cloud",
            POINTSMAN_SPECIALISTS__RESEARCH__PROVIDER="openai",
            POINTSMAN_SPECIALISTS__RESEARCH__BASE_URL=url,
            POINTSMAN_SPECIALISTS__RESEARCH__HOSTED='["web_search", "code_interpreter"]',
            POINTSMAN_SPECIALISTS__LOGS__MODE="cloud",
            POINTSMAN_SPECIALISTS__LOGS__PROVIDER="foundry",
            POINTSMAN_SPECIALISTS__LOGS__BASE_URL=project,
            POINTSMAN_SPECIALISTS__LOGS__API_KEY_ENV="ENTRA",
            POINTSMAN_SPECIALISTS__LOGS__HOSTED='["code_interpreter"]',
            POINTSMAN_SPECIALISTS__DEFAULTS__MODEL="investigator-1",
        )
        made = httpx2.get(url.replace("/v1", "/hosted")).json()
    hosted = person.records(kind="hosted")
    assert sorted((r["body"]["id"], r["status"]) for r in hosted) == sorted(
        (call["id"], call["status"]) for call in made
    )
    assert len(made) == 3 and {r["control"] for r in hosted} == {"observed"}
    assert {(r["subject"], r["tool"]) for r in hosted} == {
        ("agent:research", "hosted/web_search"),
        ("agent:logs", "hosted/code_interpreter"),
    }
    refused = [r for r in person.records(kind="refusal") if r["server"] == "hosted"]
    assert [(r["subject"], r["tool"]) for r in refused] == [("agent:research", "hosted/code_interpreter")]
    report = done["report"]
    assert truth["cause"]["commit"] in report["hypotheses"][0]["object"]
    assert {w["specialist"]: w["tokens"] for w in report["work"] if w["tokens"]} == {
        "logs": 30,
        "research": 15,
    }
    assert person.json("audit", "verify")["ok"] is True
    assert_nowhere(KEY, person)
