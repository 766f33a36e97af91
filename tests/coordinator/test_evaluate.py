"""Evaluation: cases of the published shape through the real gateway, scored against their truth."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.errors import TriggerUnreadable
from coordinator.evaluate import app
from coordinator.evaluation import cloudopsbench as data
from coordinator.evaluation.bench import run
from coordinator.evaluation.cases import Row, chosen
from coordinator.evaluation.figures import figures, printed
from tests.specialists.clusters import NAMESPACE, Cluster, Pod

NAMES = {
    "get": "GetResources",
    "describe": "DescribeResource",
    "manifest": "GetAppYAML",
    "logs": "GetErrorLogs",
    "dependencies": "GetServiceDependencies",
    "alerts": "GetAlerts",
    "connectivity": "CheckServiceConnectivity",
    "node_service": "CheckNodeServiceStatus",
}
TRUTH = ("Startup_Fault", "app/loans", "incorrect_image_reference")


def publish(cluster: Cluster, directory: Path, truth: tuple[str, str, str] = TRUTH) -> None:
    """A cluster in the files of the published data set."""
    directory.mkdir(parents=True)
    cache: dict[str, object] = {"collection_timestamp": "2026-05-04T10:00:00.000000"}
    for tool, arguments, text in cluster.answers():
        theirs = {ours: name for name, ours in data.TOOLS[NAMES[tool]][1].items()}
        given = {theirs[key]: value for key, value in arguments.items() if key in theirs}
        if tool == "get":
            given = {"name": "", **given}
        if arguments.get("resource_type") == "nodes":
            given["namespace"] = NAMESPACE  # the data set names a namespace even for nodes
        answer: object = json.loads(text) if tool == "alerts" else text
        cache[f"{NAMES[tool]}:{json.dumps(given, separators=(',', ':'))}"] = answer
    words = ("fault_taxonomy", "fault_object", "root_cause")
    about = {
        "namespace": NAMESPACE,
        "query": "The library is down.",
        "result": dict(zip(words, truth, strict=True)),
    }
    (directory / "metadata.json").write_text(json.dumps(about))
    (directory / "tool_cache.json").write_text(json.dumps(cache))


def broken() -> Cluster:
    cluster = Cluster()
    said = 'Failed to pull image "registry.example/loans:1.4": registry.example/loans:1.4: not found'
    cluster.pods["loans"] = Pod(
        "0/1",
        "ErrImagePull",
        events=[f"Warning  Failed  5s (x4 over 60s)  kubelet  {said}"],
        state="State:  Waiting\n      Reason:  ErrImagePull",
    )
    return cluster


def test_cases_run_through_the_real_gateway_and_are_scored_from_its_ledger(tmp_path):
    cases = tmp_path / "library"
    publish(broken(), cases / "startup" / "1")
    publish(broken(), cases / "startup" / "2", ("Runtime_Fault", "app/loans", "oom_killed"))
    publish(Cluster(), cases / "startup" / "10", ("", "", ""))
    found = data.find(cases)
    assert [case.name for case in found] == ["startup/1", "startup/2", "startup/10"]

    rows, ledgers = asyncio.run(run(data.data(), found, jobs=1))
    right, wrong, healthy = rows
    assert not any(row.error for row in rows), [row.error for row in rows]
    assert (right.rank, right.guesses[0]) == (1, TRUTH)
    assert (wrong.rank, wrong.guesses[0]) == (0, TRUTH)
    assert healthy.guesses == [] and healthy.rank == 1, "nothing is wrong, and nothing was named"
    assert right.calls == wrong.calls > 5
    assert right.claims >= 2 and all(row.sound == row.claims for row in rows)

    summary = figures(rows, ledgers)
    assert summary["ledger_ok"] and summary["ledger_records"] > 20
    assert (summary["cases"], summary["failed"], summary["sound_share"]) == (3, 0, 1.0)
    assert summary["a1"] == pytest.approx(2 / 3, abs=1e-4)
    assert "startup/2" in printed(data.data(), summary, rows)


def test_the_truth_stays_out_of_what_is_served(tmp_path):
    publish(broken(), tmp_path / "startup" / "1")
    (case,) = data.find(tmp_path)
    served = data.write_recording(case, tmp_path / "served")
    everything = "".join(path.read_text() for path in served.rglob("*") if path.is_file())
    assert TRUTH[2] not in everything and TRUTH[0] not in everything
    assert json.loads((served / "recording.json").read_text())["clock"] == "2026-05-04T10:00:00Z"


def test_kinds_of_the_whole_cluster_are_found_with_and_without_a_namespace():
    cache = {
        'GetResources:{"resource_type":"nodes","name":"","namespace":"a","show_labels":true}': "NAME STATUS",
        'GetErrorLogs:{"namespace":"a","service_name":"b"}': {"patterns": ["ä"]},
        "collection_timestamp": "2026-05-04",
        "Unknown:{}": "x",
    }
    assert list(data.answers(cache)) == [
        ("get", {"resource_type": "nodes", "namespace": "a", "labels": True}, "NAME STATUS"),
        ("get", {"resource_type": "nodes", "labels": True}, "NAME STATUS"),
        ("logs", {"namespace": "a", "service": "b", "errors_only": True}, '{\n "patterns": [\n  "ä"\n ]\n}'),
    ]


def test_a_limit_spreads_over_all_cases_and_unknown_names_are_an_error(tmp_path):
    for n in range(6):
        publish(Cluster(), tmp_path / ("a" if n < 3 else "b") / str(n))
    cases = data.find(tmp_path)
    assert [case.name for case in chosen(cases, [], 2)] == ["a/0", "b/3"]
    assert [case.name for case in chosen(cases, ["b/4"], 0)] == ["b/4"]
    with pytest.raises(TriggerUnreadable, match="no case 'c/1'"):
        chosen(cases, ["c/1"], 0)


def test_a_directory_without_cases_is_said_to_have_none(tmp_path):
    result = CliRunner().invoke(app, ["cloudopsbench", str(tmp_path)])
    assert isinstance(result.exception, TriggerUnreadable)
    assert "no cases" in str(result.exception)


def test_figures_count_calibration_and_the_surer_part():
    truth = ("c", "app/a", "x")
    sure = [
        Row(str(n), (truth,), "x", [truth], [0.9], calls=4, seconds=0.5, claims=2, sound=2) for n in range(4)
    ]
    doubtful = Row(
        "5", (truth,), "x", [("c", "app/b", "y"), truth], [0.4, 0.3], calls=9, seconds=2.0, claims=2, sound=1
    )
    summary = figures([*sure, doubtful], [{"ok": True, "records": 7}, {"ok": False, "records": 1}])
    assert (summary["a1"], summary["a3"], summary["a1_surer"]) == (0.8, 1.0, 1.0)
    assert summary["ece"] == pytest.approx((4 * 0.1 + 0.4) / 5)
    assert summary["sound_share"] == 0.9
    assert (summary["calls_median"], summary["calls_max"]) == (4, 9)
    assert not summary["ledger_ok"] and "DOES NOT VERIFY" in printed(data.data(), summary, [doubtful])
