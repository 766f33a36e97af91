"""A recorded incident on disk (`pointsman-recording/1`), read once and kept while unchanged."""

from __future__ import annotations

import csv
import gzip
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import orjson

from tool_servers.errors import BadRecording, NotRecorded
from tool_servers.toolkit import parse_time

if TYPE_CHECKING:
    from tool_servers.answers import Answers

FORMAT = "pointsman-recording/1"
KEPT = 4  # recordings held in memory

Part = TypeVar("Part")


@dataclass(slots=True)
class MetricSeries:
    """One recorded metric of one service."""

    service: str
    metric: str
    unit: str
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Line:
    """One log line, with its time as a number."""

    time: float
    service: str
    severity: str
    message: str
    record: dict[str, Any]


@dataclass(slots=True)
class RecordedSpan:
    """One span, with its time as a number, its children, and the time they do not account for."""

    time: float
    record: dict[str, Any]
    service: str
    name: str
    duration: float
    failed: bool
    own: float = 0.0
    parent: RecordedSpan | None = None
    children: list[RecordedSpan] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.time + self.duration / 1000


class Recording:
    """One recording: its description, and its parts as they are first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parts: dict[str, tuple[tuple[int, int], Any]] = {}
        self._lock = threading.RLock()
        self.about: dict[str, Any] = self._part("recording.json", _read_object)
        if self.about.get("format") != FORMAT:
            raise BadRecording(
                f"{root}/recording.json: format is {self.about.get('format')!r}, not {FORMAT!r}; "
                "point --recording at a directory of that format"
            )
        for key in ("id", "clock"):
            if not isinstance(self.about.get(key), str):
                raise BadRecording(f"{root}/recording.json: {key!r} is missing; add it as text")

    @property
    def id(self) -> str:
        return self.about["id"]

    @property
    def clock(self) -> float:
        return parse_time(self.about["clock"])

    @property
    def ended(self) -> float:
        return parse_time(self.about.get("ended") or self.about["clock"])

    @property
    def services(self) -> set[str]:
        return set(self.about.get("services", ()))

    @property
    def initial_state(self) -> dict[str, Any]:
        if not (self.root / "state.json").exists():
            return {}
        return self._part("state.json", _read_object)

    @property
    def metrics(self) -> list[MetricSeries]:
        return self._part("metrics.csv", _read_metrics)

    @property
    def logs(self) -> list[Line]:
        return self._part("logs.ndjson", _read_logs)

    @property
    def spans(self) -> list[RecordedSpan]:
        return self._part("traces.json", _read_spans)

    @property
    def dependencies(self) -> list[tuple[str, str]]:
        """Who calls whom, where that was recorded apart from traces."""
        if not (self.root / "dependencies.json").exists():
            return []
        return self._part("dependencies.json", _read_dependencies)

    def answers(self, server: str) -> Answers | None:
        """The recorded answers of a server, if there are any."""
        if not any((self.root / f"answers/{server}.ndjson{end}").exists() for end in ("", ".gz")):
            return None
        return self._part(f"answers/{server}.ndjson", _read_answers)

    @property
    def runbooks(self) -> list[Path]:
        return sorted(path for path in (self.root / "runbooks").glob("**/*") if path.is_file())

    def changes(self, kind: str) -> list[dict[str, Any]]:
        return self._part(f"changes/{kind}.json", _read_list)

    def derived(self, name: str, of: str, make: Callable[[], Part]) -> Part:
        """Something worked out from a part, once for as long as that part is unchanged."""
        with self._lock:
            stamp = _stamp(self._find(of))
            kept = self._parts.get(name)
            if kept is None or kept[0] != stamp:
                kept = self._parts[name] = (stamp, make())
            return kept[1]

    def _part(self, name: str, read: Callable[[Path], Part]) -> Part:
        with self._lock:
            path = self._find(name)
            stamp = _stamp(path)
            kept = self._parts.get(name)
            if kept is None or kept[0] != stamp:
                try:
                    kept = self._parts[name] = (stamp, read(path))
                except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
                    raise BadRecording(f"{path}: cannot be read: {error!r}; record it again") from error
            return kept[1]

    def _find(self, name: str) -> Path:
        for path in (self.root / name, self.root / f"{name}.gz"):
            if path.exists():
                return path
        if name == "recording.json":
            raise BadRecording(f"{self.root}: no recording.json in it; point --recording at a recording")
        raise NotRecorded(f"the recording {self.id!r} has no {name.partition('.')[0]}")


class Recordings:
    """The recording a path leads to now: the path may be a link that is switched while serving."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: OrderedDict[tuple[str, int], Recording] = OrderedDict()
        self._lock = threading.Lock()

    def current(self) -> Recording:
        """Open the recording, or take it from memory while it is unchanged."""
        root = self.path.resolve()
        about = root / "recording.json"
        if not about.is_file():
            raise BadRecording(f"{self.path}: no recording.json in it; point --recording at a recording")
        key = (str(root), about.stat().st_mtime_ns)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = Recording(root)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _read_object(path: Path) -> dict[str, Any]:
    with _open(path) as file:
        value = json.load(file)
    if not isinstance(value, dict):
        raise TypeError("a JSON object is expected")
    return value


