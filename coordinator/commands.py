"""What the commands `triage` and `cases …` do once they are called."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator import trigger
from coordinator.case_index import open_index
from coordinator.errors import CaseHeld, CaseUnknown, UsageError
from coordinator.markdown import markdown, proposal_line
from coordinator.progress import Lines, silent
from coordinator.report import clock, one_line, percent
from coordinator.settings import CoordinatorSettings
from coordinator.types import CHECKPOINT, CaseResult, Report, StepRecord, Trigger

if TYPE_CHECKING:
    from coordinator.verifying import Proof
    from specialists.types import Action

WAITING = 4


def run_triage(source: str, *, as_json: bool, config: str | None) -> int:
    """Take one trigger to its report and print it."""
    opened = trigger.from_source(source, sys.stdin.read() if source == "-" else "")
    result = asyncio.run(_triage(opened, as_json, config))
    print_result(result, as_json)
    return code_of(result)


async def _triage(opened: Trigger, as_json: bool, config: str | None) -> CaseResult:
    from coordinator.session import open_session

    recording = Path(opened.recording) if opened.recording else None
    tell = silent if as_json else Lines()
    async with open_session(config, recording, tell) as session:
        if session.recording and not recording:
            opened = with_clock_of(opened, session.recording)
        return await session.runner.start(opened)


def with_clock_of(opened: Trigger, recording: Path) -> Trigger:
    """A trigger about a recorded incident looks at it with the recording's clock."""
    recorded = trigger.from_recording(recording)
    scope = opened.scope.model_copy(
        update={
            "now": recorded.scope.now,
            "onset": opened.scope.onset or recorded.scope.onset,
            "namespace": opened.scope.namespace or recorded.scope.namespace,
        }
    )
    return opened.model_copy(update={"scope": scope, "recording": str(recording)})


def run_list(limit: int, as_json: bool, config: str | None) -> None:
    """Print the latest cases."""
    rows = open_index(config).list(limit)
    if as_json:
        print(json.dumps([r.model_dump(mode="json") for r in rows], indent=2))
        return
    for row in rows:
        print(f"{row.id}  {clock(row.opened)}  {row.status:<9}  {row.outcome or '-':<9}  {row.title}")
    if not rows:
        print("no cases yet; open one with `pointsman chat` or `pointsman triage SOURCE`")


def run_show(case: str, as_json: bool, config: str | None) -> None:
    """Print where a case stands, from what this home keeps; no gateway is needed."""
    index = open_index(config)
    row, report = index.get(case), index.report(index.get(case).id)
    if as_json:
        shown = row.model_dump(mode="json") | {"report": report.model_dump(mode="json") if report else None}
        print(json.dumps(shown, indent=2))
        return
    print(f"{row.id}  {row.status}  opened {clock(row.opened)}\n{row.title}")
    for line in _standing(report):
        print(line)
    for approval in sorted(index.waiting().get(row.id, ())):
        print(f"waits for a person: pointsman approvals show {approval}")
    if row.status in ("running", "stopped", "waiting"):
        print(f"go on with: pointsman cases resume {row.id}")


def run_resume(case: str, as_json: bool, config: str | None) -> int:
    """Go on with a case and print its report; one that an engine has, or would take now, is left to it."""
    index, lease = open_index(config), CoordinatorSettings.load(config).lease_seconds
    row = index.get(case)
    if worker := index.taken(row.id, lease):
        raise CaseHeld(
            f"{row.id} is in the hands of {worker}, see `pointsman cases watch {row.id}`, "
            f"or stop it there with `pointsman cases pause {row.id}`"
        )
    result = asyncio.run(_resume(row.id, Path(row.recording) if row.recording else None, as_json, config))
    print_result(result, as_json)
    return code_of(result)


def code_of(result: CaseResult) -> int:
    """0 for a delivered report, even if an action in it awaits consent; 4 while a doubt holds it back."""
    return WAITING if result.waiting and not result.report else 0


async def _resume(case: str, recording: Path | None, as_json: bool, config: str | None) -> CaseResult:
    from coordinator.session import open_session

    async with open_session(config, recording, silent if as_json else Lines()) as session:
        return await session.runner.resume(case)


def run_report(case: str, as_json: bool, config: str | None) -> None:
    """Print the report of a case as it was delivered."""
    index = open_index(config)
    id_ = index.get(case).id
    text = index.report_text(id_, "json" if as_json else "md")
    if not text:
        raise CaseUnknown(
            f"case {id_} has no report yet: it did not finish; go on with `pointsman cases resume {id_}`"
        )
    print(text.rstrip())


