"""The runbooks specialist: the right page, or none, through the real runbooks server."""

import asyncio

from specialists.local.runbooks import RunbooksSpecialist
from specialists.types import Finding
from tests.specialists.incidents import Incident
from tests.specialists.relay import ask, relay

POOL = """# Connection pool of a service is exhausted

## Symptoms
Requests fail with `pool timeout`; all database connections of the service are in use.

## What to do
1. Look which statements run longest.
2. Roll back the last deploy of the service if it added queries.
3. Raise the pool size only to win time.
"""
DISK = """# Disk of a node fills up

## What to do
1. Find the largest directories with `du`.
2. Rotate logs and remove old images.
"""


def investigate(incident: Incident, tmp_path) -> Finding:
    root = incident.write()
    (root / "runbooks" / "pool.md").write_text(POOL)
    (root / "runbooks" / "disk.md").write_text(DISK)

    async def run() -> Finding:
        async with relay(root, tmp_path / "state", ("runbooks",)) as through:
            finding = await ask(RunbooksSpecialist(), incident.task("runbooks"), through)
            for one in finding.guidance:
                assert one.passage.splitlines()[0] in through.texts[one.call]
            return finding

    return asyncio.run(run())


def test_the_page_about_the_alert_is_found_with_its_place(tmp_path):
    incident = Incident(tmp_path)
    incident.alert["summary"] = "orders: pool timeout, all database connections are in use"
    finding = investigate(incident, tmp_path)
    assert finding.status == "found"
    assert "pool" in finding.guidance[0].title.lower()
    assert finding.guidance[0].where.startswith("pool.md, lines ")
    assert finding.claims == () and finding.causes == ()
    assert finding.calls == 1


def test_an_alert_without_a_page_gets_none(tmp_path):
    incident = Incident(tmp_path)
    incident.alert["summary"] = "Kafka consumer group rebalances too often on topic payments"
    finding = investigate(incident, tmp_path)
    assert finding.status == "abstained"
    assert finding.guidance == ()
    assert "No runbook" in finding.summary
