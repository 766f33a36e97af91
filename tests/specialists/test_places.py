"""Where trouble comes from: series of services that call each other, through the real tool servers."""

import asyncio
import json
from datetime import timedelta

import numpy as np
import pytest

from specialists.local import indicators
from specialists.local.graph import CallGraph
from specialists.local.metrics import MetricsSpecialist
from specialists.local.sampling import fewer
from specialists.types import Finding
from tests.specialists.incidents import BROKE, FIRED, Incident
from tests.specialists.relay import ask, relay

EDGES = [("web", "cart"), ("web", "search"), ("cart", "store"), ("search", "store"), ("store", "disk")]


def look(incident: Incident, tmp_path, edges=EDGES) -> Finding:
    async def run() -> Finding:
        root = incident.write()
        if edges:
            listed = [{"caller": a, "callee": b} for a, b in edges]
            (root / "dependencies.json").write_text(json.dumps(listed))
        async with relay(root, tmp_path / "state", ("metrics", "traces")) as through:
            finding = await ask(MetricsSpecialist(), incident.task("metrics"), through)
            for claim in (*finding.claims, *finding.causes):
                assert all(through.stands(e) for e in claim.evidence)
            return finding

    return asyncio.run(run())


def system(tmp_path, **slow: float) -> Incident:
    """Five services, 100 calls a step at the web and more below; those named are slower by so much."""
    incident = Incident(tmp_path)
    incident.alert = {"service": "web", "metric": "latency_avg", "summary": "web is slow"}
    for name, calls, usual in (
        ("web", 100, 0.2), ("cart", 40, 0.1), ("search", 60, 0.1), ("store", 120, 0.04), ("disk", 200, 0.01),
    ):  # fmt: skip
        incident.series(name, "requests", calls, None, "1")
        added = slow.get(name)
        incident.series(name, "latency_avg", usual, usual + added if added else None, "s")
    return incident


def first(finding: Finding) -> str:
    return next(c.object for c in finding.causes if c.label == "service_degraded")


def test_the_deepest_service_that_loses_the_time_is_named_and_those_above_pass_it_on(tmp_path):
    finding = look(system(tmp_path, web=0.24, cart=0.24, search=0.24, store=0.2, disk=0.12), tmp_path)
    assert first(finding) == "service/disk"
    assert "only pass it on" in finding.causes[0].statement
    assert finding.causes[0].confidence >= 0.6


def test_a_service_whose_callees_are_as_fast_as_ever_loses_the_time_itself(tmp_path):
    finding = look(system(tmp_path, web=0.3, search=0.5), tmp_path)
    assert first(finding) == "service/search"


def test_calls_that_fail_are_counted_not_shares_so_that_a_busy_service_weighs_more(tmp_path):
    incident = Incident(tmp_path)
    incident.alert = {"service": "web", "metric": "availability", "summary": "web fails"}
    for name, calls, failing in (("web", 1000, 5.0), ("cart", 20, 10.0), ("search", 900, 5.3)):
        incident.series(name, "requests", calls, None, "1")
        incident.series(name, "availability", 100, 100 - failing, "%", noise=0.0003)
    assert first(look(incident, tmp_path)) == "service/search"


def test_a_service_that_nobody_on_the_way_calls_is_not_blamed(tmp_path):
    incident = system(tmp_path, web=0.3, cart=0.5)
    incident.series("batch", "requests", 500, None, "1")
    incident.series("batch", "latency_avg", 0.2, 4.0, "s")
    assert first(look(incident, tmp_path, [*EDGES, ("cron", "batch")])) == "service/cart"


def test_without_a_graph_the_resource_that_ran_short_by_far_leads(tmp_path):
    incident = Incident(tmp_path)
    incident.alert = {"service": "", "metric": "", "summary": "everything is slow"}
    incident.series("depot", "cpu", 0.4, 60, at=BROKE)
    incident.series("web", "lat_90", 0.2, 0.5, at=BROKE + timedelta(seconds=30))
    incident.series("web", "cpu", 3, 3.6)
    finding = look(incident, tmp_path, [])
    assert finding.causes[0].object == "service/depot"
    assert finding.causes[0].label == "cpu_saturated"
    assert finding.missing == ()


def test_without_a_graph_a_slow_leaf_leads_its_callers_and_noise_does_not(tmp_path):
    incident = Incident(tmp_path)
    incident.alert = {"service": "", "metric": "", "summary": "everything is slow"}
    for name, usual, now in (
        ("web", 0.2, 0.5),
        ("cart", 0.1, 0.4),
        ("store", 0.01, 0.3),
        ("search", 0.05, None),
    ):
        incident.series(name, "latency-50", usual, now)
        incident.series(name, "diskio", 1000, None)
        incident.series(name, "error", 0, None)
    spiked = BROKE - timedelta(seconds=60)
    incident.metrics = [
        (*row[:4], "0.3")
        if row[1:3] == ("search", "error") and row[0] == f"{spiked:%Y-%m-%dT%H:%M:%SZ}"
        else row
        for row in incident.metrics
    ]
    assert look(incident, tmp_path, []).causes[0].object == "service/store"


def test_what_was_over_when_the_alert_fired_leads_nothing(tmp_path):
    incident = Incident(tmp_path)
    incident.alert = {"service": "", "metric": "", "summary": "everything is slow"}
    incident.series("web", "latency_avg", 0.2, 2.0, at=BROKE - timedelta(minutes=8), healed=FIRED)
    incident.series("depot", "latency_avg", 0.2, 2.0, healed=None)
    assert first(look(incident, tmp_path, [])) == "service/depot"


def test_steps_of_five_minutes_are_compared_with_hours(tmp_path):
    incident = Incident(tmp_path)
    incident.alert = {"service": "web", "metric": "latency_avg", "summary": "web is slow"}
    dice = np.random.default_rng(1)
    for name, slow in (("web", 0.3), ("cart", 0.5), ("search", 0.0), ("store", 0.0)):
        for n in range(-120, 3):
            moment = FIRED + n * timedelta(minutes=5)
            late = slow if n >= -1 else 0.0
            wave = 0.1 + 0.03 * np.sin(n / 3) + 0.01 * dice.standard_normal() + late
            for metric, unit, value in (("latency_avg", "s", wave), ("requests", "1", 80.0)):
                incident.metrics.append(
                    (moment.strftime("%Y-%m-%dT%H:%M:%SZ"), name, metric, unit, f"{value:.6g}")
                )
    assert first(look(incident, tmp_path)) == "service/cart"


def test_of_many_statistics_the_alerts_own_is_read_else_the_mean():
    names = {f"latency_{s}": 50 for s in ("average", "p50", "p90", "p99")} | {"requests_sum": 50, "cpu": 50}
    assert fewer(names, "") == ["cpu", "latency_average", "requests_sum"]
    assert fewer(names, "latency_p99") == ["cpu", "latency_p99", "requests_sum"]
    many = {name: 200 for name in names}
    assert fewer(many, "") == ["latency_average", "requests_sum"]


def test_calls_are_shared_among_callers_where_they_were_counted():
    counted = CallGraph([("a", "c"), ("b", "c")], {("a", "c"): 30, ("b", "c"): 10})
    assert counted.share("a", "c") == 0.75
    assert CallGraph([("a", "c"), ("b", "c")]).share("a", "c") == 1.0


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("availability_average", "success"),
        ("hits", "requests"),
        ("cache_hit", "success"),
        ("lat_99", "latency"),
    ],
)
def test_names_with_a_statistic_keep_their_kind(metric: str, kind: str):
    assert indicators.kind(metric) == kind