def run_verify(target: str, as_json: bool, config: str | None) -> int:
    """Prove a report against the ledger and print what differs; 0 when nothing does."""
    proof = asyncio.run(_verify(target, config))
    if as_json:
        print(json.dumps(proof.as_data(), indent=2))
        return 1 if proof.problems else 0
    first, last, head = proof.records
    if not proof.problems:
        print(f"{proof.what}: as it was recorded")
        print(
            f"ledger records {first} to {last}, head {head}; {len(proof.citations)} citations, word for word"
        )
        return 0
    print(f"{proof.what}: not as it was recorded")
    for problem in proof.problems:
        print(f"- {problem}")
    return 1


def run_deliver(case: str, to: list[str], as_json: bool, config: str | None) -> int:
    """Send the reports of a case now, where they go or where it is said; 1 if one did not arrive."""
    told = asyncio.run(_deliver(case, to, config))
    if as_json:
        print(json.dumps(told, indent=2))
    for one in [] if as_json else told:
        print(f"{one['to']:<20} {one['status']:<7} {one.get('why') or one.get('reference', '')}")
    return 0 if all(one["status"] == "sent" for one in told) else 1


async def _deliver(case: str, to: list[str], config: str | None) -> list[dict[str, Any]]:
    from coordinator.session import open_session

    async with open_session(config, tell=silent) as session:
        runner = session.runner
        result = await runner.look(case)
        if result.report is None:
            raise CaseUnknown(
                f"case {result.case} has no report yet: see `pointsman cases show {result.case}`"
            )
        reports = [(result.report, tuple(to))] if to else runner.outgoing(result)
        if not any(names for _, names in reports):
            raise UsageError(
                "no destination is set: name one with --to NAME, or set [coordinator] deliver_to; "
                "docs/delivery.md says how one is added"
            )
        return await runner.deliver(result.case, reports)


async def _verify(target: str, config: str | None) -> Proof:
    from coordinator.gateway_client import GatewayClient
    from coordinator.session import open_session
    from coordinator.verifying import verify

    async with open_session(config, tell=silent) as session:
        runner = session.runner
        access = runner.access
        async with GatewayClient(access, access.person or access.coordinator) as person:
            return await verify(target, runner.index, runner.gateway, person)


def print_result(result: CaseResult, as_json: bool) -> None:
    """A result on standard output: the report, and what it waits for."""
    if as_json:
        print(json.dumps(as_data(result), indent=2))
        return
    if result.report:
        print(markdown(result.report))
    elif not result.waiting:
        print(f"{result.case} is done; it delivers no report. Its steps:")
        for name, record in _steps(result):
            print(
                f"  {name}: {record['status']}" + (f": {record.get('error')}" if record.get("error") else "")
            )
    for waiting in result.waiting:
        print(f"waiting for {waiting.kind}: {waiting.text}")
        for action in waiting.actions:
            for line in at_stake(action):
                print(f"  {line}")
            print(f"  decide with: pointsman approvals grant {action.approval} --reason WHY (or deny)")
        print(f"  then: pointsman cases resume {result.case}, or leave it to `pointsman up`")


def at_stake(action: Action) -> list[str]:
    """What somebody decides about who grants this call: a checkpoint's question, or the call itself."""
    asked = action.arguments
    if action.tool != CHECKPOINT:
        told = ", ".join(f"{name}={value}" for name, value in asked.items())
        return [f"{action.tool}({told}): {one_line(action.reason)}"]
    edit, shows = asked.get("edit") or {}, asked.get("shows") or {}
    change = {name: f" (change it with --edit {name}=VALUE)" for name in edit}
    lines = [f"{name}: {value}{change.get(name, '')}" for name, value in shows.items()]
    return lines + ([f"decided by somebody with the role {asked['by']}"] if asked.get("by") else [])


def as_data(result: CaseResult) -> dict[str, Any]:
    """A result as JSON values."""
    return {
        "case": result.case,
        "status": "waiting" if result.waiting else "delivered",
        "waiting": [w.model_dump(mode="json") for w in result.waiting],
        "steps": {name: record["status"] for name, record in _steps(result)},
        "report": result.report.model_dump(mode="json") if result.report else None,
    }


def _steps(result: CaseResult) -> list[tuple[str, StepRecord]]:
    """What became of each step, without the parts of steps that are done more than once."""
    steps = (result.state or {}).get("steps", {}) if result.state else {}
    return [(name, record) for name, record in steps.items() if "/" not in name and "#" not in name]


def _standing(report: Report | None) -> list[str]:
    if report is None:
        return ["no report yet"]
    lines = [
        f"{w.specialist:<12} {w.status:<9} {w.calls:>3} calls {w.seconds:5.1f} s  {w.summary}"
        for w in report.work
    ]
    lines += [f"{h.rank}. {percent(h.confidence)} {h.statement}" for h in report.hypotheses]
    return lines + [proposal_line(p) for p in report.proposals]
