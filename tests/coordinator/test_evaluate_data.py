"""Evaluation of metrics, changes and pages: made-up cases in the files of the published data sets."""

import asyncio
import csv
import json
import math
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.errors import TriggerUnreadable
from coordinator.evaluate import app
from coordinator.evaluation import (
    cloudopsbench,
    compare,
    perturb,
    petshop,
    rootcausebench,
    runbooks,
    sockshop,
)
from coordinator.evaluation.bench import run
from coordinator.evaluation.cases import NOTHING, BenchCase, Row
from coordinator.evaluation.figures import figures
from coordinator.evaluation.no_page import ALERTS, NEAR
from coordinator.evaluation.picture import bars, reliability
from tests.coordinator.test_evaluate import TRUTH, broken, publish

BEGIN = 1_700_000_000
NODES = ("gate", "desk", "vault")


def graph(root: Path) -> Path:
    """A graph of three nodes, a quiet day, and one issue: the vault is slow and the others wait for it."""
    dice = random.Random(5)
    (root / "noissue").mkdir(parents=True)
    issue = root / "test" / "issue_0"
    issue.mkdir(parents=True)
    rows = [["", *NODES], ["gate", 0, 1, 0], ["desk", 0, 0, 1], ["vault", 0, 0, 0]]
    (root / "graph.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    table(root / "noissue" / "metrics.csv", BEGIN, 200, dice, {})
    later = BEGIN + 90_000
    table(issue / "metrics.csv", later, 5, dice, {"gate": 0.31, "desk": 0.3, "vault": 0.3})
    target = {"node": "gate", "metric": "latency", "agg": "Average", "timestamp": later + 480}
    (issue / "target.json").write_text(json.dumps({"target": target, "root_cause": {"node": "vault"}}))
    return root


def table(path: Path, begin: int, rows: int, dice: random.Random, slow: dict[str, float]) -> None:
    heads = [[], [], []]
    for node in NODES:
        for metric, statistic in (("latency", "Average"), ("requests", "Sum")):
            for head, word in zip(heads, (node, metric, statistic), strict=True):
                head.append(word)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        for name, head in zip(("microservice", "metric", "statistic"), heads, strict=True):
            out.writerow([name, *head])
        out.writerow(["unix_timestamp", *[""] * len(heads[0])])
        for n in range(rows):
            values = []
            for node in NODES:
                values += [0.1 + 0.01 * dice.random() + (slow.get(node, 0) if n > 1 else 0), 100]
            out.writerow([begin + 300 * n, *values])


def shop(root: Path) -> Path:
    """Three services of which one runs out of processor."""
    dice = random.Random(6)
    directory = root / "depot-cpu" / "1"
    directory.mkdir(parents=True)
    for name, begin, busy in (("normal", BEGIN, 0.0), ("anomalous", BEGIN + 99_999, 40.0)):
        with (directory / f"{name}.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["time", "depot_cpu", "depot_mem", "front_cpu", "front_lat_90", "till_cpu"])
            for n in range(200):
                waits = 0.2 + 0.02 * dice.random() + (0.1 if busy else 0)
                cpu = [1 + 0.2 * dice.random() for _ in range(3)]
                out.writerow([begin + n, cpu[0] + busy, 1e8 + 1e5 * dice.random(), cpu[1], waits, cpu[2]])
    return root


def bench(data, cases):
    rows, ledgers = asyncio.run(run(data, cases, jobs=1))
    assert not any(row.error for row in rows), [row.error for row in rows]
    assert all(ledger["ok"] for ledger in ledgers)
    return rows


def test_an_issue_in_a_graph_is_led_to_the_node_that_others_wait_for(tmp_path):
    (case,) = petshop.find(graph(tmp_path / "data"))
    served = petshop.write_recording(case, tmp_path / "served")
    about = (served / "recording.json").read_text() + (served / "alert.json").read_text()
    assert "vault" not in json.loads((served / "alert.json").read_text())["alerts"][0]["labels"].values()
    assert "root_cause" not in about
    (row,) = bench(petshop.DATA, [case])
    assert (row.rank, row.guesses[0]) == (1, ("vault",))
    assert row.claims and row.sound == row.claims and row.calls <= 5


def test_the_same_case_gives_the_same_answer_twice(tmp_path):
    (case,) = sockshop.find(shop(tmp_path / "data"))
    first, second = bench(sockshop.data(late=30), [case, case])
    assert first.guesses[0] == ("depot",) and first.rank == 1
    assert (first.guesses, first.confidences) == (second.guesses, second.confidences)
    assert (first.said, first.calls, first.claims) == (second.said, second.calls, second.claims)


def test_a_late_alert_fires_later_but_shows_the_same_data(tmp_path):
    (case,) = sockshop.find(shop(tmp_path / "data"))
    recordings = [sockshop.data(late).write(case, tmp_path / f"late-{late:g}") for late in (0, 60)]
    alerts = [json.loads((r / "alert.json").read_text())["alerts"][0]["startsAt"] for r in recordings]
    assert alerts[0] < alerts[1]
    assert len({(r / "metrics.csv.gz").read_bytes() for r in recordings}) == 1


def test_a_scenario_becomes_a_recording_without_its_truth(tmp_path):
    source = tmp_path / "data" / "slow-queries"
    (source / "context").mkdir(parents=True)
    alert = {"service": "till", "metric": "error_ratio", "fired_at": "2031-01-01T10:00:00Z", "summary": "bad"}
    files = {
        "alert.json": json.dumps(alert),
        "metrics.csv": "timestamp,service,metric,value\n2031-01-01T09:00:00Z,till,error_ratio,0.1\n",
        "logs.ndjson": json.dumps(
            {"timestamp": "2031-01-01T09:59:00Z", "service": "till", "severity_text": "ERROR", "msg": "no"}
        ),
        "traces.json": json.dumps(
            [{"trace_id": "t", "span_id": "s", "service": "till", "name": "pay", "rows": 7,
              "start": "2031-01-01T09:59:00Z", "duration_ms": 3, "status": "OK"}]
        ),
        "ground_truth.json": json.dumps({"root_cause_commit": "abc123", "decoy_deploy_commits": ["fff000"]}),
        "context/commits.json": json.dumps([{"sha": "abc123", "timestamp": "2031-01-01T08:00:00Z"}]),
        "context/deploys.json": json.dumps(
            [{"timestamp": f"2031-01-01T0{n}:30:00Z", "service": "till", "version": f"v{n}"} for n in (9, 8)]
        ),
    }  # fmt: skip
    for name, text in files.items():
        (source / name).write_text(text)
    (case,) = rootcausebench.find(tmp_path / "data")
    assert case.truth == (("abc123",),) and case.wrong == {("fff000",)} and case.fault == "a commit"
    served = rootcausebench.write_recording(case, tmp_path / "served")
    assert not (served / "ground_truth.json").exists()
    assert json.loads((served / "recording.json").read_text())["clock"] == "2031-01-01T10:05:00Z"
    deploys = json.loads((served / "changes" / "deploys.json").read_text())
    assert [(d["version"], d["previous"]) for d in deploys] == [("v8", ""), ("v9", "v8")]
    assert json.loads((served / "traces.json").read_text())[0]["attributes"] == {"rows": 7}
    assert json.loads((served / "changes" / "flags.json").read_text()) == []


def test_alerts_find_their_page_or_nothing_through_the_gateway(tmp_path):
    pages = {
        "disk": ("DiskAlmostFull", "The filesystem of a node has little space left. Delete old images."),
        "certs": ("CertificateExpires", "A serving certificate expires soon. Renew it before clients fail."),
        "quorum": ("EtcdNoLeader", "The etcd cluster has no leader. Check the network between members."),
    }
    rows = [{"doc_id": f"own/{n}", "title": t, "text": f"# {t}\n\n{x}\n"} for n, (t, x) in pages.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    query = {"qid": "q1", "text": "A filesystem has less than 5% space left.", "relevant": ["own/disk"]}
    (tmp_path / "queries-a.jsonl").write_text(json.dumps(query))
    cases = runbooks.find(tmp_path)
    assert len(cases) == 1 + len(ALERTS) + len(NEAR)
    found, *nothing = bench(runbooks.DATA, cases[:9])
    assert (found.guesses[0], found.rank, found.calls) == (("own/disk",), 1, 1)
    assert sum(row.rank == 1 for row in nothing) >= 7, "alerts without a page get none"


def test_there_are_enough_alerts_without_a_page_and_no_two_are_the_same():
    assert len(set(ALERTS)) >= 50 and len(set(NEAR)) == 20


def test_a_renamed_cluster_keeps_its_fault_and_its_truth_follows(tmp_path):
    publish(broken(), tmp_path / "startup" / "1")
    cases = cloudopsbench.find(tmp_path)
    (case,) = perturb.perturbed(cases, ["rename"])
    assert case.truth[0][0] == TRUTH[0] and case.truth[0][2] == TRUTH[2]
    assert case.truth[0][1] != TRUTH[1] and case.namespace != cases[0].namespace
    change = perturb.chain(["all"])
    cache = change(cloudopsbench.read_cache(cases[0]))
    assert "loans" not in json.dumps(cache) and case.truth[0][1].removeprefix("app/") in json.dumps(cache)
    rows = bench(cloudopsbench.data(change), [case])
    assert rows[0].rank == 1, rows[0].guesses


def test_an_unknown_perturbation_is_an_error_that_names_the_known():
    with pytest.raises(TriggerUnreadable, match="no perturbation 'melt': choose from restarted"):
        perturb.chain(["melt"])


def test_a_healed_case_has_nothing_to_find():
    case = BenchCase("a", Path(), (("x", "app/a", "pod_network_delay"),), "pod_network_delay")
    (healthy,) = perturb.healed([case, BenchCase("b", Path(), (("x", "y", "oom_killed"),), "oom_killed")])
    assert healthy.truth == (NOTHING,)
    assert Row("a", healthy.truth).rank == 1
    assert Row("a", healthy.truth, guesses=[("x", "y", "z")], confidences=[0.5]).rank == 0
    assert Row("a", healthy.truth, error="lost").rank == 0


def test_the_mean_over_depths_and_decoys_are_counted():
    truth = (("depot",),)
    rows = [
        Row("1", truth, guesses=[("depot",)], confidences=[0.9]),
        Row("2", truth, guesses=[("till",), ("depot",)], confidences=[0.4, 0.3], decoy=True),
    ]
    found = figures(rows, [{"ok": True}], (1, 2, 3, 4, 5))
    assert (found["a1"], found["a2"], found["avg5"], found["decoys"]) == (0.5, 1.0, 0.9, 1)
    assert [(one["cases"], one["right"]) for one in found["calibration"]] == [(1, 0.0), (1, 1.0)]


def test_pictures_of_calibration_show_every_bin():
    bins = [{"from": 0.4, "to": 0.5, "cases": 3, "sure": 0.45, "right": 2 / 3}]
    (line,) = bars(bins)[2:]
    assert line.startswith("0.4 – 0.5     0.67      3") and line.count("█") >= math.floor(40 * 2 / 3) - 1
    drawn = reliability("shop <1>", bins, 0.2)
    assert "shop &lt;1&gt;" in drawn and drawn.count("<circle") == 1 and "ECE 0.200" in drawn


def test_two_evaluations_are_compared_case_by_case_and_in_sum(tmp_path):
    def written(name: str, ranks: dict[str, int], ece: float) -> Path:
        cases = [{"case": case, "fault": "f", "rank": rank} for case, rank in ranks.items()]
        whole = {"benchmark": "shop", "figures": {"a1": 0.5, "ece": ece}, "cases": cases}
        (tmp_path / name).write_text(json.dumps(whole))
        return tmp_path / name

    before = written("a.json", {"one": 0, "two": 1, "three": 2, "gone": 1}, 0.2)
    after = written("b.json", {"one": 1, "two": 3, "three": 2, "new": 1}, 0.1)
    found = compare.compare(compare.load(before), compare.load(after))
    assert [c["case"] for c in found["better"]] == ["one"]
    assert [c["case"] for c in found["worse"]] == ["two"]
    assert found["cases"] == {"both": 3, "only_before": 1, "only_after": 1}
    said = CliRunner().invoke(app, ["compare", str(before), str(after)]).output
    assert "ece" in said and "better" in said and "not named → 1" in said
    with pytest.raises(TriggerUnreadable, match="is not an evaluation"):
        (tmp_path / "c.json").write_text("{}")
        compare.load(tmp_path / "c.json")


@pytest.mark.parametrize("name", ["petshop", "sockshop", "rootcausebench", "runbooks"])
def test_a_directory_without_cases_says_what_was_expected(name: str, tmp_path):
    result = CliRunner().invoke(app, [name, str(tmp_path)])
    assert isinstance(result.exception, TriggerUnreadable)
    assert "no cases in" in str(result.exception) and "expected" in str(result.exception)
