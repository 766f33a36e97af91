"""What a tool server is shown: an OAuth client's token, a person's, a fixed header; nothing of a caller's."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from gateway import credentials
from gateway.errors import ServersFileError, UpstreamFailed, UsageError
from gateway.http_client import Pool
from gateway.redaction import Redactor
from gateway.servers_file import load
from gateway.types import Subject
from tests.fakes.authorization_server import CLIENTS, Issuer
from tests.fakes.mcp_server import Fake
from tests.gateway.test_identity import bound, issuer, post, serving
from tests.gateway.world import app_with, call, code, words

pytestmark = pytest.mark.anyio
ANA = Subject("user:ana", ("specialist",))
FOR_ANA = Subject("agent:logs", ("specialist",), ("user:ana", "agent:coordinator"))
FOR_BOB = Subject("agent:logs", ("specialist",), ("user:bob", "agent:coordinator"))
FOR_EVE = Subject("agent:logs", ("specialist",), ("user:eve", "agent:coordinator"))
FOR_NOBODY = Subject("agent:logs", ("specialist",))


class Guarded:
    """A tool server that keeps the Authorization header of each call and takes those it is told to take."""

    def __init__(self, directory: Path, take: Any = lambda header: True) -> None:
        directory.mkdir()
        self.seen: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.take = take
        self._app: ASGIApp = Fake(directory).server().streamable_http_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.headers.append(headers)
        self.seen.append(headers.get("authorization", ""))
        if not self.take(self.seen[-1]):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


def grant(made: Issuer, **more: str) -> dict[str, str]:
    way = {"token_url": f"{made.url}/token", "client_id": "robot", "client_secret": "${env:ROBOT_SECRET}"}
    return {**way, **more}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("ROBOT_SECRET", CLIENTS["robot"])
    yield CLIENTS["robot"]


def everything_kept(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def test_an_oauth_client_logs_in_once_and_anew_when_its_token_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    guarded = Guarded(tmp_path / "fake", lambda header: header.startswith("Bearer eyJ"))
    sock, url = bound()
    async with issuer() as made, serving(guarded, sock, lifespan="on"):
        entry = {
            "url": f"{url}/mcp",
            "pointsman": {"pin": "trust", "credentials": grant(made, scope="tools")},
        }
        async with app_with(tmp_path, {"fake": entry}) as app:
            assert app.catalogue.servers["fake"].state == "ready", app.catalogue.servers["fake"].error
            results = [await call(app, FOR_ANA, "fake__whoami") for _ in range(3)]
            assert len(made.issued) == 1
            asked = made.issued[0]
            assert asked["scope"] == "tools" and asked["resource"] == f"{url}/mcp"
            token = guarded.seen[-1].removeprefix("Bearer ")
            assert len(token) > 100 and token not in json.dumps(results)

            live = app.catalogue.servers["fake"].upstream._credential  # type: ignore[union-attr]
            live._until = 0.0  # its end has come
            await asyncio.gather(*(call(app, FOR_ANA, "fake__read") for _ in range(10)))
            assert len(made.issued) == 2 and guarded.seen[-1] != f"Bearer {token}"

            monkeypatch.setattr(credentials, "APART_SECONDS", 0)
            stale = guarded.seen[-1]
            guarded.take = lambda header: header.startswith("Bearer eyJ") and header != stale
            made.lives = 1234
            assert not (await call(app, FOR_ANA, "fake__read")).get(
                "isError"
            )  # a refused token is asked for anew
            assert len(made.issued) == 3

            made.down = True
            live._until = 0.0
            failed = await call(app, FOR_ANA, "fake__read")
            assert code(failed) == "upstream_unavailable"
            assert "auth: no token from" in words(failed) and "HTTP 503" in words(failed)
            outcome = (await app.ledger.search(kind="outcome", newest=True, limit=1))["records"][0]
            assert outcome["status"] == "error"
    kept = everything_kept(tmp_path) + caplog.text.encode() + words(failed).encode()
    for hidden in (secret, token, stale.removeprefix("Bearer "), asked["authorization"].partition(" ")[2]):
        assert hidden.encode() not in kept, hidden


async def test_a_server_that_cannot_be_logged_in_to_is_named_with_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOT_SECRET", "a wrong one")
    guarded = Guarded(tmp_path / "fake")
    sock, url = bound()
    async with issuer() as made, serving(guarded, sock, lifespan="on"):
        entry = {"url": f"{url}/mcp", "pointsman": {"pin": "trust", "credentials": grant(made)}}
        async with app_with(tmp_path, {"fake": entry}) as app:
            server = app.catalogue.servers["fake"]
            assert (server.state, server.stage) == ("failed", "auth")
            assert "HTTP 401 (invalid_client)" in server.error and "a wrong one" not in server.error
    assert guarded.seen == []


async def test_each_person_has_an_own_token_and_who_has_none_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    people = tmp_path.parent / f"{tmp_path.name}-people"
    people.mkdir()
    for name in ("ana", "bob"):
        (people / name).write_text(f"token-of-{name}-0123456789\n")
    guarded = Guarded(tmp_path / "fake")
    sock, url = bound()
    ours = {"pin": "trust", "credentials": {"user_tokens": str(people)}}
    entry = {
        "url": f"{url}/mcp",
        "headers": {"Authorization": "Bearer the-lists-own-token"},
        "pointsman": ours,
    }
    async with serving(guarded, sock, lifespan="on"), app_with(tmp_path, {"fake": entry}) as app:
        assert set(guarded.seen) == {"Bearer the-lists-own-token"}
        told = []
        for who, name in ((ANA, "ana"), (FOR_ANA, "ana"), (FOR_BOB, "bob")):
            told.append(await call(app, who, "fake__whoami"))
            assert guarded.seen[-1] == f"Bearer token-of-{name}-0123456789"
        calls = len(guarded.seen)
        for who in (FOR_EVE, FOR_NOBODY, Subject("user:..", ("specialist",))):
            refused = await call(app, who, "fake__read")
            assert code(refused) == "credential_missing", refused
            assert "has no token for fake" in words(refused)
        assert len(guarded.seen) == calls
        assert app.catalogue.servers["fake"].state == "ready"  # for everybody else it is as before
        (people / "eve").write_text("token-of-eve-0123456789")
        app.catalogue.servers["fake"].upstream._credential._known.clear()  # type: ignore[union-attr]
        assert not (await call(app, FOR_EVE, "fake__read")).get("isError")
        assert guarded.seen[-1] == "Bearer token-of-eve-0123456789"
    kept = everything_kept(tmp_path / "home") + caplog.text.encode() + json.dumps(told).encode()
    for name in ("ana", "bob", "eve"):
        assert f"token-of-{name}".encode() not in kept
    assert b"the-lists-own-token" not in kept


async def test_what_a_caller_showed_goes_to_no_server(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path / "fake")
    sock, url = bound()
    front_sock, front = bound()
    entry = {
        "url": f"{url}/mcp",
        "headers": {"X-Api-Key": "${env:ROBOT_SECRET}"},
        "pointsman": {"pin": "trust"},
    }
    async with issuer() as made, serving(guarded, sock, lifespan="on"):
        trusted = {"jwt_issuer": made.url, "jwt_jwks": f"{made.url}/jwks", "jwt_audience": "us"}
        async with app_with(tmp_path, {"fake": entry}, **trusted) as app, serving(app.front, front_sock):
            own = (await app.tokens.issue("agent:logs", ["specialist"], 600))["token"]
            foreign = made.sign({"sub": "agent:logs", "aud": "us", "roles": ["specialist"]})
            for token in (own, foreign):
                answer = await post(front, token, "fake__whoami")
                assert answer.status_code == 200 and not answer.json()["result"]["isError"], answer.text
                sent = json.dumps(guarded.headers[-1])
                assert token not in sent and "authorization" not in guarded.headers[-1]
                assert guarded.headers[-1]["x-api-key"] == CLIENTS["robot"]
                assert CLIENTS["robot"] not in answer.text and token not in answer.text
    assert own.encode() not in everything_kept(tmp_path) and foreign.encode() not in everything_kept(tmp_path)


@pytest.mark.parametrize(
    ("told", "words_of_it"),
    [
        ({"client_secret": "written out"}, "written out"),
        ({"token_url": None}, "name no way"),
        ({"user_tokens": "/somewhere"}, "name no way"),
        ({"client_id": 5}, "not an object of strings"),
    ],
)
def test_credentials_that_cannot_be_meant_are_refused_at_load(
    tmp_path: Path, told: Any, words_of_it: str
) -> None:
    way = {"token_url": "https://x/token", "client_id": "a", "client_secret": "${env:S}", **told}
    way = {name: value for name, value in way.items() if value is not None}
    path = tmp_path / "mcp.json"
    path.write_text(
        json.dumps({"mcpServers": {"x": {"url": "https://x", "pointsman": {"credentials": way}}}})
    )
    with pytest.raises(ServersFileError, match=words_of_it):
        load(path)
    entry = {"command": "x", "pointsman": {"credentials": {"user_tokens": "/x"}}}
    path.write_text(json.dumps({"mcpServers": {"x": entry}}))
    with pytest.raises(ServersFileError, match="goes into its env"):
        load(path)


async def answers(body: bytes, status: bytes = b"200 OK") -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            b"401 No",
            b'{"error":"invalid_client","error_description":"secret was s3cr3t-s3cr3t"}',
            "invalid_client",
        ),
        (b"400 No", b'{"error":"<script>"}', "HTTP 400;"),
        (b"307 Go", b"", "HTTP 307"),
        (b"200 OK", b'{"access_token":"x","access_token":"y","token_type":"bearer"}', "no access_token"),
        (b"200 OK", b'{"access_token":"a b\\r\\nX: y","token_type":"bearer"}', "no access_token"),
        (b"200 OK", b'{"access_token":"abc","token_type":"mac"}', "no bearer token"),
        (b"200 OK", b"[" * 50_000, "no access_token"),
        (b"200 OK", b'"' + b"x" * 70_000 + b'"', "more than"),
        (b"200 OK", b"<html>", "no access_token"),
    ],
)
async def test_a_token_endpoint_that_answers_badly_is_named_and_asked_again_later(
    status: bytes, body: bytes, said: str
) -> None:
    async with Pool(2) as pool:
        async for url in answers(body, status):
            grant = credentials.Grant(url, "me", "s3cr3t-s3cr3t")
            client = credentials.ClientToken(grant, pool, Redactor())
            for _ in range(2):
                with pytest.raises(UpstreamFailed) as failed:
                    await client.headers(ANA)
                assert failed.value.stage == "auth" and said in str(failed.value)
                assert "s3cr3t" not in str(failed.value) and "s3cr3t" not in repr(grant)
        with pytest.raises(UsageError, match="https"):
            credentials.ClientToken(credentials.Grant("http://example.com/t", "a", "b"), pool, Redactor())


async def test_the_tokens_of_many_people_are_not_all_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "PEOPLE", 5)
    redactor = Redactor()
    held = credentials.PersonsTokens("fake", str(tmp_path), redactor)
    for n in range(20):
        (tmp_path / f"p{n}").write_text(f"secret-number-{n:03}")
        await held.headers(Subject(f"user:p{n}"))
    assert len(held._known) == 5 and len(redactor._values) == 5
    assert redactor.text("secret-number-019") == "[redacted]"
    (tmp_path / "p19").write_text("secret-number-new")
    held.refused({"Authorization": "Bearer secret-number-019"})
    assert await held.headers(Subject("user:p19")) == {"Authorization": "Bearer secret-number-new"}
    assert redactor.text("secret-number-019 secret-number-new") == "secret-number-019 [redacted]"
    os.remove(tmp_path / "p19")
    held.refused({"Authorization": "Bearer secret-number-new"})
    with pytest.raises(UpstreamFailed, match="has no token"):
        await held.headers(Subject("user:p19"))
