"""The traces specialist against spans made for the purpose, through the real traces server."""

import asyncio
from datetime import timedelta

from specialists.local.traces import TracesSpecialist
from specialists.types import Finding
from tests.specialists.incidents import BROKE, NOW, START, Incident
from tests.specialists.relay import ask, relay


def investigate(incident: Incident, tmp_path) -> Finding:
    async def run() -> Finding:
        async with relay(incident.write(), tmp_path / "state", ("traces",)) as through:
            finding = await ask(TracesSpecialist(), incident.task("traces"), through)
            for claim in (*finding.claims, *finding.causes):
                assert all(through.stands(e) for e in claim.evidence)
            return finding

    return asyncio.run(run())


def traffic(incident: Incident, before, after, every: float = 60) -> Incident:
    """Traces of one shape before and of another since it broke."""
    moment = START
    while moment <= NOW:
        rows = after if moment >= BROKE else before
        incident.trace(moment, *rows)
        moment += timedelta(seconds=every)
    return incident


HEALTHY = [
    ("a", "front", "GET /basket", 0, 60, ""),
    ("b<a", "orders", "basket", 5, 50, ""),
    ("c<b", "stock", "levels", 10, 20, ""),
    ("d<a", "hints", "suggest", 52, 6, ""),
]


def test_the_operation_whose_own_work_grew_is_the_cause_and_its_callers_only_wait(tmp_path):
    slow = [
        ("a", "front", "GET /basket", 0, 460, ""),
        ("b<a", "orders", "basket", 5, 450, ""),
        ("c<b", "stock", "levels", 10, 420, ""),
        ("d<a", "hints", "suggest", 452, 6, ""),
    ]
    finding = investigate(traffic(Incident(tmp_path), HEALTHY, slow), tmp_path)
    assert (finding.causes[0].label, finding.causes[0].object) == ("slow_operation", "service/stock")
    waiting = {c.component for c in finding.claims if c.kind == "ruled_out" and "only waits" in c.text}
    assert waiting == {"front", "orders"}
    assert {c.component for c in finding.claims if c.kind == "impact"} == {"front", "orders"}
    assert any(c.kind == "ruled_out" and c.component == "hints" for c in finding.claims)
    assert finding.calls <= 4


def test_calls_that_multiplied_are_told_with_their_number(tmp_path):
    many = [
        ("a", "front", "GET /basket", 0, 300, ""),
        ("b<a", "orders", "basket", 5, 290, ""),
        *[(f"c{i}<b", "stock", "levels", 6 + 20 * i, 20, "") for i in range(14)],
        ("d<a", "hints", "suggest", 292, 6, ""),
    ]
    finding = investigate(traffic(Incident(tmp_path), HEALTHY, many), tmp_path)
    assert (finding.causes[0].label, finding.causes[0].object) == ("calls_multiplied", "service/orders")
    assert "14 calls to stock levels" in finding.causes[0].statement


def test_errors_begin_in_the_deepest_failing_span(tmp_path):
    failing = [
        ("a", "front", "GET /basket", 0, 60, "-"),
        ("b<a", "orders", "basket", 5, 50, "-"),
        ("c<b", "stock", "levels", 10, 20, "column parcels.weight does not exist"),
        ("d<a", "hints", "suggest", 52, 6, ""),
    ]
    finding = investigate(traffic(Incident(tmp_path), HEALTHY, failing), tmp_path)
    assert finding.causes[0].object == "service/stock"
    begins = next(c for c in finding.claims if "Errors begin" in c.text)
    assert begins.component == "stock" and "column parcels.weight" in begins.text


def test_retries_of_failing_calls_are_not_multiplied_calls(tmp_path):
    retried = [
        ("a", "front", "GET /basket", 0, 900, "-"),
        ("b<a", "orders", "basket", 5, 890, "-"),
        *[
            (f"c{i}<b", "orders", "POST https://api.post.example.com", 6 + 200 * i, 200, "503")
            for i in range(4)
        ],
    ]
    finding = investigate(traffic(Incident(tmp_path), HEALTHY, retried), tmp_path)
    labels = [c.label for c in finding.causes]
    assert "calls_multiplied" not in labels
    assert finding.causes[0].label == "provider_outage"


def test_unchanged_traces_give_no_cause(tmp_path):
    finding = investigate(traffic(Incident(tmp_path), HEALTHY, HEALTHY), tmp_path)
    assert finding.causes == ()
    assert "None of 4 operations" in finding.summary
