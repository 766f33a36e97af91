"""The remediation specialist: proposals from leads, acting only with approval, and whether it helped."""

import asyncio
from datetime import timedelta
from typing import Any

from specialists.evidence import investigate_checked
from specialists.local.metrics import MetricsSpecialist
from specialists.local.remediation import RemediationSpecialist
from specialists.toolbox import Toolbox
from specialists.types import Action, Cause, Evidence, Finding
from tests.specialists.incidents import BROKE, ENDED, NOW, Incident
from tests.specialists.relay import Relay, ask, relay

SHA = "aa11" * 10
SERVERS = ("metrics", "changes", "actions")
ROLLBACK = Action(
    tool="actions__rollback", arguments={"service": "orders", "to_version": "1.3.9"}, reason="test"
)


def broken(tmp_path, healed: bool = True) -> Incident:
    incident = Incident(tmp_path)
    incident.series("orders", "error_ratio", 0.003, 0.5, "ratio", healed=NOW if healed else None)
    incident.deploy("orders", "1.4.0", BROKE - timedelta(minutes=5), SHA, "1.3.9")
    incident.versions = {"orders": {"version": "1.4.0", "previous": ["1.3.9", "1.3.8"], "replicas": 3}}
    incident.recovery = {"action": "rollback", "service": "orders", "to_version": "1.3.9"}
    return incident


def lead(through: Relay, **parts: Any) -> Cause:
    through.texts["call-0"] = "the deploy of orders"
    evidence = Evidence(call="call-0", tool="changes__deploys", arguments={}, quote="the deploy of orders")
    return Cause(**({"confidence": 0.8, "statement": "It broke.", "evidence": (evidence,)} | parts))


def propose(incident: Incident, tmp_path, **parts: Any) -> Finding:
    async def run() -> Finding:
        async with relay(incident.write(), tmp_path / "state", SERVERS) as through:
            task = incident.task("remediation", leads=(lead(through, **parts),))
            finding = await ask(RemediationSpecialist(), task, through)
            assert all(tool in {"actions__status", "changes__deploys"} for tool in through.tools)
            return finding

    return asyncio.run(run())


def act(incident: Incident, tmp_path, waiting: bool = False) -> tuple[Finding, Relay]:
    async def run() -> tuple[Finding, Relay]:
        async with relay(incident.write(), tmp_path / "state", SERVERS) as through:
            seen = await ask(MetricsSpecialist(), incident.task("metrics"), through)
            through.waiting = {ROLLBACK.tool} if waiting else set()
            task = incident.task("remediation", act=ROLLBACK, claims=seen.claims)
            finding = await ask(RemediationSpecialist(), task, through)
            for claim in finding.claims:
                assert all(through.stands(e) for e in claim.evidence)
            return finding, through

    return asyncio.run(run())


def test_a_bad_deploy_is_answered_with_a_rollback_to_the_version_before(tmp_path):
    finding = propose(
        broken(tmp_path), tmp_path, category="change", label="bad_deploy", object=f"commit/{SHA}"
    )
    action = finding.actions[0]
    assert (action.tool, action.arguments) == (ROLLBACK.tool, {"service": "orders", "to_version": "1.3.9"})
    assert action.status == "proposed"
    assert "1.4.0" in action.reason and action.risk and "1.4.0" in action.undo


def test_a_surge_is_answered_with_more_replicas(tmp_path):
    finding = propose(
        broken(tmp_path), tmp_path, category="saturation", label="traffic_surge", object="service/orders"
    )
    assert finding.actions[0].tool == "actions__scale"
    assert finding.actions[0].arguments == {"service": "orders", "replicas": 6}
    assert "3 replicas" in finding.actions[0].undo


def test_a_cause_that_no_tool_undoes_gets_advice_and_no_action(tmp_path):
    finding = propose(
        broken(tmp_path),
        tmp_path,
        category="expiry",
        label="certificate_expired",
        object="service/orders",
        remedy="Renew the certificate.",
    )
    assert finding.actions == ()
    assert "Renew the certificate." in finding.summary


def test_without_a_cause_nothing_is_proposed(tmp_path):
    incident = broken(tmp_path)

    async def run() -> Finding:
        async with relay(incident.write(), tmp_path / "state", SERVERS) as through:
            return await ask(RemediationSpecialist(), incident.task("remediation"), through)

    finding = asyncio.run(run())
    assert finding.status == "abstained" and finding.calls == 0


def test_an_approved_rollback_runs_and_recovery_is_measured(tmp_path):
    finding, through = act(broken(tmp_path), tmp_path)
    assert through.tools.count(ROLLBACK.tool) == 1
    assert finding.actions[0].status == "done"
    recovery = finding.claims[0]
    assert recovery.kind == "recovery" and "recovered at" in recovery.text
    assert recovery.at is not None and NOW <= recovery.at <= ENDED


def test_a_rollback_that_does_not_help_is_reported_as_such(tmp_path):
    finding, _ = act(broken(tmp_path, healed=False), tmp_path)
    assert "has not recovered" in finding.claims[0].text


def test_an_action_waits_for_a_person_and_changes_nothing_meanwhile(tmp_path):
    finding, through = act(broken(tmp_path), tmp_path, waiting=True)
    assert finding.actions and finding.actions[0].status == "pending"
    assert finding.actions[0].approval == "A-1"
    assert not any("rollback orders" in text for text in through.texts.values())


def test_an_action_that_the_tool_refuses_is_said_to_have_failed(tmp_path):
    incident = broken(tmp_path)
    wrong = ROLLBACK.model_copy(update={"arguments": {"service": "orders", "to_version": "0.0.1"}})

    async def run() -> Finding:
        async with relay(incident.write(), tmp_path / "state", SERVERS) as through:
            async with Toolbox(through.server, specialist="remediation") as toolbox:
                last: Any = None
                task = incident.task("remediation", act=wrong)
                async for event in investigate_checked(RemediationSpecialist(), task, toolbox):
                    last = event
            return last

    finding = asyncio.run(run())
    assert finding.status == "failed"
    assert finding.actions[0].status == "failed"
    assert "1.3.9" in finding.missing[0]
