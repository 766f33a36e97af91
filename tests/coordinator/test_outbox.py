"""What did not arrive is sent again, people are reminded once, and what nobody decides is escalated."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from coordinator.delivery import case_records
from coordinator.errors import CoordinatorError
from coordinator.gateway_client import Access, GatewayClient
from coordinator.outbox import BACK_OFF, HELD, KEPT, Outbox, _send, send_due
from coordinator.workflows.commands import by_hand
from tests.coordinator.test_delivered import deliver_to
from tests.fakes.receivers import receiver

HEAD = "id: release\nname: Release\nowner: workshop\ninputs: {n: integer}\nsteps:\n"
DESK = '[tool_servers.delivery.desk]\nkind = "webhook"\nurl = "{url}"\nsecret = "${{file:secret}}"\n'


@pytest.fixture
def desk(workspace):
    """A destination `desk` that is set, but where nothing goes by itself."""
    with receiver() as there:
        (workspace.folder / "secret").write_text("s" * 24)
        deliver_to(workspace, tables=DESK.format(url=there.url))
        yield there


def write(workspace, steps):
    (workspace.folder / "workflows").mkdir()
    (workspace.folder / "workflows" / "release.yaml").write_text(HEAD + steps)


async def start(runner):
    return await runner.start(by_hand(runner.workflows.get("release").workflow, {"n": 7}))


async def steps_of(runner, case, kind):
    async with runner.gateway(case) as gateway:
        return [r["body"] for r in await case_records(case, gateway) if r.get("step") == kind]


def test_a_report_goes_where_its_step_says_and_again_later_if_it_did_not_arrive(run, workspace, desk):
    write(workspace, "  - {id: told, deliver: report, to: [desk], title: \"'Released'\"}\n")
    desk.status = 503

    async def act(runner, _):
        case = (await start(runner)).case
        now = datetime.now(UTC)
        assert await send_due(runner, now) == []
        tries = len(desk.got)
        assert await send_due(runner, now + BACK_OFF[0]) == [
            (Outbox(runner.index.db).waiting(case)[0].key, "waiting")
        ]
        assert len(desk.got) == 2 * tries
        desk.status = 200
        assert await send_due(runner, now + BACK_OFF[0]) == []  # it was put off for longer
        [(_, state)] = await send_due(runner, now + BACK_OFF[0] + BACK_OFF[1])
        outbox = Outbox(runner.index.db)
        assert state == "sent" and outbox.waiting(case) == []
        assert outbox.trim(now + KEPT) == 0
        runner.index.update(case, "waiting")
        assert outbox.trim(now + 2 * KEPT) == 0
        runner.index.update(case, "delivered")
        assert outbox.trim(now + 2 * KEPT) == 1
        return case, await steps_of(runner, case, "delivery")

    case, told = run(act)
    assert [(one["to"], one["status"]) for one in told] == [("desk", s) for s in ("failed", "failed", "sent")]
    assert {got.headers["idempotency-key"] for got in desk.got} == {f"{case} {told[0]['report']}"}
    assert desk.got[-1].body["report"]["title"] == "Released"
    arrived = len(desk.got)
    by_hand = workspace.run("cases", "deliver", case, "--to", "desk", "--to", "dsk", "--json")
    told = {one["to"]: one for one in json.loads(by_hand.stdout)}
    assert by_hand.returncode == 1 and "known are tickets, desk" in told["dsk"]["why"]
    assert (
        told["desk"]["status"] == "sent" and len(desk.got) == arrived
    )  # it has arrived, and does no second time


WAITS = """\
  - id: release
    checkpoint: Release it?
    shows: {number: inputs.n}
    by: finance
    tell: desk
"""


def test_a_reminder_is_sent_once_however_many_look_and_none_when_it_was_decided(run, workspace, desk):
    write(workspace, WAITS + "    remind: [30m, 2h]\n  - {id: told, deliver: report}\n")

    async def act(runner, _):
        case = (await start(runner)).case
        now, outbox = datetime.now(UTC), Outbox(runner.index.db)
        assert await send_due(runner, now + timedelta(minutes=29)) == []
        soon = now + timedelta(minutes=31)
        [lost] = outbox.take(soon)  # by a process that dies once it has sent it
        async with runner.gateway(case) as gateway:
            assert await _send(lost, gateway) == "sent"
        assert await send_due(runner, soon) == []
        both = await asyncio.gather(*(send_due(runner, soon + HELD) for _ in range(2)))
        assert [*both[0], *both[1]] == [(lost.key, "sent")]
        await runner.resume(case)  # still waits, and nobody is reminded from the start
        assert len(outbox.waiting(case)) == 1
        token = await issued(workspace, "user:fin", "finance", "approver")
        async with GatewayClient(Access(runner.access.url, ""), token) as fin:
            await fin.read("gateway__deny_approval", {"id": lost.body["approvals"][0], "reason": "no"})
        assert await send_due(runner, now + timedelta(hours=3)) == [(outbox_key(lost, 2), "over")]
        return await steps_of(runner, case, "reminder")

    [told] = run(act)
    [got] = desk.got
    assert got.body["type"] == "reminder" and got.body["shows"] == {"number": 7}
    assert (told["step"], told["to"], told["status"]) == ("release", "desk", "sent")


def outbox_key(one, n):
    return f"{one.key[:-1]}{n}"


async def issued(workspace, subject, *roles):
    """A token of the running gateway."""
    asked = [part for role in roles for part in ("--role", role)]
    done = await asyncio.to_thread(workspace.run, "tokens", "issue", subject, *asked, "--json")
    return json.loads(done.stdout)["token"]


def test_a_checkpoint_that_nobody_decides_is_escalated_to_a_role_that_may_from_then_on(run, workspace, desk):
    write(workspace, WAITS + "    escalate: {after: 2s, to: board}\n  - {id: told, deliver: report}\n")

    async def act(runner, _):
        asked = await start(runner)
        began = datetime.now(UTC)
        approval = asked.waiting[0].actions[0].approval
        tokens = {
            role: await issued(workspace, f"user:{role}", role, "approver") for role in ("oncall", "board")
        }
        told: list[str] = []

        async def may(role):
            async with GatewayClient(Access(runner.access.url, ""), tokens[role]) as person:
                try:
                    await person.read("gateway__grant_approval", {"id": approval, "reason": "waited"})
                except CoordinatorError as error:
                    told.append(str(error))
                    return False
            return True

        [(_, state)] = await send_due(runner, began + timedelta(hours=1))
        assert state == "sent"
        while not await may("board"):
            assert datetime.now(UTC) - began < timedelta(seconds=60)
            await asyncio.sleep(0.1)
        assert datetime.now(UTC) - began >= timedelta(seconds=1)
        assert not told or "checkpoint-not-others" in told[0] or "role" in told[0]
        assert not await may("oncall")
        done = await runner.resume(asked.case)
        return done.report, await steps_of(runner, asked.case, "escalation")

    report, [told] = run(act)
    assert (told["role"], told["to"], told["status"]) == ("board", "desk", "sent")
    assert [(got.body["type"], got.body["role"]) for got in desk.got] == [("escalation", "board")]
    assert report.outcome == "done"
    assert {line.step: line.status for line in report.steps}["release"] == "done"
