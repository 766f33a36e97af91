"""PetShop: issues of a service graph with a normal period; the answer is the node where the cause is.

Expected: `graph.csv`, `noissue/metrics.csv` and `{train,test}/issue_N/{metrics.csv,target.json}`.
The normal period is set before each issue by moving its times by whole steps, so that it ends one step
before the issue's first sample.
"""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from pathlib import Path

from coordinator.evaluation import writing
from coordinator.evaluation.cases import (
    BenchCase,
    DataSet,
    in_order,
    iso,
    nothing_there,
    services_named,
)
from coordinator.evaluation.writing import Sample

HEADER = 4  # rows: node, metric, statistic, name of the index
QUIET = 192  # steps of the normal period that are kept: more than any reader asks for
UNITS = {"latency": "s", "availability": "%", "requests": "1"}
Table = tuple[list[float], dict[tuple[str, str], list[float | None]]]


def find(directory: Path) -> list[BenchCase]:
    """All issues under a directory that has a graph above them."""
    found = [path.parent for path in directory.glob("**/target.json") if _root(path.parent)]
    if not found:
        raise nothing_there(directory, "graph.csv, noissue/metrics.csv and {train,test}/issue_N/target.json")
    roots = {_root(path) for path in found}
    return in_order([_case(path, len(roots) > 1) for path in found])


def _root(issue: Path) -> Path | None:
    return next((up for up in list(issue.parents)[:4] if (up / "graph.csv").is_file()), None)


def _case(directory: Path, several: bool) -> BenchCase:
    said = json.loads((directory / "target.json").read_text(encoding="utf-8"))
    root = _root(directory)
    name = f"{directory.parent.name}/{directory.name}"
    target, cause = said["target"], said["root_cause"]
    return BenchCase(
        name=f"{root.name}/{name}" if several and root else name,
        directory=directory,
        truth=((str(cause["node"]),),),
        fault=f"{target['metric']} by {cause['node']}",
        question=f"The {target['metric']} of {target['node']} is violated.",
    )


def write_recording(case: BenchCase, directory: Path) -> Path:
    """The normal period and the issue as one recording, with the alert and the call graph."""
    root = _root(case.directory)
    assert root is not None
    target = json.loads((case.directory / "target.json").read_text(encoding="utf-8"))["target"]
    issue = _table(case.directory / "metrics.csv")
    normal = _table(root / "noissue" / "metrics.csv")
    step = normal[0][1] - normal[0][0] if len(normal[0]) > 1 else 300.0
    moved = [issue[0][0] - step * (len(normal[0]) - n) for n in range(len(normal[0]))]
    samples = _samples(moved[-QUIET:], {k: v[-QUIET:] for k, v in normal[1].items()})
    samples += _samples(*issue)
    clock = iso(issue[0][-1])
    writing.about(
        directory,
        case.name,
        question=case.question,
        alert="alert.json",
        started=iso(moved[0]),
        clock=clock,
        ended=clock,
        services=sorted({sample[1] for sample in samples}),
    )
    writing.alert(
        directory,
        iso(float(target["timestamp"])),
        {"alertname": "ServiceLevelViolated", "service": target["node"], "metric": _metric(target)},
        {"summary": case.question},
    )
    writing.metrics(directory, samples)
    writing.dependencies(directory, _edges(root / "graph.csv"))
    return directory


def _metric(target: dict[str, str]) -> str:
    return f"{target['metric']}_{target['agg']}".lower()


@lru_cache(maxsize=8)
def _table(path: Path) -> Table:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    times = [float(row[0]) for row in rows[HEADER:]]
    columns: dict[tuple[str, str], list[float | None]] = {}
    for at, (node, metric, statistic) in enumerate(zip(*rows[:3], strict=True)):
        if at and node:
            values = [float(row[at]) if row[at] not in ("", "nan") else None for row in rows[HEADER:]]
            columns[node, f"{metric}_{statistic}".lower()] = values
    return times, columns


def _samples(times: list[float], columns: dict[tuple[str, str], list[float | None]]) -> list[Sample]:
    return [
        (iso(t), node, metric, UNITS.get(metric.partition("_")[0], ""), value)
        for (node, metric), values in columns.items()
        for t, value in zip(times, values, strict=True)
        if value is not None
    ]


def _edges(path: Path) -> list[tuple[str, str]]:
    """A cell that is not zero says that the row's node calls the column's."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return [
        (row[0], callee)
        for row in rows[1:]
        for callee, calls in zip(rows[0][1:], row[1:], strict=True)
        if float(calls or 0)
    ]


DATA = DataSet(
    name="petshop",
    words=("service",),
    asked=("metrics",),
    depths=(1, 3),
    write=write_recording,
    answers=services_named,
)
