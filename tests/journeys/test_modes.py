"""The same incident with two specialists moved to a hosted model, through configuration alone."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import httpx2

from tests.journeys.conftest import INCIDENT, ROOT

KEY = "sk-journey-not-a-real-key"
RECORDING = str(INCIDENT / "recording")


@contextmanager
def endpoint():
    """An OpenAI-compatible endpoint of ours, as another process, with a generic investigator behind it."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "tests.fakes.openai_server", "--script", "investigate", "--key", KEY]
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


def subjects(records):
    return {(r["subject"], r["server"]) for r in records if r["server"] not in ("gateway", "hosted")}


def assert_in_the_ledger(asked, records):
    """Every request to the model was asked for before, its answer is recorded; no hosted tool was offered."""
    let_through = [r for r in records if r.get("tool") == "hosted/model" and r["kind"] == "intent"]
    answers = [r for r in records if r["kind"] == "model"]
    assert len(answers) == len(asked) == len({r["body"]["response"] for r in answers})
    assert {r["body"]["asked"] for r in answers} <= {r["call"] for r in let_through}
    assert {r["versions"]["model"] for r in answers} == {"scripted-1"}
    assert all(r["control"] == "observed" and r["body"]["input_tokens"] == 10 for r in answers)
    offered = {tool["type"] for request in asked for tool in request["tools"]}
    assert offered == {"function"}
    refused = [r for r in records if r.get("tool") == "hosted/web_search"]
    assert [(r["kind"], r["subject"]) for r in refused] == [("refusal", "agent:traces")]


def test_two_specialists_in_cloud_mode_give_a_report_of_the_same_shape(person, truth):
    local = person.json("triage", RECORDING)
    under = subjects(person.records(kind="intent"))
    before = len(person.records())

    with endpoint() as url:
        cloud = person.json(
            "triage",
            RECORDING,
            OPENAI_API_KEY=KEY,
            POINTSMAN_SPECIALISTS__LOGS__MODE="cloud",
            POINTSMAN_SPECIALISTS__TRACES__MODE="cloud",
            POINTSMAN_SPECIALISTS__TRACES__PROVIDER="openai",
            POINTSMAN_SPECIALISTS__TRACES__HOSTED='["web_search"]',
            POINTSMAN_SPECIALISTS__DEFAULTS__BASE_URL=url,
            POINTSMAN_SPECIALISTS__DEFAULTS__MODEL="investigator-1",
        )
        asked = httpx2.get(url.replace("/v1", "/requests")).json()

    cloud, local = cloud["report"], local["report"]
    assert cloud.keys() == local.keys()
    assert cloud["hypotheses"][0].keys() == local["hypotheses"][0].keys()
    assert truth["cause"]["commit"] in cloud["hypotheses"][0]["object"]

    later = person.records()[before:]
    assert subjects([r for r in later if r["kind"] == "intent"]) == under
    findings = {r["body"]["specialist"]: r["body"] for r in later if r.get("step") == "finding"}
    assert {name for name, each in findings.items() if each["mode"] == "cloud"} == {"logs", "traces"}
    assert all(" prompt:" in findings[name]["model"] for name in ("logs", "traces"))
    assert_in_the_ledger(asked, later)
    assert person.json("audit", "verify")["ok"] is True

    kept = b"".join(
        path.read_bytes() for path in (person.directory.parent / "home").rglob("*") if path.is_file()
    )
    assert KEY.encode() not in kept
