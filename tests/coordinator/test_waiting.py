"""A case that waits is a row and a checkpoint, whatever becomes of the processes meanwhile."""

import asyncio
import json
import os
import signal
from contextlib import closing

from coordinator import private_gateway
from coordinator.case_index import CaseIndex
from coordinator.gateway_client import GatewayClient
from coordinator.types import Trigger
from specialists.errors import TokenRefused

WORKFLOW = """
id: mending
name: Mending
owner: the tests
steps:
  - id: before
    tool: things__look
    arguments: {n: 1}
  - id: sure
    checkpoint: Shall thing 2 be looked at?
    shows: {seen: before.text}
  - id: after
    tool: things__look
    arguments: {n: 2}
  - id: report
    deliver: report
"""


def kill_all(workspace, up) -> None:
    """End `up` and its gateway with SIGKILL; what the gateway serves ends with it."""
    gateway = json.loads((workspace.home / "gateway.json").read_text())["pid"]
    for pid in (up.pid, gateway):
        os.kill(pid, signal.SIGKILL)
    up.wait()
    workspace.until(lambda: not os.path.exists(f"/proc/{gateway}"))


def test_a_case_halted_at_a_checkpoint_outlives_everything_and_goes_on_when_somebody_agreed(workspace):
    (workspace.folder / "workflows").mkdir()
    (workspace.folder / "workflows" / "mending.yaml").write_text(WORKFLOW)
    opened = Trigger(kind="manual", title="thing 2?", question="Is thing 2 fine?", workflow="mending")
    with closing(CaseIndex(workspace.home)) as index:
        case, _ = index.open_once(opened, "the one")

        first = workspace.start("up", "--port", "0", "--json")
        workspace.until(lambda: index.get(case).status == "waiting")
        kill_all(workspace, first)

        second = workspace.start("up", "--port", "0", "--json")
        assert second.stdout.readline()
        [asked] = json.loads(workspace.run("approvals", "list", "--json").stdout)["approvals"]
        held = workspace.run("cases", "resume", case)
        assert held.returncode == 1 and f"{case} is in the hands of local" in held.stderr
        assert (asked["case"], asked["tool"]) == (case, "gateway__pass_checkpoint")
        kill_all(workspace, second)
        assert index.get(case).status == "waiting" and workspace.looks() == [1]
        granted = workspace.run("approvals", "grant", asked["id"], "--reason", "it may be looked at")
        assert granted.returncode == 0, granted.stderr

        third = workspace.start("up", "--port", "0", "--json")
        workspace.until(lambda: index.get(case).status == "delivered")
        third.send_signal(signal.SIGTERM)
        assert third.wait(60) == 0, third.stderr.read()
        [agreed] = index.report(case).provenance.approvals
        assert agreed.approval == asked["id"] and index.in_queue() == set()
        may = ", ".join(agreed.rules)
        assert may and f"(may by {may}): it may be looked at" in index.report_text(case, "md")
    assert workspace.looks() == [1, 2]
    assert workspace.run("audit", "verify").returncode == 0


def test_tokens_are_renewed_before_they_end(workspace, run, monkeypatch):
    monkeypatch.setattr(private_gateway, "PERSON_SECONDS", 4)

    async def act(runner, _):
        first = runner.access
        async with runner.gateway("INC-LONG") as leg, asyncio.timeout(60):
            await leg.record_step("plan", {"n": 1})
            while runner.access == first or await accepted(first):  # noqa: ASYNC110 (the gateway ends it)
                await asyncio.sleep(0.1)
            # a leg that outlives its token goes on with the next one
            told = [leg.record_step("plan", {"n": n}) for n in (2, 3)]
            await asyncio.gather(*told)
        assert await accepted(runner.access)
        assert await runner.pending() == frozenset()

    run(act)


async def accepted(access) -> bool:
    """Whether the gateway takes the coordinator's token."""
    async with GatewayClient(access, access.coordinator) as client:
        try:
            await client.read("gateway__list_approvals", {"status": "pending"})
        except TokenRefused:
            return False
    return True
