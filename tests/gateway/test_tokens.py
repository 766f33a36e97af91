"""Tokens: random, kept as a hash, honoured until they expire or are revoked."""

import time
from pathlib import Path

import pytest

from gateway.errors import UsageError
from gateway.types import Subject
from tests.gateway.records import parts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
