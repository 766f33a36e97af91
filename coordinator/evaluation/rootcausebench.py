"""RootCauseBench: an alert, telemetry and a history of changes; the answer is the culprit commit or "none".

Expected: `SCENARIO/{alert.json,metrics.csv,logs.ndjson,traces.json,ground_truth.json}` and
`SCENARIO/context/{commits,deploys,flags}.json`.
"""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.evaluation import writing
from coordinator.evaluation.cases import (
    Answer,
    BenchCase,
    DataSet,
    distinct,
    hypotheses,
    in_order,
    nothing_there,
)

if TYPE_CHECKING:
    from coordinator.types import CaseResult

NONE: Answer = ("none",)
AFTER = timedelta(minutes=5)  # how long after the alert the copilot is asked
SPAN = {
    "trace_id", "span_id", "parent_id", "service", "name", "start", "duration_ms", "status", "error",
    "attributes",
}  # fmt: skip


def find(directory: Path) -> list[BenchCase]:
    """All scenarios under a directory."""
    found = [path.parent for path in directory.glob("**/ground_truth.json")]
    if not found:
        raise nothing_there(directory, "SCENARIO/ground_truth.json beside alert.json and metrics.csv")
    return in_order([_case(path) for path in found])


def _case(directory: Path) -> BenchCase:
    truth = json.loads((directory / "ground_truth.json").read_text(encoding="utf-8"))
    commit = str(truth.get("root_cause_commit") or "none")
    return BenchCase(
        name=directory.name,
        directory=directory,
        truth=((commit,),),
        fault="no change" if commit == "none" else "a commit",
        question=str(_read(directory / "alert.json").get("summary", "")),
        wrong=frozenset((str(sha),) for sha in truth.get("decoy_deploy_commits") or ()),
    )


def write_recording(case: BenchCase, directory: Path) -> Path:
    """The scenario as a recording; the truth stays behind."""
    source = case.directory
    alert = _read(source / "alert.json")
    with (source / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    logs = [json.loads(line) for line in (source / "logs.ndjson").read_text(encoding="utf-8").splitlines()]
    spans = [_span(span) for span in _read(source / "traces.json")]
    clock = datetime.fromisoformat(alert["fired_at"]) + AFTER
    writing.about(
        directory,
        case.name,
        question=case.question,
        alert="alert.json",
        started=min(row["timestamp"] for row in rows),
        clock=clock.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ended=max(row["timestamp"] for row in rows),
        services=sorted({x["service"] for x in (*rows, *logs, *spans)}),
    )
    labels = {name: str(alert.get(name, "")) for name in ("service", "metric", "severity")}
    notes = {name: str(alert.get(name, "")) for name in ("summary", "detail", "threshold", "observed")}
    named = {"alertname": str(alert.get("monitor", "")), **labels}
    writing.alert(directory, alert["fired_at"], named, {k: v for k, v in notes.items() if v})
    writing.metrics(
        directory, ((r["timestamp"], r["service"], r["metric"], "", float(r["value"])) for r in rows)
    )
    lines = (json.dumps(_line(line), ensure_ascii=False) for line in logs)
    (directory / "logs.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / "traces.json").write_text(json.dumps(spans), encoding="utf-8")
    _write_changes(source / "context", directory / "changes")
    return directory


def _line(line: dict[str, Any]) -> dict[str, Any]:
    rest = {k: v for k, v in line.items() if k not in ("severity_text", "msg")}
    return {**rest, "severity": line.get("severity_text", "INFO"), "message": line.get("msg", "")}


def _span(span: dict[str, Any]) -> dict[str, Any]:
    own = {k: v for k, v in span.items() if k not in SPAN}
    known = {k: v for k, v in span.items() if k in SPAN}
    return {**known, "attributes": {**(span.get("attributes") or {}), **own}}


def _write_changes(source: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    commits = [
        {
            "sha": c["sha"],
            "author": c.get("author", ""),
            "timestamp": c["timestamp"],
            "message": c.get("message", ""),
            "files": c.get("files_changed") or [],
            "diff": c.get("diff") or "",
        }
        for c in _read(source / "commits.json")
    ]
    deploys, running = [], {}
    for one in sorted(_read(source / "deploys.json"), key=lambda d: d["timestamp"]):
        service, version = one["service"], one.get("version", "")
        deploys.append(
            {
                "timestamp": one["timestamp"],
                "service": service,
                "version": version,
                "previous": running.get(service, ""),
                "commit": one.get("commit_sha", ""),
                "actor": one.get("actor", ""),
            }
        )
        running[service] = version
    parts = {"commits": commits, "deploys": deploys, "flags": _read(source / "flags.json")}
    for name, part in parts.items():
        (directory / f"{name}.json").write_text(json.dumps(part), encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def culprits(result: CaseResult) -> list[tuple[Answer, float]]:
    """The commits that the hypotheses name, best first; anything else that is named first means "none"."""
    named = [(_commit(h["object"]), float(h["confidence"])) for h in hypotheses(result)]
    return distinct(named) or [(NONE, 0.0)]


def _commit(object_: str) -> Answer:
    kind, _, name = object_.partition("/")
    return (name,) if kind == "commit" else NONE


DATA = DataSet(
    name="rootcausebench",
    words=("commit",),
    asked=("metrics", "logs", "traces", "changes"),
    depths=(1, 3),
    write=write_recording,
    answers=culprits,
)
