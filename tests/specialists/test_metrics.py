"""The metrics specialist against series made for the purpose, through the real metrics server."""

import asyncio
import re
from datetime import timedelta

import numpy as np
import pytest

from specialists.local import indicators, times
from specialists.local.metrics import MetricsSpecialist
from specialists.local.series import Series, detect
from specialists.types import Finding
from tests.specialists.incidents import BROKE, FIRED, START, Incident
from tests.specialists.relay import ask, relay


def investigate(incident: Incident, tmp_path) -> Finding:
    async def run() -> Finding:
        async with relay(incident.write(), tmp_path / "state", ("metrics", "traces")) as through:
            finding = await ask(MetricsSpecialist(), incident.task("metrics"), through)
            for claim in (*finding.claims, *finding.causes):
                assert all(through.stands(e) for e in claim.evidence)
            return finding

    return asyncio.run(run())


def series(values, step: float = 30.0, metric: str = "m") -> Series:
    v = np.array(values, dtype=float)
    return Series("orders", metric, "", START.timestamp() + step * np.arange(len(v)), v)


def noise(n: int, level: float, scatter: float, seed: int = 3) -> np.ndarray:
    return level + scatter * np.random.default_rng(seed).standard_normal(n)


def test_a_step_is_found_at_its_first_point_whatever_the_unit():
    for scale in (1e-6, 1.0, 1e9):
        values = scale * np.concatenate([noise(100, 5, 0.3), noise(20, 9, 0.3)])
        shift = detect(series(values))
        assert shift is not None and shift.up
        assert abs(shift.onset.timestamp() - (START.timestamp() + 30 * 100)) <= 30
        assert shift.after / shift.before == pytest.approx(9 / 5, rel=0.1)


def test_a_constant_that_jumps_is_a_shift_and_a_constant_is_none():
    assert detect(series([2.0] * 60)) is None
    shift = detect(series([0.0] * 60 + [4.0] * 6))
    assert shift is not None and (shift.before, shift.after) == (0.0, 4.0)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not_a_shift(seed: int):
    assert detect(series(noise(150, 10, 2, seed))) is None


def test_a_daily_wave_is_not_a_shift_but_a_step_on_it_is():
    wave = 100 + 20 * np.sin(np.arange(160) / 12) + noise(160, 0, 1)
    assert detect(series(wave)) is None
    stepped = wave.copy()
    stepped[140:] += 200
    shift = detect(series(stepped))
    assert shift is not None and abs(shift.onset.timestamp() - START.timestamp() - 30 * 140) <= 30


def test_spikes_that_come_and_go_are_not_a_shift_and_a_longer_stretch_is():
    sparse = np.zeros(160)
    sparse[[61, 62]] = 0.2
    sparse[[150, 151]] = 0.3
    assert detect(series(sparse)) is None
    sparse[148:] = 0.3
    assert detect(series(sparse)) is not None


def test_a_steady_drift_is_not_a_shift():
    assert detect(series(np.linspace(3600, 0, 150))) is None


def test_a_pulse_that_ended_is_found_with_its_end():
    shift = detect(series(np.concatenate([noise(80, 1, 0.05), noise(20, 6, 0.3), noise(40, 1, 0.05)])))
    assert shift is not None and shift.ended is not None
    assert abs(shift.ended.timestamp() - START.timestamp() - 30 * 100) <= 60


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("http_5xx_ratio", "errors"),
        ("request_duration_p99_ms", "latency"),
        ("requests_per_sec", "requests"),
        ("db_pool_in_use", "connections"),
        ("queue_depth", "queue"),
        ("tls_cert_seconds_until_expiry", "expiry"),
        ("cpu_utilization", "cpu"),
        ("heap_used_bytes", "memory"),
        ("checkout_success_rate", "success"),
        ("containerRestartsTotal", "restarts"),
        ("container-cpu-cfs-throttled-seconds-total", "cpu"),
        ("container_fs_io_time_seconds_total", "disk"),
        ("cart_diskio", "disk"),
        ("container_memory_failures_total", "other"),
        ("process_start_time_seconds", "other"),
        ("node_memory_MemAvailable_bytes", "headroom"),
        ("go_gc_duration_seconds", "memory"),
        ("istio-request-duration-milliseconds-p50", "latency"),
        ("latency-90", "latency"),
        ("tcp_retrans", "errors"),
        ("packet_loss", "errors"),
        ("workload", "requests"),
    ],
)
def test_the_name_of_a_metric_says_what_it_measures(metric: str, kind: str):
    assert indicators.kind(metric) == kind


def test_shares_read_as_percentages():
    assert indicators.write(0.312, "error_ratio", "ratio", 0.312) == "31.2 %"
    assert indicators.write(2847.0, "p99_ms", "ms", 2847.0) == "2,847 ms"


