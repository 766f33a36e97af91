"""The logs specialist against lines made for the purpose, through the real logs server."""

import asyncio
from datetime import timedelta

import pytest

from specialists.local.logs import LogsSpecialist
from specialists.local.mechanisms import hosts, mechanism, outside_hosts
from specialists.types import Finding
from tests.specialists.incidents import BROKE, FIRED, NOW, Incident
from tests.specialists.relay import ask, relay


def investigate(incident: Incident, tmp_path) -> Finding:
    async def run() -> Finding:
        async with relay(incident.write(), tmp_path / "state", ("logs",)) as through:
            finding = await ask(LogsSpecialist(), incident.task("logs"), through)
            for claim in (*finding.claims, *finding.causes):
                assert all(through.stands(e) for e in claim.evidence)
            return finding

    return asyncio.run(run())


def busy(tmp_path) -> Incident:
    incident = Incident(tmp_path)
    for service in ("front", "orders", "stock"):
        incident.logs(service, "handled request {n}", every=20)
    return incident


def test_a_new_error_is_told_with_count_and_time(tmp_path):
    incident = busy(tmp_path)
    incident.logs("orders", "order {n} failed: deadlock detected", "ERROR", start=BROKE, every=15)
    finding = investigate(incident, tmp_path)
    first = finding.claims[0]
    assert (first.kind, first.component, first.at) == ("symptom", "orders", BROKE)
    assert "deadlock detected" in first.text and "new" in first.text
    assert finding.causes[0].label == "lock_contention"
    assert finding.calls <= 3


def test_an_error_that_was_always_there_is_called_noise(tmp_path):
    incident = busy(tmp_path)
    incident.logs("mailer", "webhook to partner failed, attempt {n}", "ERROR", every=30)
    incident.logs("orders", "panic: index out of range", "ERROR", start=BROKE, every=15)
    finding = investigate(incident, tmp_path)
    noise = [c for c in finding.claims if c.kind == "ruled_out"]
    assert [c.component for c in noise] == ["mailer"]
    assert all(c.component != "mailer" for c in finding.claims if c.kind == "symptom")


def test_an_error_that_became_frequent_is_told_with_how_much(tmp_path):
    incident = busy(tmp_path)
    incident.logs("orders", "retrying statement {n}", "WARN", every=600)
    incident.logs("orders", "retrying statement {n}", "WARN", start=BROKE, every=5)
    finding = investigate(incident, tmp_path)
    assert "times more frequent" in finding.claims[0].text


def test_the_blamed_service_comes_before_those_that_blame_it(tmp_path):
    incident = busy(tmp_path)
    incident.logs("front", "upstream orders returned 500", "ERROR", start=BROKE, every=5)
    incident.logs("orders", "call to stock failed: status 503", "ERROR", start=BROKE, every=5)
    incident.logs(
        "stock", "out of memory: cannot allocate buffer", "ERROR", start=BROKE + timedelta(seconds=8), every=9
    )
    finding = investigate(incident, tmp_path)
    assert finding.causes[0].object == "service/stock"
    assert finding.causes[0].label == "memory_exhausted"
    assert any(c.kind == "context" and c.component == "stock" for c in finding.claims)


def test_names_that_several_services_cannot_resolve_are_a_dns_failure(tmp_path):
    incident = busy(tmp_path)
    incident.logs("orders", "dial: lookup stock.shop.svc.cluster.local: no such host", "ERROR", start=BROKE)
    incident.logs("front", "getaddrinfo ENOTFOUND mail.example.com", "ERROR", start=BROKE)
    finding = investigate(incident, tmp_path)
    assert finding.causes[0].label == "dns_failure"
    assert finding.causes[0].confidence >= 0.8


def test_a_host_of_somebody_else_that_answers_503_is_a_provider_outage(tmp_path):
    incident = busy(tmp_path)
    incident.logs(
        "orders", "POST https://api.cards.example.com/v2/hold returned 503", "ERROR", start=BROKE, every=5
    )
    finding = investigate(incident, tmp_path)
    assert finding.causes[0].label == "provider_outage"
    assert "api.cards.example.com" in finding.causes[0].statement


def test_the_attributes_of_the_first_error_are_looked_up(tmp_path):
    incident = busy(tmp_path)
    incident.logs(
        "orders", "TypeError in total", "ERROR", start=BROKE, every=15, stack="orders/total.py:41 add_up"
    )
    finding = investigate(incident, tmp_path)
    detail = next(c for c in finding.claims if "orders/total.py:41" in c.text)
    assert "orders/total.py:41" in detail.evidence[0].quote


def test_quiet_logs_give_no_symptom(tmp_path):
    incident = busy(tmp_path)
    finding = investigate(incident, tmp_path)
    assert finding.causes == ()
    assert all(c.kind != "symptom" for c in finding.claims)
    assert "No error is new" in finding.summary


def test_one_hiccup_before_the_incident_does_not_count(tmp_path):
    incident = busy(tmp_path)
    early = FIRED - timedelta(minutes=50)
    incident.logs("stock", "connection reset by peer", "ERROR", start=early, end=early + timedelta(minutes=2))
    finding = investigate(incident, tmp_path)
    assert all(c.kind != "symptom" for c in finding.claims)
    assert early < NOW


def test_new_is_told_from_noise_although_the_logs_begin_shortly_before(tmp_path):
    incident = Incident(tmp_path)
    begin = FIRED - timedelta(minutes=7)
    incident.logs("orders", "handled request {n}", start=begin, every=3)
    incident.logs("mailer", "webhook to partner failed, attempt {n}", "ERROR", start=begin, every=5)
    incident.logs("orders", "pool timeout: no connection within 2 s", "ERROR", start=BROKE, every=4)
    finding = investigate(incident, tmp_path)
    assert [c.component for c in finding.claims if c.kind == "symptom"] == ["orders"]
    assert [c.component for c in finding.claims if c.kind == "ruled_out"] == ["mailer"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("x509: certificate has expired or is not yet valid", "certificate_expired"),
        ("write /data: no space left on device", "disk_full"),
        ("QueuePool limit of size 5 reached, connection timed out", "pool_exhausted"),
        ("pq: column orders.discount does not exist", "schema_mismatch"),
        ("runtime error: invalid memory address or nil pointer dereference", "code_error"),
        ("dial tcp 10.0.0.7:5432: connect: connection refused", "connection_refused"),
        ("cannot execute UPDATE in a read-only transaction", "database_failover"),
        ("context deadline exceeded", "timeouts"),
        ("similar items lookup failed: catalog error", None),
    ],
)
def test_error_words_name_the_kind_of_failure(text: str, label: str | None):
    found = mechanism(text)
    assert (found.label if found else None) == label


def test_hosts_are_told_from_files_and_from_our_own_names():
    assert outside_hosts("POST https://api.pay.example.com/v1 failed in services/pay/charge.go:12") == (
        "api.pay.example.com",
    )
    assert outside_hosts("lookup stock.shop.svc.cluster.local: timeout") == ()
    assert hosts("lookup stock.shop.svc.cluster.local: timeout") == ("stock.shop.svc.cluster.local",)
