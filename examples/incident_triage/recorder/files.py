"""Writes the recording: every file in the format `pointsman-recording/1`."""

import gzip
import hashlib
import json
import shutil
import socket
from pathlib import Path

from recorder.errors import NotClean
from recorder.scrape import Rule
from recorder.stage import Stage, stamp


def write_gzip(path: Path, text: str) -> None:
    """Write text compressed, with the same bytes whenever it is done."""
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def write_json(path: Path, content: object) -> None:
    """Write JSON a person can read."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def alert(rule: Rule) -> dict:
    """The Alertmanager payload of a rule that fired."""
    assert rule.fired_at is not None and rule.above_since is not None
    labels = {"alertname": rule.name, "service": rule.service, "severity": rule.severity}
    percent = f"{rule.value:.0%}"
    annotations = {
        "summary": f"{percent} of the requests to {rule.service} fail",
        "description": (
            f"The error ratio of {rule.service} over {rule.window_seconds:g} s is {percent}, above "
            f"{rule.threshold:.0%} for {rule.for_seconds:g} s."
        ),
        "runbook": "high-checkout-error-rate.md",
    }
    identity = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{rule.name}"}}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "pointsman",
        "groupLabels": {"alertname": rule.name},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "http://127.0.0.1:9093",
        "alerts": [
            {
                "status": "firing",
                "labels": labels,
                "annotations": annotations,
                "startsAt": stamp(rule.fired_at),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": f"http://127.0.0.1:9090/rules/{rule.name}",
                "fingerprint": identity,
            }
        ],
    }


def telemetry(stage: Stage, kind: str, ended: str) -> list[dict]:
    """Every line the services wrote of one kind until the end, in the order of time."""

    def moment(line: dict) -> str:
        return line.get("timestamp") or line["start"]

    lines = [
        json.loads(line)
        for path in sorted(stage.run_dir.glob(f"*.{kind}"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return sorted((line for line in lines if moment(line) <= ended), key=moment)


def write(
    out: Path,
    stage: Stage,
    points: list[tuple[str, str, str, str, float]],
    rule: Rule,
    description: dict,
    state: dict,
) -> None:
    """Lay the whole recording in a directory, beside its runbooks."""
    ended = description["ended"]
    (out / "changes").mkdir(parents=True, exist_ok=True)
    write_json(out / "recording.json", description)
    write_json(out / "alert.json", alert(rule))
    write_json(out / "state.json", state)
    write_json(out / "changes" / "commits.json", stage.repository.commits())
    write_json(out / "changes" / "deploys.json", stage.deploys)
    write_json(out / "changes" / "flags.json", stage.flag_changes)
    rows = "".join(",".join(map(str, point)) + "\n" for point in points)
    write_gzip(out / "metrics.csv.gz", "timestamp,service,metric,unit,value\n" + rows)
    logs = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in telemetry(stage, "log", ended))
    write_gzip(out / "logs.ndjson.gz", logs)
    spans = ",\n".join(json.dumps(span, ensure_ascii=False) for span in telemetry(stage, "spans", ended))
    write_gzip(out / "traces.json.gz", f"[\n{spans}\n]\n")
    source = Path(__file__).resolve().parent.parent / "recording" / "runbooks"
    if source.resolve() != (out / "runbooks").resolve():
        shutil.copytree(source, out / "runbooks", dirs_exist_ok=True)


def check_clean(out: Path, private: list[str]) -> None:
    """Refuse a recording that names directories, the user's home or the host of this machine."""
    words = [word for word in (*private, str(Path.home()) + "/", socket.gethostname()) if len(word) > 5]
    for path in sorted(out.rglob("*")):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found = [word for word in words if word.encode() in data]
            if found:
                raise NotClean(
                    f"{path.name} contains {found[0]!r}: scrub the service that wrote it and record again"
                )