def test_the_service_that_moved_first_is_named_with_size_and_time(tmp_path):
    incident = Incident(tmp_path)
    incident.series("orders", "error_ratio", 0.003, 0.4, "ratio")
    incident.series("front", "error_ratio", 0.004, 0.2, "ratio", at=BROKE + timedelta(minutes=2))
    incident.series("catalog", "error_ratio", 0.004, None, "ratio")
    incident.series("orders", "cpu_utilization", 0.3, None, "ratio")
    finding = investigate(incident, tmp_path)
    first = finding.claims[0]
    assert (first.kind, first.component) == ("symptom", "orders")
    assert first.at is not None and abs((first.at - BROKE).total_seconds()) <= 30
    assert re.search(r"0\.3 % → (39|40|41)", first.text) and times.clock(first.at) in first.text
    assert finding.causes[0].object == "service/orders"
    calm = [c for c in finding.claims if c.kind == "ruled_out"]
    assert any(c.component == "catalog" for c in calm)
    assert any("CPU" in c.text for c in calm)
    assert finding.calls <= 3


def test_the_onset_is_found_although_the_alert_was_twenty_minutes_late(tmp_path):
    incident = Incident(tmp_path)
    began = FIRED - timedelta(minutes=24)
    incident.series("orders", "error_ratio", 0.003, 0.4, "ratio", at=began)
    finding = investigate(incident, tmp_path)
    assert finding.claims[0].at is not None
    assert abs((finding.claims[0].at - began).total_seconds()) <= 30


def test_demand_that_rises_everywhere_is_a_surge(tmp_path):
    incident = Incident(tmp_path)
    for service in ("orders", "front", "catalog"):
        incident.series(service, "requests_per_sec", 200, 1100, at=BROKE - timedelta(minutes=1))
    incident.series("orders", "cpu_utilization", 0.3, 0.99, "ratio")
    incident.series("orders", "error_ratio", 0.003, 0.3, "ratio")
    finding = investigate(incident, tmp_path)
    assert finding.causes[0].label == "traffic_surge"
    assert finding.causes[0].confidence >= 0.6


def test_customers_who_try_again_are_no_surge(tmp_path):
    incident = Incident(tmp_path)
    incident.series("orders", "error_ratio", 0.003, 0.5, "ratio")
    incident.series("orders", "requests_per_sec", 200, 420, at=BROKE + timedelta(minutes=2))
    finding = investigate(incident, tmp_path)
    assert all(c.label != "traffic_surge" for c in finding.causes)


def test_a_countdown_that_reaches_zero_at_the_onset_is_an_expiry(tmp_path):
    incident = Incident(tmp_path)
    incident.series("orders", "error_ratio", 0.003, 0.9, "ratio")
    for i in range(180):
        moment = START + timedelta(seconds=30 * i)
        left = (BROKE - moment).total_seconds()
        row = (moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "vault", "cert_seconds_until_expiry", "s", str(left))
        incident.metrics.append(row)
    finding = investigate(incident, tmp_path)
    assert finding.causes[0].label == "certificate_expired"
    assert finding.causes[0].object == "service/vault"


def test_healthy_metrics_give_no_symptom_and_no_cause(tmp_path):
    incident = Incident(tmp_path)
    for service in ("orders", "front"):
        incident.series(service, "error_ratio", 0.003, None, "ratio")
        incident.series(service, "request_duration_p95_ms", 80, None, "ms")
    finding = investigate(incident, tmp_path)
    assert finding.status == "abstained"
    assert finding.claims == () and finding.causes == ()
    assert "got worse" in finding.summary


def test_many_series_are_read_in_longer_steps_within_three_calls_and_one_for_the_graph(tmp_path):
    incident = Incident(tmp_path)
    incident.series("orders", "error_ratio", 0.003, 0.4, "ratio")
    for i in range(60):
        incident.series(f"worker-{i}", "queue_depth", 10, None)
    finding = investigate(incident, tmp_path)
    assert finding.calls <= 4 and finding.missing == ()
    assert finding.causes[0].object == "service/orders"


def test_no_metrics_is_said_not_guessed(tmp_path):
    incident = Incident(tmp_path)
    root = incident.write()
    (root / "metrics.csv").unlink()

    async def run() -> Finding:
        async with relay(root, tmp_path / "state", ("metrics", "traces")) as through:
            return await ask(MetricsSpecialist(), incident.task("metrics"), through)

    finding = asyncio.run(run())
    assert finding.status == "abstained"
    assert "metrics" in finding.missing[0]


def test_a_spike_that_passed_before_the_alert_is_not_what_moved_first(tmp_path):
    incident = Incident(tmp_path)
    incident.series("orders", "error_ratio", 0.003, 0.4, "ratio")
    early = BROKE - timedelta(minutes=20)
    incident.series(
        "mailer", "latency_p95_ms", 20, 900, "ms", at=early, healed=early + timedelta(seconds=30), noise=0.02
    )
    finding = investigate(incident, tmp_path)
    assert finding.causes[0].object == "service/orders"
    assert all(c.component != "mailer" for c in finding.claims if c.kind == "symptom")


def test_more_queries_for_each_request_are_a_cause_of_their_own(tmp_path):
    incident = Incident(tmp_path)
    incident.series("orders", "db_queries_per_request", 3, 70, "queries")
    incident.series("orders", "latency_p95_ms", 40, 1500, "ms")
    finding = investigate(incident, tmp_path)
    assert (finding.causes[0].label, finding.causes[0].object) == ("calls_multiplied", "service/orders")
