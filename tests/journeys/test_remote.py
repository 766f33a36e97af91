"""The same incident with specialists moved elsewhere by their mode lines alone; and when one dies."""

import json
import os
import re
import subprocess
import time
from contextlib import ExitStack, contextmanager

import httpx2
import pytest

from specialists.roster import BUILT_IN
from tests.journeys.conftest import INCIDENT, POINTSMAN, ROOT, running_gateway
from tests.journeys.test_modes import KEY, assert_nowhere, endpoint

RECORDING = str(INCIDENT / "recording")
TOKEN = "a-token-of-the-journey-and-no-other"


@contextmanager
def agents(person, *groups, port=0):
    """A process for each group of specialists, started side by side; gives the URL of each specialist."""
    with ExitStack() as stack:
        started = [_start(person, stack, group, port) for group in groups]
        yield {
            name: (f"{json.loads(pipe.readline())['url']}", process)
            for (name, *_), (pipe, process) in zip(groups, started, strict=True)
        }


def _start(person, stack, names, port):
    reader, writer = os.pipe()
    command = [POINTSMAN, "specialists", "serve", *names, "--port", str(port), "--ready-fd", str(writer)]
    environment = {**person.environment, "POINTSMAN_SPECIALIST_TOKEN": TOKEN}
    process = subprocess.Popen(
        command, cwd=person.directory, env=environment, pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return stack.enter_context(os.fdopen(reader)), process


PLACINGS = {
    "local": {},
    "remote": dict.fromkeys(BUILT_IN, "remote"),
    "two cloud": {"logs": "cloud", "traces": "cloud"},
    "mixed": {"metrics": "remote", "changes": "remote", "logs": "cloud"},
}


def settings(person, urls, model, placing):
    """The settings file with each specialist's table; only the mode lines tell one file from another."""
    lines = [
        "[coordinator]",
        "specialist_seconds = 300",
        "[specialists.defaults]",
        f'base_url = "{model}"',
        'model = "investigator-1"',
    ]
    for name in BUILT_IN:
        lines += [f"[specialists.{name}]", f'mode = "{placing.get(name, "local")}"', f'url = "{urls[name]}"']
        if name == "traces":
            lines += ['provider = "openai"', 'hosted = ["web_search"]']
    text = "\n".join(lines) + "\n"
    (person.directory / "pointsman.toml").write_text(text)
    return text


@pytest.mark.timeout(600)  # nine programs on a machine that may be busy
def test_where_specialists_run_changes_the_mode_lines_and_nothing_a_reader_sees(person, truth):
    reports, files, before, asked = {}, {}, 0, 0
    keys = {"POINTSMAN_SPECIALIST_TOKEN": TOKEN, "OPENAI_API_KEY": KEY}
    with (
        endpoint() as model,
        agents(person, *((name,) for name in BUILT_IN)) as running,
        running_gateway(person, "--recording", RECORDING),  # one for all; each triage joins it
    ):
        urls = {name: url for name, (url, _) in running.items()}
        for name, placing in PLACINGS.items():
            files[name] = settings(person, urls, model, placing)
            reports[name] = person.json("triage", RECORDING, **keys)["report"]
            records = person.records()
            written, before = records[before:], len(records)
            requests = httpx2.get(model.replace("/v1", "/requests")).json()
            assert_ledger_complete(written, placing)
            assert_models_in_the_ledger(requests[asked:], written, placing)
            asked = len(requests)
    best = {name: report["hypotheses"][0] for name, report in reports.items()}
    assert {each["object"] for each in best.values()} == {best["local"]["object"]}
    assert truth["cause"]["commit"] in best["local"]["object"]
    assert best["remote"]["confidence"] == best["local"]["confidence"]
    assert all(report.keys() == reports["local"].keys() for report in reports.values())
    assert person.json("audit", "verify")["ok"] is True
    modes = re.compile(r'^mode = "\w+"$', re.M)
    assert len({modes.sub("", text) for text in files.values()}) == 1 and len(set(files.values())) == 4
    assert_nowhere(TOKEN, person)
    assert_nowhere(KEY, person)


def assert_ledger_complete(written, placing):
    """Each specialist has its finding, and every call under its own name its intent and its outcome."""
    found = {r["body"]["specialist"]: r["body"] for r in written if r.get("step") == "finding"}
    assert {name: each["mode"] for name, each in found.items()} == {
        n: placing.get(n, "local") for n in BUILT_IN
    }
    assert {name for name, each in found.items() if " prompt:" in each["model"]} == {
        name for name, place in placing.items() if place == "cloud"
    }
    own = [r for r in written if r["subject"].startswith("agent:")]
    calls = [r for r in own if r.get("server", "gateway") not in ("gateway", "hosted")]
    intents = {r["call"] for r in calls if r["kind"] == "intent"}
    assert intents == {r["call"] for r in calls if r["kind"] == "outcome"}
    silent = {f"agent:{each}" for each in BUILT_IN} - {r["subject"] for r in calls}
    assert silent <= {"agent:remediation"}  # it looks only where the cause leaves something to propose


def assert_models_in_the_ledger(asked, written, placing):
    """Every request to the model was asked for before, its answer is recorded; no hosted tool was offered."""
    let_through = {r["call"] for r in written if r.get("tool") == "hosted/model" and r["kind"] == "intent"}
    answers = [r for r in written if r["kind"] == "model"]
    assert len(answers) == len(asked) == len({r["body"]["response"] for r in answers})
    assert {r["body"]["asked"] for r in answers} <= let_through
    assert all(r["versions"]["model"] == "scripted-1" for r in answers)
    assert all(r["control"] == "observed" and r["body"]["input_tokens"] == 10 for r in answers)
    assert {tool["type"] for request in asked for tool in request["tools"]} <= {"function"}
    refused = [(r["kind"], r["subject"]) for r in written if r.get("tool") == "hosted/web_search"]
    assert refused == ([("refusal", "agent:traces")] if placing.get("traces") == "cloud" else [])


SLOW = '''
"""Looks twice; between the looks it waits until a file lets it go on."""
import asyncio
from pathlib import Path
from specialists.types import Card, Claim, Finding

HERE = Path(__file__).parent

class Slow:
    card = Card(name="slow", description="Looks twice.", tools=("logs__search",))

    async def investigate(self, task, toolbox):
        result = (await toolbox.call("logs__search", {"text": "deadlock detected", "limit": 5})).required()
        (HERE / "looked").touch()
        while not (HERE / "go-on").exists():
            await asyncio.sleep(0.05)
        said = result.quote(result.data["lines"][0]["message"])
        again = await toolbox.call("logs__search", {"text": "deadlock", "limit": 3})
        text = f"Deadlocks, and {len(again.lines())} lines more."
        claim = Claim(kind="symptom", text=text, confidence=0.9, evidence=(said,), component="ledger")
        yield Finding(task=task.id, specialist="slow", status="found", summary=text, claims=(claim,))
'''
BUNDLED = ["-m", "tool_servers", "--only", "logs", "--recording", "${recording}"]
SERVERS = {
    "mcpServers": {"logs": {"url": "${child:bundled}/logs/mcp", "pointsman": {"pin": "trust"}}},
    "pointsman": {
        "children": {
            "bundled": {
                "command": "${python}",
                "args": [*BUNDLED, "--state", "${home}/tools", "--ready-fd", "{fd}"],
            }
        }
    },
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("again", [False, True], ids=["for good", "and started again"])
def test_a_remote_specialist_that_is_killed_does_not_spoil_the_case(person, again):
    here = person.directory
    (here / "slow.py").write_text(SLOW)
    (here / "mcp.json").write_text(json.dumps(SERVERS))
    own = '[specialists.slow]\nclass = "slow:Slow"\nmode = "remote"\n'
    (here / "pointsman.toml").write_text(own + 'url = "http://127.0.0.1:1"\n')
    with agents(person, ("slow",)) as running:
        url, process = running["slow"]
        patience = 60 if again else 0.5
        (here / "pointsman.toml").write_text(own + f'url = "{url}"\npatience = {patience}\n')
        triage = subprocess.Popen(
            [POINTSMAN, "triage", str(ROOT / "examples" / "own_specialist" / "recording"), "--json"],
            cwd=here,
            env={**person.environment, "POINTSMAN_SPECIALIST_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _wait_for(here / "looked")
            process.kill()
            process.wait()
            (here / "go-on").touch()
            with agents(person, *([("slow",)] if again else []), port=int(url.rpartition(":")[2])):
                said, trouble = triage.communicate(timeout=200)
        finally:
            triage.kill()
            triage.communicate()
    assert triage.returncode == 0, trouble
    report = json.loads(said)["report"]
    work = {each["specialist"]: each for each in report["work"]}
    assert work["logs"]["status"] != "failed"
    calls = [r for r in person.records(kind="intent") if r["subject"] == "agent:slow"]
    if again:
        assert work["slow"]["status"] == "found" and work["slow"]["calls"] == 2
        assert len(calls) == 2  # the first look was replayed, not made again
    else:
        assert work["slow"]["status"] == "failed" and len(calls) == 1
        assert f"agent slow at {url}" in work["slow"]["summary"]
        assert "cannot be reached or stopped answering" in work["slow"]["summary"]
    assert person.json("audit", "verify")["ok"] is True


def _wait_for(path, seconds=120.0):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} did not appear"
        time.sleep(0.05)
