"""Sock Shop 1: a normal and an anomalous period of resource metrics; the answer is the service at fault.

Expected: `SERVICE-FAULT/N/{normal,anomalous}.csv` with a column `time` and columns `SERVICE_METRIC`.
The normal period is moved in time to end where the anomalous one begins. Detection that comes `late` puts
the alert so many seconds after the fault's beginning.
"""

from __future__ import annotations

import csv
import math
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

Table = tuple[list[float], dict[str, list[float]]]
QUESTION = "The shop got slow."


def find(directory: Path) -> list[BenchCase]:
    """All cases under a directory."""
    found = [
        path.parent for path in directory.glob("**/anomalous.csv") if path.with_name("normal.csv").is_file()
    ]
    if not found:
        raise nothing_there(directory, "SERVICE-FAULT/N/normal.csv beside anomalous.csv")
    return in_order([_case(path) for path in found])


def _case(directory: Path) -> BenchCase:
    service, _, fault = directory.parent.name.rpartition("-")
    return BenchCase(
        name=f"{directory.parent.name}/{directory.name}",
        directory=directory,
        truth=((service,),),
        fault=fault,
        question=QUESTION,
    )


def writer(late: float = 0.0):
    """Writes recordings whose alert fires so many seconds after the fault began."""

    def write_recording(case: BenchCase, directory: Path) -> Path:
        """Both periods as one recording, with an alert that names no service."""
        normal, bad = (_table(case.directory / f"{which}.csv") for which in ("normal", "anomalous"))
        step = normal[0][1] - normal[0][0]
        shift = bad[0][0] - step - normal[0][-1]
        samples = [*_samples(normal, shift), *_samples(bad, 0.0)]
        clock = iso(bad[0][-1])
        writing.about(
            directory,
            case.name,
            question=case.question,
            alert="alert.json",
            started=iso(normal[0][0] + shift),
            clock=clock,
            ended=clock,
            services=sorted({sample[1] for sample in samples}),
        )
        writing.alert(directory, iso(bad[0][0] + late), {"alertname": "Slow"}, {"summary": case.question})
        writing.metrics(directory, samples)
        return directory

    return write_recording


def _table(path: Path) -> Table:
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    columns = {name: [float(row[n] or "nan") for row in rows] for n, name in enumerate(names)}
    return columns.pop("time"), columns


def _samples(table: Table, shift: float) -> list[Sample]:
    times, columns = table
    return [
        (iso(t + shift), *_named(column), value)
        for column, values in columns.items()
        for t, value in zip(times, values, strict=True)
        if math.isfinite(value)
    ]


def _named(column: str) -> tuple[str, str, str]:
    """The service, the metric and no unit: the data does not say which."""
    service, _, metric = column.partition("_")
    return service, metric, ""


def data(late: float = 0.0) -> DataSet:
    """The data set, its alerts so many seconds late."""
    return DataSet(
        name="sockshop",
        words=("service",),
        asked=("metrics",),
        depths=(1, 2, 3, 4, 5),
        write=writer(late),
        answers=services_named,
    )
