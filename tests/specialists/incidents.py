"""Incidents made for a test: noisy series with a step, log lines, spans and changes, as a recording."""

from __future__ import annotations

import csv
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from specialists.types import Scope, Task

START = datetime(2031, 3, 4, 8, 0, tzinfo=UTC)
BROKE = START + timedelta(minutes=75)  # when it broke
FIRED = BROKE + timedelta(minutes=4)
NOW = FIRED + timedelta(minutes=6)
ENDED = NOW + timedelta(minutes=15)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Incident:
    """What happened, minute by minute, to a small system; nothing in it is random twice."""

    def __init__(self, root: Path) -> None:
        self.root = root / "recording"
        self.dice = random.Random(7)
        self.metrics: list[tuple[str, str, str, str, str]] = []
        self.lines: list[dict[str, Any]] = []
        self.spans: list[dict[str, Any]] = []
        self.commits: list[dict[str, Any]] = []
        self.deploys: list[dict[str, Any]] = []
        self.flags: list[dict[str, Any]] = []
        self.versions: dict[str, Any] = {}
        self.recovery: dict[str, Any] = {}
        self.alert = {"service": "orders", "metric": "error_ratio", "summary": "orders fails too often"}

    def series(
        self,
        service: str,
        metric: str,
        usual: float,
        broken: float | None = None,
        unit: str = "",
        at: datetime = BROKE,
        noise: float = 0.05,
        until: datetime = ENDED,
        healed: datetime | None = NOW,
    ) -> None:
        """A metric every 30 s: the usual level with noise, another level from a moment on, and back again."""
        moment = START
        while moment <= until:
            bad = broken is not None and moment >= at and (healed is None or moment <= healed)
            level = broken if bad and broken is not None else usual
            value = level * (1 + noise * self.dice.gauss(0, 1))
            self.metrics.append((stamp(moment), service, metric, unit, f"{value:.6g}"))
            moment += timedelta(seconds=30)

    def logs(
        self,
        service: str,
        message: str,
        severity: str = "INFO",
        start: datetime = START,
        end: datetime = NOW,
        every: float = 60,
        **attributes: Any,
    ) -> None:
        """The same message again and again; {n} in it is counted."""
        moment, n = start, 0
        while moment <= end:
            n += 1
            said = message.replace("{n}", str(1000 + 37 * n))
            line = {"timestamp": stamp(moment), "service": service, "severity": severity, "message": said}
            self.lines.append(line | attributes)
            moment += timedelta(seconds=every)

    def trace(self, moment: datetime, *spans: tuple[str, str, str, float, float, str]) -> None:
        """One trace from rows: id and parent as "b<a", service, name, start ms, duration ms, error."""
        trace = f"t{len(self.spans)}"
        for ids, service, name, offset, duration, error in spans:
            own, _, parent = ids.partition("<")
            begin = moment + timedelta(milliseconds=offset)
            span: dict[str, Any] = {
                "trace_id": trace,
                "span_id": own,
                "parent_id": parent or None,
                "service": service,
                "name": name,
                "start": begin.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "duration_ms": duration,
                "status": "ERROR" if error else "OK",
            }
            self.spans.append(span | ({"error": error} if error and error != "-" else {}))

    def commit(
        self, sha: str, made: datetime, message: str, path: str, diff: str, author: str = "Kim"
    ) -> None:
        """A commit that touches one file."""
        self.commits.append(
            {
                "sha": sha,
                "author": author,
                "timestamp": stamp(made),
                "message": message,
                "files": [path],
                "diff": f"@@ {path} @@\n{diff}",
            }
        )

    def deploy(self, service: str, version: str, at: datetime, commit: str = "", previous: str = "") -> None:
        """A version of a service going live."""
        self.deploys.append(
            {
                "timestamp": stamp(at),
                "service": service,
                "version": version,
                "previous": previous,
                "commit": commit,
                "actor": "ci",
            }
        )

    def payload(self) -> dict[str, Any]:
        """The alert as Alertmanager sends it."""
        labels = {"alertname": "Page", "service": self.alert["service"], "metric": self.alert["metric"]}
        notes = {"summary": self.alert["summary"]}
        one = {"status": "firing", "labels": labels, "annotations": notes, "startsAt": stamp(FIRED)}
        return {"version": "4", "status": "firing", "alerts": [one]}

    def task(self, specialist: str, **more: Any) -> Task:
        """A task about this incident for one specialist."""
        scope = Scope(now=NOW, alert=self.payload())
        return Task(
            id=specialist,
            case="case-1",
            specialist=specialist,
            question="what is wrong?",
            scope=scope,
            **more,
        )

    def write(self) -> Path:
        """The recording on disk."""
        (self.root / "changes").mkdir(parents=True)
        (self.root / "runbooks").mkdir()
        services = sorted(
            {m[1] for m in self.metrics} | {x["service"] for x in self.lines} | set(self.versions)
        )
        about = {
            "format": "pointsman-recording/1",
            "id": "made-for-a-test",
            "title": "A test",
            "alert": "alert.json",
            "started": stamp(START),
            "clock": stamp(NOW),
            "ended": stamp(ENDED),
            "services": services,
            "recovery": self.recovery,
        }
        self._json("recording.json", about)
        self._json("alert.json", self.payload())
        self._json("state.json", {"services": self.versions})
        self._json("traces.json", self.spans)
        for name in ("commits", "deploys", "flags"):
            self._json(f"changes/{name}.json", getattr(self, name))
        with (self.root / "metrics.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("timestamp", "service", "metric", "unit", "value"), *self.metrics])
        lines = sorted(self.lines, key=lambda x: x["timestamp"])
        (self.root / "logs.ndjson").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return self.root

    def _json(self, name: str, value: Any) -> None:
        (self.root / name).write_text(json.dumps(value))
