"""The bundled incident is a sound recording, and its recorder still works."""

import csv
import gzip
import json
import re
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import pytest

INCIDENT = Path(__file__).resolve().parents[2] / "examples" / "incident_triage"
RECORDING = INCIDENT / "recording"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Recording:
    """A recording read with nothing but the standard library."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.about = self.json("recording.json")
        self.alert = self.json("alert.json")
        self.commits = self.json("changes/commits.json")
        self.deploys = self.json("changes/deploys.json")
        self.flags = self.json("changes/flags.json")
        self.metrics = list(csv.DictReader(self.text("metrics.csv.gz").splitlines()))
        self.logs = [json.loads(line) for line in self.text("logs.ndjson.gz").splitlines()]
        self.spans = json.loads(self.text("traces.json.gz"))
        self.truth = json.loads((directory.parent / "truth.json").read_text(encoding="utf-8"))

    def text(self, name: str) -> str:
        return gzip.decompress((self.directory / name).read_bytes()).decode()

    def json(self, name: str):
        return json.loads((self.directory / name).read_text(encoding="utf-8"))

    def values(self, service: str, metric: str, start: str, end: str) -> list[float]:
        begin, until = moment(start), moment(end)
        return [
            float(row["value"])
            for row in self.metrics
            if row["service"] == service
            and row["metric"] == metric
            and begin <= moment(row["timestamp"]) <= until
        ]

    def lines(self, service: str, words: str, start: str, end: str) -> list[dict]:
        return [
            line
            for line in self.logs
            if line["service"] == service and words in line["message"] and start <= line["timestamp"] <= end
        ]

    @property
    def recovered(self) -> str:
        return self.deploys[-1]["timestamp"]


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording(RECORDING)


def assert_well_formed(recording: Recording) -> None:
    """What every recording must be, whatever it recorded."""
    about = recording.about
    assert about["format"] == "pointsman-recording/1"
    assert moment(about["started"]) < moment(about["clock"]) < moment(about["ended"])
    assert set(recording.metrics[0]) == {"timestamp", "service", "metric", "unit", "value"}
    assert {row["service"] for row in recording.metrics} == set(about["services"])
    for line in recording.logs:
        assert {"timestamp", "service", "severity", "message"} <= set(line)
    for span in recording.spans:
        assert {
            "trace_id",
            "span_id",
            "parent_id",
            "service",
            "name",
            "start",
            "duration_ms",
            "status",
        } <= set(span)
        assert span["status"] in ("OK", "ERROR")
    assert [line["timestamp"] for line in recording.logs] == sorted(
        line["timestamp"] for line in recording.logs
    )
    known = {commit["sha"]: commit for commit in recording.commits}
    assert all(deploy["commit"] in known for deploy in recording.deploys)
    assert all(commit["files"] and commit["diff"] for commit in recording.commits)
    state = recording.json("state.json")["services"]
    standing = {deploy["service"]: deploy["version"] for deploy in recording.deploys[:-1]}
    assert {service: entry["version"] for service, entry in state.items()} == standing
    recovery, last = about["recovery"], recording.deploys[-1]
    assert (recovery["service"], recovery["to_version"]) == (last["service"], last["version"])
    assert recovery["to_version"] in state[recovery["service"]]["previous"]
    payload = recording.alert
    assert payload["version"] == "4" and payload["alerts"][0]["status"] == "firing"
    assert payload["alerts"][0]["startsAt"] == recording.truth["fired"] < about["clock"]


def test_the_recording_is_well_formed_and_at_most_three_megabytes(recording):
    assert_well_formed(recording)
    assert sum(path.stat().st_size for path in RECORDING.rglob("*") if path.is_file()) <= 3_000_000
    assert len(list((RECORDING / "runbooks").glob("*.md"))) >= 5


def test_the_truth_is_not_inside_the_recording(recording):
    assert not list(RECORDING.rglob("truth*"))
    assert recording.truth["cause"]["label"] not in recording.text("logs.ndjson.gz")


def test_the_recording_names_no_directory_of_a_machine():
    for path in RECORDING.rglob("*"):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert not re.search(rb"/(home|Users|root|tmp|var|work)/", data), path


def test_compressed_files_carry_no_time():
    for path in RECORDING.rglob("*.gz"):
        assert path.read_bytes()[4:8] == bytes(4), path


def test_scrapes_keep_their_pace_for_twenty_minutes_before_the_cause(recording):
    times = sorted({moment(row["timestamp"]) for row in recording.metrics if row["service"] == "checkout"})
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert median(gaps) == 5 and max(gaps) <= 15
    assert (moment(recording.truth["cause"]["deployed"]) - times[0]).total_seconds() >= 20 * 60


def test_checkout_fails_at_the_onset_and_recovers_after_the_rollback(recording):
    about, truth = recording.about, recording.truth
    before = recording.values("checkout", "error_ratio", about["started"], truth["cause"]["deployed"])
    during = recording.values("checkout", "error_ratio", truth["onset"], about["clock"])
    after = recording.values("checkout", "error_ratio", recording.recovered, about["ended"])
    assert mean(before) < 0.005
    assert mean(during) > 0.10
    assert mean(after[6:]) < 0.01


def test_the_broken_service_shows_why(recording):
    about, truth = recording.about, recording.truth
    service = truth["cause"]["service"]

    def levels(metric: str) -> list[float]:
        spans = (
            (about["started"], truth["cause"]["deployed"]),
            (truth["onset"], about["clock"]),
            (recording.recovered, about["ended"]),
        )
        return [median(recording.values(service, metric, *span)[3:]) for span in spans]

    for metric in ("db_queries_per_request", "latency_p95_ms", "db_pool_wait_p95_ms"):
        before, during, after = levels(metric)
        assert during > 8 * before and during > 8 * after, (metric, before, during, after)
    before, during, after = levels("db_pool_waiting")
    assert before == after == 0 and during >= 2
    before, during, _ = levels("db_query_p95_ms")
    assert during < 2.5 * before, "each query stays about as fast as it was: there are only more of them"
    assert not recording.lines(service, "pool timeout", about["started"], truth["cause"]["deployed"])
    assert len(recording.lines(service, "pool timeout", truth["onset"], about["clock"])) > 20


def test_traces_show_one_statement_many_times_in_a_request(recording):
    spans = recording.spans
    onset, deployed = recording.truth["onset"], recording.truth["cause"]["deployed"]
    requests = {s["span_id"]: s for s in spans if (s["service"], s["name"]) == ("orders", "POST /orders")}
    queries = {identity: 0 for identity in requests}
    for span in spans:
        if span["parent_id"] in queries and span.get("attributes", {}).get("kind") == "db":
            queries[span["parent_id"]] += 1
    stored = {s["span_id"] for s in requests.values() if s["status"] == "OK"}
    before = [queries[i] for i in stored if requests[i]["start"] < deployed]
    during = [queries[i] for i in stored if onset < requests[i]["start"] < recording.recovered]
    assert max(before) <= 3 and median(during) > 50


def test_the_diff_of_the_cause_holds_a_query_in_a_loop(recording):
    commit = next(c for c in recording.commits if c["sha"] == recording.truth["cause"]["commit"])
    assert commit["files"] == ["services/orders.py"]
    assert re.search(r"\+    for .+:\n\+ +.*await db\.query\(", commit["diff"])


def test_the_onset_comes_minutes_after_the_deploy(recording):
    delay = moment(recording.truth["onset"]) - moment(recording.truth["cause"]["deployed"])
    assert 60 <= delay.total_seconds() <= 600


def test_both_decoys_really_happened_near_the_onset_and_are_harmless(recording):
    about, truth = recording.about, recording.truth
    deploy, noise, flag = truth["decoys"]
    other = next(d for d in recording.deploys if d["commit"] == deploy["commit"])
    assert other["service"] == deploy["service"] != truth["cause"]["service"]
    assert truth["cause"]["deployed"] < other["timestamp"] <= about["clock"]
    assert max(recording.values(other["service"], "error_ratio", about["started"], about["ended"])) == 0
    before = recording.lines(noise["service"], noise["message"], about["started"], truth["cause"]["deployed"])
    after = recording.lines(noise["service"], noise["message"], recording.recovered, about["ended"])
    assert len(before) > 50 and len(after) > 10 and {line["severity"] for line in before} == {"ERROR"}
    assert [change["flag"] for change in recording.flags] == [flag["flag"]]


def test_shop_can_be_recorded_again(tmp_path):
    out = tmp_path / "recording"
    command = [sys.executable, str(INCIDENT / "record.py"), "--out", str(out), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    again = Recording(out)
    assert_well_formed(again)
    assert [deploy["version"] for deploy in again.deploys if deploy["service"] == "orders"] == [
        "2.4.0",
        "2.4.1",
        "2.5.0",
        "2.4.1",
    ]
    assert max(again.values("storefront", "request_rate", again.about["started"], again.about["ended"])) > 2
    assert {"orders", "checkout", "payments"} <= {span["service"] for span in again.spans}
    assert any("stored" in line["message"] for line in again.logs)
    assert {path.name for path in RECORDING.iterdir()} == {path.name for path in out.iterdir()}