def _read_list(path: Path) -> list[dict[str, Any]]:
    with _open(path) as file:
        value = json.load(file)
    if not isinstance(value, list):
        raise TypeError("a JSON list is expected")
    return value


def _read_dependencies(path: Path) -> list[tuple[str, str]]:
    return [(str(edge["caller"]), str(edge["callee"])) for edge in _read_list(path)]


def _read_metrics(path: Path) -> list[MetricSeries]:
    found: dict[tuple[str, str], MetricSeries] = {}
    samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
    times: dict[str, float] = {}
    with _open(path) as file:
        for row in csv.DictReader(file):
            key = (row["service"], row["metric"])
            if key not in found:
                found[key] = MetricSeries(*key, unit=row.get("unit") or "")
                samples[key] = []
            stamp = row["timestamp"]
            if stamp not in times:
                times[stamp] = parse_time(stamp)
            samples[key].append((times[stamp], float(row["value"])))
    for key, series in found.items():
        samples[key].sort()
        series.times = [time for time, _ in samples[key]]
        series.values = [value for _, value in samples[key]]
    return [found[key] for key in sorted(found)]


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        for line in file:
            if line.strip():
                yield orjson.loads(line)


def _read_logs(path: Path) -> list[Line]:
    return lines_of(_json_lines(path))


def lines_of(records: Iterable[dict[str, Any]]) -> list[Line]:
    """Log records in the order of time."""
    lines = [
        Line(
            time=parse_time(record["timestamp"]),
            service=str(record.get("service", "")),
            severity=str(record.get("severity", "INFO")).upper(),
            message=str(record.get("message", "")),
            record=record,
        )
        for record in records
    ]
    lines.sort(key=lambda line: line.time)
    return lines


def _read_answers(path: Path) -> Answers:
    from tool_servers.answers import Answers

    return Answers(_json_lines(path))


def _read_spans(path: Path) -> list[RecordedSpan]:
    with _open(path) as file:
        records = orjson.loads(file.read())
    spans = [
        RecordedSpan(
            time=parse_time(record["start"]),
            record=record,
            service=record["service"],
            name=record["name"],
            duration=float(record["duration_ms"]),
            failed=str(record.get("status", "OK")).upper() == "ERROR",
        )
        for record in records
    ]
    spans.sort(key=lambda span: span.time)
    join(spans)
    return spans


def join(spans: list[RecordedSpan]) -> None:
    """Tie spans to their parents and work out the time that is their own."""
    by_id = {(span.record["trace_id"], span.record["span_id"]): span for span in spans}
    for span in spans:
        parent = by_id.get((span.record["trace_id"], span.record.get("parent_id") or ""))
        if parent is not None and parent is not span:
            span.parent = parent
            parent.children.append(span)
    for span in spans:
        span.own = max(0.0, span.duration - _covered_ms(span))


def _covered_ms(span: RecordedSpan) -> float:
    covered, reached = 0.0, span.time
    for child in sorted(span.children, key=lambda child: child.time):
        start, end = max(child.time, reached), min(child.end, span.end)
        if end > start:
            covered += end - start
            reached = end
    return covered * 1000
