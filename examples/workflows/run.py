"""A workflow, a changed threshold, a further step, a person: docs/workflows.md comes true."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
RECORDING = str(HERE.parent / "incident_triage" / "recording")
sys.path.insert(0, str(HERE.parent))

from walk import Walk, walk  # noqa: E402


def main() -> None:
    """Run the versions of the file as a person would."""
    with walk() as person:
        person.pointsman("init")
        person.environment["POINTSMAN_GATEWAY__RECORDING"] = RECORDING
        with person.gateway():
            check(person)


def check(person: Walk) -> None:
    """Each version in turn; `ticket` holds what `stricter` changed."""
    first = use(person, "first")
    assert person.json("workflows", "check")[-1]["ok"]
    calm = person.json("workflows", "run", "deploy-check", "--input", "service=orders")
    report = calm["report"]
    assert report["outcome"] == "done", report
    count = report["shows"]["Deploys"]
    print(f"first: {report['summary'][0]['text']}")

    told = person.json("workflows", "diff", str(first), str(HERE / "stricter" / "deploy-check.yaml"))
    assert told == ["At calm, the largest value that passes falls from 5.0 to 0.0."], told
    past = person.json("workflows", "simulate", str(HERE / "stricter" / "deploy-check.yaml"))
    assert past["cases"] == 1 and past["changed"][0]["would"] == "person", past
    print(f"before: {past['sentences'][0]}")

    use(person, "ticket")
    asked = person.json("workflows", "run", "deploy-check", "--input", "service=orders", code=4)
    [action] = asked["waiting"][0]["actions"]
    assert action["arguments"]["shows"]["value"] == count > 0
    person.pointsman("approvals", "grant", action["approval"], "--reason", "it was a planned release")
    assert person.json("cases", "resume", asked["case"])["report"]["outcome"] == "done"
    print(f"stricter: {asked['case']} waited for a person, and went on")
    calls = person.json("audit", "search", "--case", asked["case"], "--tool", "tickets__create")["records"]
    assert [call["kind"] for call in calls] == ["intent", "outcome"], calls
    print("ticket: the release team was told")

    use(person, "person")
    asked = person.json("workflows", "run", "deploy-check", "--input", "service=orders")
    [action] = asked["waiting"][0]["actions"]
    agree = ("approvals", "grant", action["approval"], "--reason", "all of them", "--edit", "deploys=2")
    roles = ("--role", "release", "--role", "approver")
    token = person.json("tokens", "issue", "user:rea", *roles)["token"]
    person.pointsman(*agree, POINTSMAN_TOKEN=token)
    report = person.json("cases", "resume", asked["case"])["report"]
    assert report["summary"][0]["text"] == "user:rea announced 2 deploys.", report
    print(f"person: {report['summary'][0]['text']}")


def use(person: Walk, version: str) -> Path:
    """Put one version of the file where workflows are."""
    folder = person.directory / "workflows"
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(HERE / version / "deploy-check.yaml", folder))


if __name__ == "__main__":
    main()
