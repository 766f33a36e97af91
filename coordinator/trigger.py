"""Reads what opens a case: an alert (Alertmanager v4, Grafana, generic JSON), a recording, or a question."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordinator.errors import TriggerUnreadable
from coordinator.types import Trigger
from specialists.types import Scope

SERVICE_LABELS = ("service", "service_name", "app", "deployment", "component", "job")


def from_source(source: str, stdin: str = "") -> Trigger:
    """The trigger a command line names: `-` (an alert on stdin), an alert file, or a recording directory."""
    if source == "-":
        return from_alert(_json(stdin, "standard input"))
    path = Path(source)
    if path.is_dir():
        return from_recording(path)
    if path.is_file():
        return from_alert(_json(path.read_text(encoding="utf-8", errors="replace"), str(path)))
    raise TriggerUnreadable(
        f"cannot open {source!r}: there is no such file or directory; name an alert's JSON file, "
        "a recording's directory, or - to read an alert from standard input"
    )


def from_question(question: str, scope: Scope | None = None) -> Trigger:
    """A case opened by what a person asked."""
    words = " ".join(question.split())
    if not words:
        raise TriggerUnreadable("the question is empty: say what is wrong, such as 'checkout is failing'")
    title = words if len(words) <= 80 else words[:77] + "..."
    return Trigger(
        kind="question", title=title, question=words, scope=scope or Scope(), fingerprint=_print(words)
    )


def from_recording(directory: Path, question: str = "") -> Trigger:
    """A case about a recorded incident; its clock stands where the recording says."""
    about = read_recording(directory)
    alert_file = directory / str(about.get("alert") or "alert.json")
    payload = _json(alert_file.read_text(encoding="utf-8"), str(alert_file)) if alert_file.is_file() else {}
    alert = from_alert(payload) if payload else None
    scope = (alert.scope if alert else Scope()).model_copy(
        update={
            "now": when(about.get("clock")),
            "onset": (alert.scope.onset if alert else None) or when(about.get("onset")),
            "namespace": (alert.scope.namespace if alert else "") or str(about.get("namespace", "")),
        }
    )
    words = " ".join((question or str(about.get("question", ""))).split())
    return Trigger(
        kind="recording",
        title=str((alert.title if alert else "") or about.get("title") or words or directory.name),
        question=words or (alert.question if alert else f"What is wrong in {directory.name}?"),
        scope=scope,
        severity=alert.severity if alert else "",
        fingerprint=_print(f"{about.get('id', directory.name)} {about.get('clock')}"),
        recording=str(directory.resolve()),
        payload=payload,
    )


def read_recording(directory: Path) -> dict[str, Any]:
    """What `recording.json` says of a recorded incident."""
    path = directory / "recording.json"
    if not path.is_file():
        raise TriggerUnreadable(
            f"{str(directory)!r} is not a recording: it has no recording.json; "
            "name a directory that has one (format pointsman-recording/1)"
        )
    about = _json(path.read_text(encoding="utf-8"), str(path))
    if str(about.get("format", "")) != "pointsman-recording/1":
        raise TriggerUnreadable(
            f"{path} has the format {about.get('format')!r}: this version reads pointsman-recording/1; "
            "record it again or correct its recording.json"
        )
    return about


def from_alert(payload: dict[str, Any]) -> Trigger:
    """A case opened by an alert: Alertmanager v4 or Grafana (`alerts`), else generic fields."""
    alerts = payload.get("alerts")
    if isinstance(alerts, list):
        return _from_alertmanager(payload, [a for a in alerts if isinstance(a, dict)])
    return _from_generic(payload)


def _from_alertmanager(payload: dict[str, Any], alerts: list[dict[str, Any]]) -> Trigger:
    firing = [a for a in alerts if a.get("status", "firing") == "firing"] or alerts
    if not firing:
        raise TriggerUnreadable("the alert has an empty list of alerts: send one that fires")
    first = min(firing, key=lambda a: str(a.get("startsAt") or "~"))
    labels = {**_texts(payload.get("commonLabels")), **_texts(first.get("labels"))}
    notes = {**_texts(payload.get("commonAnnotations")), **_texts(first.get("annotations"))}
    common = _texts(payload.get("commonLabels"))
    services = (_service(common | _texts(a.get("labels"))) for a in firing)
    title = notes.get("summary") or str(payload.get("title", "")) or labels.get("alertname", "Alert")
    question = ". ".join(dict.fromkeys(t for t in (title, notes.get("description", "")) if t))
    return Trigger(
        kind="alert",
        title=title,
        question=question,
        scope=Scope(
            onset=when(first.get("startsAt")),
            namespace=labels.get("namespace", ""),
            services=tuple(dict.fromkeys(s for s in services if s)),
            alert=first,
        ),
        severity=labels.get("severity", ""),
        fingerprint=_print(
            str(payload.get("groupKey") or first.get("fingerprint") or sorted(labels.items()))
        ),
        payload=payload,
    )


def _from_generic(payload: dict[str, Any]) -> Trigger:
    labels = _texts(payload.get("labels"))
    title = str(payload.get("title") or payload.get("summary") or payload.get("name") or "")
    description = str(payload.get("description") or payload.get("message") or "")
    if not (title or description):
        raise TriggerUnreadable(
            "the alert has neither `alerts` (Alertmanager) nor `title` or `description`: "
            'send one of these shapes, such as {"title": "checkout is failing", "service": "checkout"}'
        )
    service = str(payload.get("service") or _service(labels))
    return Trigger(
        kind="alert",
        title=title or description,
        question=". ".join(dict.fromkeys(t for t in (title, description) if t)),
        scope=Scope(
            onset=when(payload.get("startsAt") or payload.get("started") or payload.get("fired_at")),
            namespace=str(payload.get("namespace") or labels.get("namespace", "")),
            services=(service,) if service else (),
            alert=payload,
        ),
        severity=str(payload.get("severity") or labels.get("severity", "")),
        fingerprint=_print(str(payload.get("dedup_key") or (title, service))),
        payload=payload,
    )


def when(text: Any) -> datetime | None:
    """An RFC 3339 moment, or nothing when there is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError as error:
        raise TriggerUnreadable(
            f"{text!r} is not a time: {error}; write it as 2026-01-31T09:12:00Z"
        ) from error


def _service(labels: dict[str, str]) -> str:
    return next((labels[name] for name in SERVICE_LABELS if labels.get(name)), "")


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _print(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise TriggerUnreadable(
            f"cannot read {where}: it is not JSON ({error.msg}, line {error.lineno}); send the alert as JSON"
        ) from error
    if not isinstance(value, dict):
        raise TriggerUnreadable(f"cannot read {where}: expected a JSON object, found {type(value).__name__}")
    return value
