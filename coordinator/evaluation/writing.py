"""Writes recordings of other people's data: description, alert, metrics, call graph."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Sample = tuple[str, str, str, str, float]  # timestamp, service, metric, unit, value


def about(directory: Path, id_: str, **more: Any) -> None:
    """The description of a recording."""
    directory.mkdir(parents=True, exist_ok=True)
    said = {"format": "pointsman-recording/1", "id": id_, **more}
    (directory / "recording.json").write_text(json.dumps(said), encoding="utf-8")


def alert(directory: Path, fired: str, labels: dict[str, str], notes: dict[str, str]) -> None:
    """The alert that fired, in Alertmanager's form."""
    one = {"status": "firing", "labels": labels, "annotations": notes, "startsAt": fired}
    payload = {"version": "4", "status": "firing", "receiver": "eval", "alerts": [one]}
    (directory / "alert.json").write_text(json.dumps(payload), encoding="utf-8")


def metrics(directory: Path, samples: Iterable[Sample]) -> None:
    """The metrics of a recording."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("timestamp", "service", "metric", "unit", "value"))
    table.writerows(samples)
    packed = gzip.compress(text.getvalue().encode(), compresslevel=1, mtime=0)
    (directory / "metrics.csv.gz").write_bytes(packed)


def dependencies(directory: Path, edges: Iterable[tuple[str, str]]) -> None:
    """Who calls whom."""
    listed = [{"caller": caller, "callee": callee} for caller, callee in edges]
    (directory / "dependencies.json").write_text(json.dumps(listed), encoding="utf-8")
