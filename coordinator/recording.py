"""Records a case: what its tools answered, from the ledger, as a recording that can be triaged again."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator import trigger
from coordinator.case_index import open_index
from coordinator.errors import CaseUnknown, TriggerUnreadable
from coordinator.types import Trigger

if TYPE_CHECKING:
    from coordinator.gateway_client import GatewayClient

PAGE = 500
OWN = "gateway__"  # the gateway's own tools are no part of an incident
KEPT = ("recovery", "services", "system", "description")  # of the recording a case was about
PARTS = ("state.json", "runbooks", "dependencies.json")

Line = dict[str, Any]


def run_record(case: str, directory: Path, as_json: bool, config: str | None) -> None:
    """Write a case as a recording and say where it is."""
    told = asyncio.run(_record(case, directory, config))
    if as_json:
        print(json.dumps(told, indent=2))
        return
    listed = ", ".join(f"{n} of {server}" for server, n in told["answers"].items())
    print(f"wrote {told['directory']}: {listed or 'no answers'}\nrun it again: pointsman triage {directory}")


async def _record(case: str, directory: Path, config: str | None) -> dict[str, Any]:
    from coordinator.session import open_session

    _refuse_to_overwrite(directory)
    index = open_index(config)
    row = index.get(case)
    opened = index.trigger(row.id)
    recording = Path(row.recording) if row.recording else None
    served = recording if recording and recording.is_dir() else None
    async with open_session(config, served) as session, session.runner.gateway(row.id) as gateway:
        answers = await answers_of(row.id, gateway)
    if not answers:
        raise CaseUnknown(
            f"the ledger of this home holds no tool call of case {row.id}: "
            "nothing to record; see `pointsman audit search`"
        )
    write(directory, row.id, opened, answers, row.opened.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return {
        "case": row.id,
        "directory": str(directory.resolve()),
        "answers": {server: len(lines) for server, lines in sorted(answers.items())},
    }


async def answers_of(case: str, gateway: GatewayClient) -> dict[str, list[Line]]:
    """What every tool answered in a case, by server, each call once and in the order of time."""
    found: dict[str, list[Line]] = defaultdict(list)
    seen: set[str] = set()
    for record in await _intents(case, gateway):
        shown = await gateway.show_call(str(record["call"]))
        line = _line(str(record["tool"]), shown)
        same = json.dumps([record["tool"], shown.get("arguments")], sort_keys=True)
        if line and same not in seen:  # asked again, the first answer is that of the incident
            seen.add(same)
            found[str(record["tool"]).partition("__")[0]].append(line)
    return dict(found)


async def _intents(case: str, gateway: GatewayClient) -> list[dict[str, Any]]:
    """The calls of a case that went out to tool servers."""
    found: list[dict[str, Any]] = []
    after: Any = None
    while True:
        asked = {"case": case, "kind": "intent", "limit": PAGE, **({"after": after} if after else {})}
        page = await gateway.read("gateway__search_ledger", asked)
        records = page.get("records") or []
        found += [r for r in records if not str(r.get("tool", "")).startswith(OWN)]
        after = page.get("next")
        if not records or not after:
            return found


def _line(tool: str, shown: dict[str, Any]) -> Line | None:
    """One recorded answer; none for a call that was refused or never came back."""
    result = shown.get("result")
    if not isinstance(result, dict) or "content" not in result or _refused(result):
        return None
    line: Line = {
        "tool": tool.partition("__")[2],
        "arguments": shown.get("arguments") or {},
        "text": str(shown.get("text") or ""),
    }
    if isinstance(result.get("structuredContent"), dict):
        line["data"] = result["structuredContent"]
    if result.get("isError"):
        line["error"] = True
    return line


def _refused(result: dict[str, Any]) -> bool:
    return "pointsman/refusal" in (result.get("_meta") or {})


def write(
    directory: Path, case: str, opened: Trigger, answers: dict[str, list[Line]], when_opened: str
) -> None:
    """The recording: what opened the case, where its clock stood, and the answers of every server."""
    clock = opened.scope.now.isoformat().replace("+00:00", "Z") if opened.scope.now else when_opened
    source = Path(opened.recording) if opened.recording else None
    before = trigger.read_recording(source) if source and (source / "recording.json").is_file() else {}
    about = {
        "format": "pointsman-recording/1",
        "id": case,
        "title": opened.title,
        "question": opened.question,
        "alert": "alert.json",
        "started": str(before.get("started") or clock),
        "clock": clock,
        "ended": clock,
        "onset": opened.scope.onset.isoformat() if opened.scope.onset else "",
        "namespace": opened.scope.namespace,
        **{name: before[name] for name in KEPT if name in before},
    }
    (directory / "answers").mkdir(parents=True, exist_ok=True)
    for server, lines in answers.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (directory / "answers" / f"{server}.ndjson").write_text(text, encoding="utf-8")
    if alert := _alert(opened):
        (directory / "alert.json").write_text(json.dumps(alert, indent=1) + "\n", encoding="utf-8")
    if source:
        _copy(source, directory)
    (directory / "recording.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _alert(opened: Trigger) -> dict[str, Any]:
    """The alert that opened the case; of a question, what it names."""
    if opened.payload:
        return opened.payload
    named = {"title": opened.title, "description": opened.question}
    return {**named, "service": opened.scope.services[0]} if opened.scope.services else {}


def _copy(source: Path, directory: Path) -> None:
    """The parts of an older recording that no tool call shows whole: what actions act on, and the pages."""
    import shutil

    for name in PARTS:
        if (source / name).is_dir():
            shutil.copytree(source / name, directory / name, dirs_exist_ok=True)
        elif (source / name).is_file():
            shutil.copyfile(source / name, directory / name)


def _refuse_to_overwrite(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise TriggerUnreadable(
            f"{str(directory)!r} is not an empty directory: name a new one, so that nothing is overwritten"
        )
