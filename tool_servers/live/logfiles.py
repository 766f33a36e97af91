"""Log lines read from a directory of plain or NDJSON files, gzipped or not."""

from __future__ import annotations

import gzip
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tool_servers.errors import Unavailable
from tool_servers.recording import Line
from tool_servers.toolkit import format_time, parse_time

SUFFIXES = (".log", ".txt", ".ndjson", ".jsonl", ".json", ".out", ".err")
LARGEST = 64_000_000  # characters read of one file; of a larger one, the end

_TIME = re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)\]?")
_SEVERITY = re.compile(
    r"\b(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERR(?:OR)?|CRITICAL|FATAL|PANIC)\b", re.IGNORECASE
)
_NAMES = {
    "timestamp": ("timestamp", "time", "ts", "@timestamp"),
    "severity": ("severity", "level", "lvl", "severity_text"),
    "message": ("message", "msg", "body", "event"),
    "service": ("service", "service.name", "app", "logger"),
}


@dataclass(slots=True)
class _File:
    stamp: tuple[int, int]
    lines: list[Line]


class LogFiles:
    """The files of a directory; each is read again only when it has changed."""

    def __init__(self, directory: str) -> None:
        self._root = Path(directory)
        if not self._root.is_dir():
            raise Unavailable(f"--dir {directory}: no such directory; name one that holds log files")
        self._files: dict[Path, _File] = {}
        self._lines: list[Line] = []
        self._templated: list[tuple[Line, str]] | None = None
        self._lock = threading.RLock()

    def lines(self) -> list[Line]:
        """Every line of every file, in the order of time."""
        with self._lock:
            if self._refresh():
                self._lines = sorted(
                    (line for file in self._files.values() for line in file.lines), key=lambda line: line.time
                )
                self._templated = None
            return self._lines

    def templated(self) -> list[tuple[Line, str]]:
        """Every line with its template, worked out once for as long as no file changes."""
        from tool_servers.logs import templated

        with self._lock:
            lines = self.lines()
            if self._templated is None:
                self._templated = templated(lines)
            return self._templated

    def services(self) -> set[str]:
        """The services that log."""
        return {line.service for line in self.lines()}

    def _refresh(self) -> bool:
        found = {path: path.stat() for path in sorted(self._root.rglob("*")) if _is_log(path)}
        changed = self._files.keys() - found.keys()
        for path in changed:
            del self._files[path]
        renewed = bool(changed)
        for path, stat in found.items():
            stamp = (stat.st_mtime_ns, stat.st_size)
            if path not in self._files or self._files[path].stamp != stamp:
                self._files[path] = _File(stamp, _read(path, stat.st_mtime))
                renewed = True
        return renewed


def _is_log(path: Path) -> bool:
    names = path.suffixes[:-1] if path.suffix == ".gz" else path.suffixes
    return path.is_file() and any(suffix in SUFFIXES for suffix in names)


def _read(path: Path, written: float) -> list[Line]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        text = file.read().decode("utf-8", errors="replace")[-LARGEST:]
    service = path.name.partition(".")[0]
    lines: list[Line] = []
    for raw in text.splitlines():
        if not raw.strip():
            continue
        line = _json_line(raw, service) or _plain_line(raw, service)
        if line is not None:
            lines.append(line)
        elif lines:
            lines[-1].message += f"\n{raw}"  # a line without a time continues the one before
        else:
            lines.append(_line(written, service, "INFO", raw, {}))
    return lines


def _json_line(raw: str, service: str) -> Line | None:
    if not raw.lstrip().startswith("{"):
        return None
    try:
        record = json.loads(raw)
        found = {name: _first(record, names) for name, names in _NAMES.items()}
        time = _time_of(found["timestamp"])
    except (ValueError, TypeError, OverflowError):
        return None
    used = {name for names in _NAMES.values() for name in names}
    extra = {key: value for key, value in record.items() if key not in used}
    severity = str(found["severity"] or "INFO").upper()
    return _line(time, str(found["service"] or service), severity, str(found["message"] or ""), extra)


def _first(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) not in (None, "")), None)


def _time_of(value: Any) -> float:
    if isinstance(value, int | float):
        return value / 1000 if value > 1e11 else float(value)
    return parse_time(str(value).replace(",", "."))


def _plain_line(raw: str, service: str) -> Line | None:
    match = _TIME.search(raw[:60])
    if match is None:
        return None
    try:
        time = parse_time(match[1].replace(",", "."))
    except ValueError:
        return None
    rest = (raw[: match.start()] + raw[match.end() :]).strip()
    severity = _SEVERITY.search(rest[:60])
    if severity is None:
        return _line(time, service, "INFO", rest, {})
    message = (rest[: severity.start()].rstrip(" [") + " " + rest[severity.end() :].lstrip(" ]:-")).strip()
    return _line(time, service, severity[1].upper(), message, {})


def _line(time: float, service: str, severity: str, message: str, extra: dict[str, Any]) -> Line:
    return Line(time, service, severity, message, {**extra, "timestamp": format_time(time)})
