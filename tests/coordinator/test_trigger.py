"""Whatever opens a case is read into one trigger, and bad input is refused in words."""

import json

import pytest

from coordinator import trigger
from coordinator.errors import TriggerUnreadable

ALERT = {
    "version": "4",
    "groupKey": '{}:{alertname="HighErrorRate"}',
    "status": "firing",
    "commonLabels": {"alertname": "HighErrorRate", "severity": "critical", "namespace": "shop"},
    "commonAnnotations": {"summary": "billing answers with errors"},
    "alerts": [
        {"status": "resolved", "labels": {"service": "old"}, "startsAt": "2026-01-31T08:00:00Z"},
        {"status": "firing", "labels": {"service": "billing"}, "startsAt": "2026-01-31T09:12:00Z"},
        {"status": "firing", "labels": {"app": "frontend"}, "startsAt": "2026-01-31T09:15:00Z"},
    ],
}


def test_an_alertmanager_alert_names_services_onset_and_severity():
    opened = trigger.from_alert(ALERT)
    assert opened.scope.services == ("billing", "frontend")
    assert opened.scope.onset == trigger.when("2026-01-31T09:12:00Z")
    assert (opened.severity, opened.scope.namespace) == ("critical", "shop")
    assert opened.title == "billing answers with errors"


def test_the_same_alert_group_has_the_same_fingerprint():
    again = {**ALERT, "alerts": ALERT["alerts"][1:]}
    assert trigger.from_alert(again).fingerprint == trigger.from_alert(ALERT).fingerprint
    assert (
        trigger.from_alert(ALERT | {"groupKey": "other"}).fingerprint != trigger.from_alert(ALERT).fingerprint
    )


def test_a_generic_alert_is_enough():
    opened = trigger.from_alert({"title": "queue is full", "service": "mailer", "severity": "high"})
    assert (opened.title, opened.scope.services, opened.severity) == ("queue is full", ("mailer",), "high")


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ({}, "title"),
        ({"alerts": []}, "empty"),
        ({"title": "x", "started": "yesterday"}, "not a time"),
    ],
)
def test_an_alert_that_cannot_be_read_is_refused_in_words(payload, word):
    with pytest.raises(TriggerUnreadable, match=word):
        trigger.from_alert(payload)


def test_a_recording_stands_at_its_clock(tmp_path):
    about = {
        "format": "pointsman-recording/1",
        "id": "r1",
        "question": "why?",
        "clock": "2026-01-31T09:30:00Z",
    }
    (tmp_path / "recording.json").write_text(json.dumps(about))
    (tmp_path / "alert.json").write_text(json.dumps(ALERT))
    opened = trigger.from_source(str(tmp_path))
    assert opened.scope.now == trigger.when("2026-01-31T09:30:00Z")
    assert opened.scope.services == ("billing", "frontend")
    assert (opened.question, opened.recording) == ("why?", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("missing.json", None, "no such file"),
        ("bad.json", "{oops", "not JSON"),
        ("list.json", "[1]", "expected a JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, text, word):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(TriggerUnreadable, match=word):
        trigger.from_source(str(tmp_path / name))


def test_a_directory_that_is_no_recording_is_refused(tmp_path):
    with pytest.raises(TriggerUnreadable, match="is not a recording"):
        trigger.from_source(str(tmp_path))


def test_an_alert_comes_from_standard_input_too():
    assert trigger.from_source("-", json.dumps({"title": "it is down"})).title == "it is down"


def test_an_empty_question_is_refused():
    with pytest.raises(TriggerUnreadable, match="empty"):
        trigger.from_question("  ")
