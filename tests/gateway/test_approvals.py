"""Approvals: for one exact call, by somebody else, once, and over a restart."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import ApprovalError, ApprovalSpent
from gateway.types import Call, Decision, Rule, Subject
from tests.gateway.records import ANA, ASK, BOB, FIXER, LOGS, ROLLBACK, Parts, call, parts, tool

pytestmark = pytest.mark.anyio
ASK_TWO = Decision("request", (Rule("remediation-asks"), Rule("two", approvals=2)), policy="p2")


def rollback(**more: object) -> Call:
    return call(ROLLBACK, FIXER, service="orders", **more)


async def kinds(p: Parts) -> list[tuple[str, str]]:
    return [(r["kind"], r.get("status", "")) for r in (await p.ledger.search())["records"]]


async def test_the_same_call_waits_on_the_same_approval(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        assert asked.status == "pending"
        assert (asked.tool, asked.arguments, asked.subject) == (
            "actions__rollback",
            {"service": "orders"},
            FIXER.id,
        )
        same = await asyncio.gather(*(p.approvals.settle(rollback(), ASK) for _ in range(20)))
        assert {approval.id for approval in same} == {asked.id}
        assert await kinds(p) == [("approval", "pending")]


async def test_a_grant_comes_from_someone_else_and_serves_once(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        granted = await p.approvals.grant(asked.id, ANA, "the deploy is the cause")
        assert (granted.status, granted.decided_by, granted.reason) == (
            "granted",
            "user:ana",
            "the deploy is the cause",
        )
        found = await p.approvals.settle(rollback(), ASK)
        assert (found.id, found.status) == (asked.id, "granted")
        used = rollback()
        await p.run(used, decision=ASK, approval=asked.id)
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(rollback(), ASK, asked.id)
        again = await p.approvals.settle(rollback(), ASK)
        assert (again.status, again.id != asked.id) == ("pending", True)
        assert (await p.approvals.show(asked.id)).call == used.id
        assert [kind for kind, _ in await kinds(p)] == ["approval", "grant", "intent", "outcome", "approval"]


async def test_of_a_hundred_calls_on_one_grant_exactly_one_runs(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        await p.approvals.grant(asked.id, ANA, "yes")
        ran: list[str] = []

        async def try_it() -> None:
            made = rollback()
            approval = await p.approvals.settle(made, ASK)
            if approval.status == "granted":
                await p.ledger.intent(made, ASK, approval.id)
                ran.append(made.id)

        tries = await asyncio.gather(*(try_it() for _ in range(100)), return_exceptions=True)
        assert len(ran) == 1
        assert {type(t) for t in tries if t is not None} <= {ApprovalSpent}


@pytest.mark.parametrize(
    "by",
    [
        FIXER,
        Subject(FIXER.id, ("oncall", "operator")),
        Subject("agent:coordinator", ("oncall",)),
        Subject("user:ana", ("oncall",), ("user:operator", "agent:coordinator")),
        Subject("gateway:service", ("operator",)),
    ],
    ids=[
        "itself",
        "itself with more roles",
        "another agent",
        "a person's token an agent issued",
        "the gateway",
    ],
)
async def test_nobody_but_a_person_grants(tmp_path: Path, by: Subject) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        with pytest.raises(ApprovalError, match=r"somebody else|needs a person"):
            await p.approvals.grant(asked.id, by, "yes")
        assert (await p.approvals.show(asked.id)).status == "pending"
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(rollback(), ASK, asked.id)


async def test_a_person_does_not_grant_their_own_request(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(call(ROLLBACK, ANA, service="orders"), ASK)
        with pytest.raises(ApprovalError, match="somebody else"):
            await p.approvals.grant(asked.id, Subject(ANA.id, ("operator",)), "yes")
        assert (await p.approvals.grant(asked.id, BOB, "yes")).status == "granted"


@pytest.mark.parametrize(
    "other",
    [
        lambda: rollback(to_version="v1"),
        lambda: call(ROLLBACK, FIXER, service="cart"),
        lambda: call(ROLLBACK, LOGS, service="orders"),
        lambda: call(ROLLBACK, Subject(FIXER.id, case="case-2", run="run-1"), service="orders"),
        lambda: call(ROLLBACK, Subject(FIXER.id, case="case-1", run="run-2"), service="orders"),
        lambda: call(ROLLBACK, FIXER, service="Orders"),
        lambda: call(ROLLBACK, FIXER, service="orders\u200b"),
        lambda: call(ROLLBACK, FIXER, service="\uff4frders"),
        lambda: call(ROLLBACK, FIXER, service=["orders"]),
        lambda: call(tool("actions", "restart"), FIXER, service="orders"),
        lambda: call(
            tool("actions", "rollback", {"type": "object", "title": "changed"}), FIXER, service="orders"
        ),
    ],
    ids=[
        "an argument more",
        "another argument",
        "another subject",
        "another case",
        "another run",
        "another letter case",
        "a character nobody sees",
        "a letter that looks alike",
        "another type",
        "another tool",
        "the tool pinned anew",
    ],
)
async def test_a_grant_is_worth_nothing_for_another_call(tmp_path: Path, other) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        await p.approvals.grant(asked.id, ANA, "yes")
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(other(), ASK, asked.id)
        assert (await p.approvals.settle(other(), ASK)).id != asked.id
        await p.run(rollback(), decision=ASK, approval=asked.id)


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ({"n": 1}, {"n": 1.0}),
        ({"n": 1}, {"n": True}),
        ({"n": 0.0}, {"n": -0.0}),
        ({"n": 2**53}, {"n": 2**53 + 1}),
        ({"n": None}, {}),
        ({"t": "\u00e9"}, {"t": "e\u0301"}),
        ({"l": [1, 2]}, {"l": [2, 1]}),
        ({"o": {"a": {}}}, {"o": {"a": []}}),
    ],
)
async def test_arguments_that_only_look_alike_are_others(tmp_path: Path, given, other) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(call(ROLLBACK, FIXER, **given), ASK)
        await p.approvals.grant(asked.id, ANA, "yes")
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(call(ROLLBACK, FIXER, **other), ASK, asked.id)
        assert (await p.approvals.settle(call(ROLLBACK, FIXER, **other), ASK)).status == "pending"


async def test_the_order_of_arguments_does_not_matter(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(call(ROLLBACK, FIXER, a=1, b={"c": 2, "d": 3}), ASK)
        await p.approvals.grant(asked.id, ANA, "yes")
        await p.run(call(ROLLBACK, FIXER, b={"d": 3, "c": 2}, a=1), decision=ASK, approval=asked.id)


async def test_what_waits_and_what_was_granted_survive_a_restart(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
    async with parts(tmp_path) as p:
        assert await p.approvals.list("pending") == [asked]
        await p.approvals.grant(asked.id, ANA, "yes")
    async with parts(tmp_path) as p:
        assert await p.ledger.recover() == []  # a grant runs nothing by itself
        found = await p.approvals.settle(rollback(), ASK)
        assert found.status == "granted"
        await p.run(rollback(), decision=ASK, approval=found.id)
    async with parts(tmp_path) as p:
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(rollback(), ASK, asked.id)


async def test_what_nobody_answers_expires(tmp_path: Path) -> None:
    async with parts(tmp_path, expiry=-1) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        assert (await p.approvals.show(asked.id)).status == "expired"
        with pytest.raises(ApprovalError, match="expired"):
            await p.approvals.grant(asked.id, ANA, "yes")
        assert (await p.approvals.settle(rollback(), ASK)).id != asked.id


async def test_a_grant_that_is_not_used_expires(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        await p.approvals.grant(asked.id, ANA, "yes")
        past = "UPDATE approvals SET expires = '2020-01-01T00:00:00.000000Z'"
        await p.store.write(lambda c: c.execute(past) and None)
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(rollback(), ASK, asked.id)


async def test_a_denial_stands_for_the_same_call_and_cannot_become_a_grant(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        await p.approvals.deny(asked.id, ANA, "not on a Friday")
        found = await p.approvals.settle(rollback(), ASK)
        assert (found.id, found.status, found.reason) == (asked.id, "denied", "not on a Friday")
        with pytest.raises(ApprovalError, match="is denied"):
            await p.approvals.grant(asked.id, BOB, "yes")
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(rollback(), ASK, asked.id)
        assert await kinds(p) == [("approval", "pending"), ("approval", "denied")]


async def test_a_closed_case_withdraws_what_waits_in_it(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        kept = await p.approvals.settle(
            call(ROLLBACK, Subject(FIXER.id, case="case-2"), service="orders"), ASK
        )
        gone = await p.store.write(lambda c: p.approvals.withdraw(c, "case-1", ANA))
        assert gone == [asked.id]
        assert [a.id for a in await p.approvals.list("pending")] == [kept.id]
        with pytest.raises(ApprovalError, match="withdrawn"):
            await p.approvals.grant(asked.id, ANA, "yes")


async def test_an_unknown_approval_is_named(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        with pytest.raises(ApprovalError, match="no approval 'a_none'"):
            await p.approvals.grant("a_none", ANA, "yes")


async def test_approvals_are_listed_by_status_and_case(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        first, second, third = [await p.approvals.settle(rollback(n=n), ASK) for n in range(3)]
        await p.approvals.deny(first.id, ANA, "no")
        past = "UPDATE approvals SET expires = '2020-01-01T00:00:00.000000Z' WHERE id = ?"
        await p.store.write(lambda c: c.execute(past, (second.id,)) and None)
        for status, expected in (
            ("pending", [third]),
            ("denied", [first]),
            ("expired", [second]),
            ("granted", []),
        ):
            found = await p.approvals.list(status)
            assert [(a.id, a.status) for a in found] == [(a.id, status) for a in expected]
        assert len(await p.approvals.list()) == len(await p.approvals.list(case="case-1")) == 3
        assert await p.approvals.list(case="case-2") == []
        for status in ("", "pending", "expired"):
            assert sorted(await p.approvals.ids(status)) == sorted(
                a.id for a in await p.approvals.list(status)
            )
        assert len(await p.approvals.ids(case="case-1")) == 3 and await p.approvals.ids(case="case-2") == ()


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 2_001])
async def test_nothing_is_decided_without_a_reason(tmp_path: Path, reason: str) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        for decide in (p.approvals.grant, p.approvals.deny):
            with pytest.raises(ApprovalError, match="reason"):
                await decide(asked.id, ANA, reason)
        assert (await p.approvals.show(asked.id)).status == "pending"


async def test_where_a_rule_asks_for_two_persons_one_does_not_do(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK_TWO)
        half = await p.approvals.grant(asked.id, ANA, "the deploy is the cause")
        assert (half.status, half.needed, [g.by for g in half.grants]) == ("pending", 2, ["user:ana"])
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(rollback(), ASK_TWO, asked.id)
        with pytest.raises(ApprovalError, match="consent of user:ana already"):
            await p.approvals.grant(asked.id, Subject(ANA.id, ("operator",)), "twice")
    async with parts(tmp_path) as p:  # what one person said survives a restart
        both = await p.approvals.grant(asked.id, BOB, "I looked too")
        assert (both.status, [(g.by, g.reason) for g in both.grants]) == (
            "granted",
            [("user:ana", "the deploy is the cause"), ("user:bob", "I looked too")],
        )
        await p.run(rollback(), decision=ASK_TWO, approval=asked.id)
        assert [kind for kind, _ in await kinds(p)] == ["approval", "grant", "grant", "intent", "outcome"]


async def test_one_of_two_may_still_say_no(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK_TWO)
        await p.approvals.grant(asked.id, ANA, "yes")
        assert (await p.approvals.deny(asked.id, BOB, "the sale is on")).status == "denied"
        with pytest.raises(ApprovalSpent):
            await p.ledger.intent(rollback(), ASK_TWO, asked.id)


async def test_a_policy_that_asks_for_more_persons_meanwhile_gets_them(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        assert (await p.approvals.grant(asked.id, ANA, "yes")).status == "granted"
        again = await p.approvals.settle(rollback(), ASK_TWO)
        assert (again.id, again.status, again.needed) == (asked.id, "pending", 2)
        assert (await p.approvals.grant(asked.id, BOB, "yes")).status == "granted"
        assert (await p.approvals.settle(rollback(), ASK)).status == "granted"


async def test_the_reason_stands_in_the_ledger_without_secrets(tmp_path: Path) -> None:
    async with parts(tmp_path, ("hunter2-hunter2",)) as p:
        asked = await p.approvals.settle(rollback(), ASK)
        granted = await p.approvals.grant(asked.id, ANA, "with hunter2-hunter2\nit works")
        assert granted.reason == "with [redacted] it works"
        [_, record] = (await p.ledger.search())["records"]
        assert record["body"]["reason"] == granted.reason and record["body"]["agreed"] == ["user:ana"]


CLAIMED = {
    "reason": "the deploy is the cause",
    "undo": "deploy it again",
    "evidence": [{"call": "c1", "quote": "pool of 5"}, {"call": "c1", "quote": 7}, "nonsense"],
    "approved": True,
}


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (None, {}),
        ("approved by ana", {}),
        ({"reason": 7, "grant": "a_1"}, {}),
        (CLAIMED, {**CLAIMED, "evidence": CLAIMED["evidence"][:1], "approved": None}),
        ({"reason": "x" * 20_000}, {"reason": "(left out: the claim is larger than 16384 bytes)"}),
    ],
    ids=["nothing", "text", "wrong types", "well formed", "too large"],
)
async def test_what_the_requester_claims_is_kept_as_a_claim_and_grants_nothing(
    tmp_path: Path, told, kept
) -> None:
    async with parts(tmp_path) as p:
        asked = await p.approvals.settle(replace(rollback(), meta={"pointsman/claim": told}), ASK)
        assert asked.claim == {name: value for name, value in kept.items() if value}
        assert asked.status == "pending"
