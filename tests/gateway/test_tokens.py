"""Tokens: random, kept as a hash, honoured until they expire or are revoked."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import tokens
from gateway.errors import MintRefused, UsageError
from gateway.store import Store
from gateway.tokens import Tokens, Wish, within
from gateway.types import Subject
from tests.gateway.records import parts

pytestmark = pytest.mark.anyio


async def test_a_token_says_whose_it_is_and_for_what(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        token = await p.tokens.issue(
            "agent:logs", ["specialist"], 60, ["user:ana", "agent:coordinator"], "case-1", "run-1", "task-1"
        )
        found = p.tokens.verify(token["token"])
    chain = ("user:ana", "agent:coordinator")
    assert found == Subject(
        "agent:logs", ("specialist",), chain, "case-1", "run-1", "task-1", token["hash"][:16]
    )


async def test_the_token_is_in_no_file(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        token = (await p.tokens.issue("user:ana", ["oncall"]))["token"]
        assert len(token) >= 43 + 3
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
        assert token.encode() not in kept
        assert token[3:].encode() not in kept


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "",
        lambda t: "pm_",
        lambda t: t[:-1],
        lambda t: t + "A",
        lambda t: t.swapcase(),
        lambda t: " " + t,
        lambda t: t.removeprefix("pm_"),
        lambda t: "pm_" + "A" * 43,
        lambda t: "pm_" + "\udcff" * 10,
        lambda t: "pm_" + "A" * 1_000_000,
    ],
)
async def test_a_token_that_was_not_issued_is_nobodys(tmp_path: Path, change) -> None:
    async with parts(tmp_path) as p:
        token = (await p.tokens.issue("user:ana"))["token"]
        assert p.tokens.verify(change(token)) is None


async def test_a_token_ends_when_it_expires(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        token = await p.tokens.issue("user:ana", [], 0.05)
        until = time.monotonic() + 5
        while p.tokens.verify(token["token"]) is not None:
            assert time.monotonic() < until
        assert [t["status"] for t in await p.tokens.list(all=True)] == ["expired"]
        assert await p.tokens.list() == []


async def test_a_revoked_token_ends_at_once_and_for_good(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:
        token, other = await p.tokens.issue("user:ana"), await p.tokens.issue("user:ana")
        assert (await p.tokens.revoke(token["id"]))["subject"] == "user:ana"
        assert p.tokens.verify(token["token"]) is None
        assert p.tokens.verify(other["token"]) is not None
        with pytest.raises(UsageError, match="no token 't_none'"):
            await p.tokens.revoke("t_none")
    async with parts(tmp_path) as p:
        assert p.tokens.verify(token["token"]) is None
        assert p.tokens.verify(other["token"]) is not None


@pytest.mark.parametrize(
    "subject", ["", "ana", "root:ana", "user:", "user:a b", "user:a\nb", "user:ä", "agent:" + "x" * 101]
)
async def test_a_subject_that_is_no_name_gets_no_token(tmp_path: Path, subject: str) -> None:
    async with parts(tmp_path) as p:
        with pytest.raises(UsageError, match="is not a name"):
            await p.tokens.issue(subject)


@pytest.mark.parametrize(
    "wrong", [{"roles": ["a b"]}, {"expires_seconds": -1}, {"expires_seconds": 1e12}, {"case": "a b"}]
)
async def test_nonsense_in_a_token_is_refused(tmp_path: Path, wrong: dict) -> None:
    async with parts(tmp_path) as p:
        with pytest.raises(UsageError):
            await p.tokens.issue("user:ana", **wrong)


ANA = Subject("user:ana", ("oncall",))
COORDINATOR = Subject("agent:coordinator", ("coordinator",), ("user:ana",))
IN_CASE = Subject("agent:coordinator", ("coordinator",), ("user:ana",), case="C1", run="R1")
SPECIALIST = Subject("agent:logs", ("specialist",), ("user:ana", "agent:coordinator"), "C1", "R1", "T1")


@pytest.mark.parametrize(
    ("by", "wish"),
    [
        (SPECIALIST, Wish("agent:logs", ("specialist",), 60, "C1", "R1", "T1")),
        (Subject("agent:logs", chain=("agent:coordinator",)), Wish("agent:logs")),
        (Subject("agent:logs", ("coordinator", "operator"), task="T1"), Wish("agent:x")),
        (COORDINATOR, Wish("user:ana", ("oncall",), 60)),
        (IN_CASE, Wish("agent:logs", ("specialist",), 60, "C2")),
        (IN_CASE, Wish("agent:logs", ("specialist",), 60, "C1", "R2")),
    ],
)
def test_some_tokens_are_issued_by_nobody_whatever_policy_says(by: Subject, wish: Wish) -> None:
    with pytest.raises(MintRefused):
        within(by, wish)


def test_a_token_is_fixed_like_its_issuers_and_does_not_outlive_it() -> None:
    given = within(IN_CASE, Wish("agent:logs", ("specialist",), task="T1"))
    assert given == Wish("agent:logs", ("specialist",), 900, "C1", "R1", "T1")
    assert within(COORDINATOR, Wish("agent:logs", (), 1e9)).expires_seconds == 3600
    soon = replace(COORDINATOR, expires=time.time() + 30)
    for asked in (None, 10_000):
        assert 20 < (within(soon, Wish("agent:logs", (), asked)).expires_seconds or 0) <= 30
    assert within(replace(ANA, expires=time.time() - 5), Wish("agent:coordinator")).expires_seconds == 0.001
    assert within(ANA, Wish("agent:coordinator", (), 43_200)).expires_seconds == 43_200
    assert within(ANA, Wish("agent:coordinator")).expires_seconds is None


async def test_what_was_issued_under_a_token_ends_with_it(tmp_path: Path) -> None:
    async with parts(tmp_path) as p:

        async def under(token: dict, subject: str) -> dict:
            who = p.tokens.verify(token["token"])
            assert who is not None
            return await p.tokens.issue(subject, [], 60, chain=(*who.chain, who.id), under=who.token)

        person = await p.tokens.issue("user:ana")
        coordinator = await under(person, "agent:coordinator")
        specialist = await under(coordinator, "agent:logs")
        other = await under(await p.tokens.issue("user:ana"), "agent:coordinator")
        gone = await p.tokens.revoke(person["id"])
        assert sorted(gone["with"]) == sorted([coordinator["id"], specialist["id"]])
        assert [p.tokens.verify(t["token"]) for t in (person, coordinator, specialist)] == [None] * 3
        assert p.tokens.verify(other["token"]) is not None
    async with parts(tmp_path) as p:
        assert p.tokens.verify(specialist["token"]) is None


async def test_tokens_that_have_expired_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with parts(tmp_path) as p:
        p.tokens._look_again = 5
        for _ in range(5):
            await p.tokens.issue("agent:logs", [], 0.001)
        await asyncio.sleep(0.002)
        live = await p.tokens.issue("agent:logs", [], 60)
        assert len(p.tokens._known) == 1
        assert len(await p.tokens.list(all=True)) == 6
        monkeypatch.setattr(tokens, "KEPT_SECONDS", 0)
        await p.tokens.issue("agent:logs", [], 60)
        assert [t["status"] for t in await p.tokens.list(all=True)] == ["valid", "valid"]
        assert p.tokens.verify(live["token"]) is not None


async def test_a_token_that_another_process_issued_just_now_is_looked_up(postgres_url: str) -> None:
    async with Store(postgres_url) as one, Store(postgres_url) as other:
        here, there = await Tokens(one).prepare(), await Tokens(other).prepare()
        other._topics.clear()  # it is told nothing
        token = await here.issue("agent:logs", ["specialist"], 60, ["user:ana", "agent:coordinator"], "C1")
        assert there.verify(token["token"]) is None
        assert await there.look(token["token"]) == here.verify(token["token"])
        assert there.verify(token["token"]) is not None
        revoked = await here.issue("user:ana")
        await here.revoke(revoked["id"])
        brief = await here.issue("user:ana", [], 0.001)
        await asyncio.sleep(0.002)
        for bad in (revoked["token"], brief["token"], token["token"] + "x", "pm_", "", "pm_" + "x" * 500):
            assert await there.look(bad) is None
