"""Logging in with the official client, what a stranger is told, and what a specialist's token cannot do."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

from gateway import front, throttle
from gateway.app import App
from tests.fakes.authorization_server import CLIENTS, Issuer
from tests.gateway import world
from tests.gateway.world import ROOT, FakeServer, app_with, fake_server

pytestmark = pytest.mark.anyio
SHIPPED = (ROOT / "gateway" / "defaults" / "policy" / "default.cedar").read_text()


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with fake_server(tmp_path_factory.mktemp("fake")) as running:
        yield running


@asynccontextmanager
async def serving(application: Any, sock: socket.socket, lifespan: Any = "off") -> AsyncIterator[None]:
    """An ASGI application behind a real socket, in this process."""
    config = uvicorn.Config(application, log_level="error", ws="none", lifespan=lifespan, log_config=None)
    server = uvicorn.Server(config)
    server.capture_signals = lambda: _nothing()  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield
    finally:
        server.should_exit = True
        await running


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def bound() -> tuple[socket.socket, str]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


@asynccontextmanager
async def gateway(directory: Path, fake: FakeServer, **settings: Any) -> AsyncIterator[tuple[App, str]]:
    """A gateway on a real socket under the shipped policy, and its address."""
    sock, url = bound()
    shipped = {"policy": SHIPPED, **settings}
    async with app_with(directory, {"fake": fake.entry(pin="trust")}, **shipped) as app:
        app.identity.listens("127.0.0.1", sock.getsockname()[1])
        async with serving(app.front, sock):
            yield app, url


@asynccontextmanager
async def issuer() -> AsyncIterator[Issuer]:
    sock, url = bound()
    made = Issuer(url)
    async with serving(made.app(), sock):
        yield made


def trusting(made: Issuer, **more: Any) -> dict[str, Any]:
    return {"jwt_issuer": made.url, "jwt_jwks": f"{made.url}/jwks", **more}


async def post(url: str, token: str | None, name: str = "fake__read", **arguments: Any) -> httpx2.Response:
    """One tools/call of the 2026-07-28 protocol."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
        **({"authorization": f"Bearer {token}"} if token is not None else {}),
    }
    async with httpx2.AsyncClient(timeout=30) as http:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return await http.post(f"{url}/mcp", json=message, headers=headers)


class Memory:
    """Where a client keeps what it was given."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


@asynccontextmanager
async def logged_in(url: str, auth: httpx2.Auth) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), cache=None) as client,
    ):
        yield client


async def test_official_clients_log_in_by_what_the_gateway_tells_them(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with (
        issuer() as made,
        gateway(tmp_path, fake, **trusting(made, jwt_scopes="mcp")) as (app, url),
    ):
        robot = ClientCredentialsOAuthProvider(
            f"{url}/mcp", Memory(), "robot", CLIENTS["robot"], issuer=made.url
        )
        async with logged_in(url, robot) as client:
            result = await client.call_tool("fake__read", {"text": "hi"})
            assert not result.is_error, result
        assert made.issued[-1]["resource"] == f"{url}/mcp" and made.issued[-1]["scope"] == "mcp"

        answer: dict[str, str] = {}

        async def at_the_browser(address: str) -> None:
            async with httpx2.AsyncClient() as http:
                back = (await http.get(address)).headers["location"]
            answer.update({name: values[0] for name, values in parse_qs(urlsplit(back).query).items()})

        async def code() -> AuthorizationCodeResult:
            return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

        about = OAuthClientMetadata(
            redirect_uris=["http://127.0.0.1:9/back"], client_name="t", token_endpoint_auth_method="none"
        )
        person = OAuthClientProvider(f"{url}/mcp", about, Memory(), at_the_browser, code)
        async with logged_in(url, person) as client:
            assert not (await client.call_tool("fake__read", {"text": "hi"})).is_error
        found = (await app.ledger.search(kind="outcome", tool="fake__read"))["records"]
        assert [(r["subject"], r["roles"]) for r in found] == [
            ("agent:robot", ["specialist"]),
            ("user:ana", ["oncall"]),
        ]
        assert len({r["token"] for r in found}) == 2 and all(
            re.fullmatch("[0-9a-f]{16}", r["token"]) for r in found
        )
        meant = made.sign({"sub": "ana", "aud": f"{url}/mcp", "roles": ["oncall"]})
        lacking = await post(url, meant)
        assert lacking.status_code == 403
        told = lacking.headers["www-authenticate"]
        assert 'error="insufficient_scope"' in told and 'scope="mcp"' in told
        elsewhere = made.sign({"sub": "ana", "aud": "http://127.0.0.1:1/mcp", "scope": "mcp"})
        assert (await post(url, elsewhere)).status_code == 401


async def test_a_stranger_is_told_where_to_get_a_token_before_the_body_is_read(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with gateway(tmp_path, fake, url="https://gw.example.com/", jwt_scopes="mcp") as (_, url):
        known = "https://gw.example.com/.well-known/oauth-protected-resource"
        none = await post(url, None)
        assert none.status_code == 401
        asked = f'Bearer realm="pointsman", resource_metadata="{known}/mcp", scope="mcp"'
        assert none.headers["www-authenticate"] == asked
        async with httpx2.AsyncClient() as http:
            for path, place in (("/servers/a.b/mcp", "/servers/a.b/mcp"), ('/x"y', ""), ("/", "")):
                answer = await http.post(
                    url + path, content=b"not JSON", headers={"authorization": "Bearer x"}
                )
                assert answer.status_code == 401
                told = answer.headers["www-authenticate"]
                assert f'resource_metadata="{known}{place}"' in told and 'error="invalid_token"' in told
            for path in ("", "/mcp", "/servers/nobody/mcp"):
                answer = await http.get(f"{url}/.well-known/oauth-protected-resource{path}")
                assert answer.json() == {
                    "resource": f"https://gw.example.com{path}",
                    "resource_name": "Pointsman gateway",
                    "bearer_methods_supported": ["header"],
                    "scopes_supported": ["mcp"],
                }
            for path in ("/mcp/x", "x", "/servers/a/b/mcp", "/healthz"):
                answer = await http.get(f"{url}/.well-known/oauth-protected-resource{path}")
                assert answer.status_code == 404
            strange = {"host": "evil.example"}
            answer = await http.get(f"{url}/.well-known/oauth-protected-resource", headers=strange)
            assert answer.status_code == 421


async def test_many_wrong_tokens_are_told_to_wait_and_good_ones_never(
    tmp_path: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "FIRST_SECONDS", 0)
    monkeypatch.setattr(throttle, "REFILL_SECONDS", 600)
    async with issuer() as made, gateway(tmp_path, fake, **trusting(made)) as (app, url):
        good = (await app.tokens.issue("agent:logs", ["specialist"], 600))["token"]
        bad = ["pm_" + "x" * 43, made.sign({"sub": "x", "aud": "else"}), "nonsense"]
        answers = [await post(url, bad[n % 3]) for n in range(40)]
        codes = [answer.status_code for answer in answers]
        assert codes == [401] * 20 + [429] * 20
        assert 60 <= int(answers[-1].headers["retry-after"]) <= 600
        assert (await post(url, good)).status_code == 200
        fresh = made.sign({"sub": "ana", "aud": url, "roles": ["oncall"]})  # seen for the first time just now
        assert (await post(url, fresh)).status_code == 200
        assert (await post(url, None)).status_code == 401  # who has no token yet is told where to get one
        await app.front._throttle.close()
        told = (await app.ledger.search(kind="token"))["records"]
        assert [r["status"] for r in told] == ["refused"] * len(told) and 1 <= len(told) <= 2
        assert sum(r["body"]["tries"] for r in told) == 40 and set(told[0]["body"]["from"]) == {"127.0.0.1"}


async def test_a_million_addresses_take_no_more_room_than_ten_thousand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttle, "REMEMBERED", 100)
    told: list[Any] = []

    async def report(what: Any) -> None:
        told.append(what)

    counts = throttle.Throttle(report)
    for n in range(5_000):
        assert counts.bad(f"10.0.{n // 250}.{n % 250}") == 0
    assert len(counts._left) == 100
    assert sum(counts.bad(f"2001:db8::{n:x}") > 0 for n in range(100)) == 80  # one network, one bucket
    assert counts.bad("not an address") == 0
    await counts.close()
    assert told[0]["tries"] == 5_101 and len(told[0]["from"]) == throttle.NAMED


async def test_a_specialists_token_serves_its_task_and_nothing_else(tmp_path: Path, fake: FakeServer) -> None:
    async with gateway(tmp_path, fake) as (app, url):
        ana = (await app.tokens.issue("user:ana", ["oncall"], 600))["token"]

        async def ask(token: str, name: str, **arguments: Any) -> dict[str, Any]:
            return (await post(url, token, name, **arguments)).json()["result"]

        async def issue(by: str, subject: str, *roles: str, **fixed: Any) -> str:
            wanted = {"subject": subject, "roles": list(roles), **fixed}
            return (await ask(by, "gateway__issue_token", **wanted))["structuredContent"]["token"]

        coordinator = await issue(ana, "agent:coordinator", "coordinator", expires_seconds=300)
        mine = {"case": "C1", "run": "C1", "task": "logs-1"}
        token = await issue(coordinator, "agent:remediation", "specialist", **mine)
        assert not (await ask(token, "fake__read", text="hi")).get("isError")
        record = (await app.ledger.search(kind="outcome", tool="fake__read"))["records"][0]
        assert record["chain"] == ["user:ana", "agent:coordinator"]
        assert (record["case"], record["run"], record["task"]) == ("C1", "C1", "logs-1")

        attacks = [
            ("gateway__issue_token", {"subject": "agent:remediation", "roles": ["specialist"], "case": "C2"}),
            ("gateway__issue_token", {"subject": "agent:coordinator", "roles": ["coordinator"]}),
            ("gateway__issue_token", {"subject": "user:ana", "roles": ["oncall", "operator"]}),
            ("gateway__record_step", {"kind": "finding", "case": "C2", "body": {}}),
            ("gateway__revoke_token", {"id": "t_000000000000"}),
            ("gateway__search_ledger", {"case": "C2"}),
            ("gateway__list_tokens", {}),
        ]
        for name, arguments in attacks:
            result = await ask(token, name, **arguments)
            assert result["isError"] and result["content"][0]["text"].startswith("denied:"), (name, result)
        for claim in (
            {"case": "C2"},
            {"pointsman/case": "C2"},
        ):  # what a caller says of itself counts nothing
            await ask(token, "fake__read", text=json.dumps(claim))
        cases = {r.get("case") for r in (await app.ledger.search(subject="agent:remediation"))["records"]}
        assert cases == {"C1"}

        # The coordinator's own token gives specialists' tokens only, and only within its reach.
        for subject, roles in (
            ("user:ana", ["oncall"]),
            ("agent:x", ["operator"]),
            ("agent:x", ["coordinator"]),
        ):
            result = await ask(coordinator, "gateway__issue_token", subject=subject, roles=roles)
            assert result["isError"], (subject, roles)
        listed = {t["subject"]: t for t in await app.tokens.list()}
        assert listed["agent:remediation"]["expires"] <= listed["agent:coordinator"]["expires"]

        # Nor is its own request approved by it, or by who sent it in a person's name.
        asked = await ask(coordinator, "gateway__grant_approval", id="a_000000000000", reason="it is fine")
        assert asked["isError"] and asked["content"][0]["text"].startswith("denied:")

        kept = b"".join(path.read_bytes() for path in (tmp_path / "home").iterdir() if path.is_file())
        for secret in (ana, coordinator, token):
            assert secret.encode() not in kept and secret[3:].encode() not in kept


OPEN = """
@id("gateway") permit (principal, action in Action::"call", resource in Server::"gateway");
@id("ask") permit (principal, action in Action::"request", resource) unless { resource in Server::"gateway" };
@id("agree") permit (principal, action in Action::"approve", resource);
"""


async def test_no_policy_lets_an_agent_issue_for_itself_or_agree_with_itself(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with gateway(tmp_path, fake, policy=OPEN) as (app, url):

        async def ask(token: str, name: str, **arguments: Any) -> str:
            result = (await post(url, token, name, **arguments)).json()["result"]
            assert result["isError"], result
            return result["content"][0]["text"]

        chain = ["user:ana", "agent:coordinator"]
        held = (await app.tokens.issue("agent:logs", ["operator"], 600, chain, "C1", "C1", "t"))["token"]
        for subject in ("agent:logs", "agent:metrics", "user:ana"):
            assert (await ask(held, "gateway__issue_token", subject=subject)).startswith("mint_refused:")
        assert len(await app.tokens.list()) == 1

        asked = await ask(held, "fake__write", text="hi")
        assert asked.startswith("approval_pending:")
        approval = re.search(r"a_[0-9a-f]+", asked)
        assert approval is not None
        sent = (await app.tokens.issue("agent:coordinator", ["operator"], 600, ["user:ana"]))["token"]
        for token in (held, sent):
            said = await ask(token, "gateway__grant_approval", id=approval[0], reason="it is fine")
            assert said.startswith("approval_refused:"), said
        assert (await ask(held, "fake__write", text="hi")).startswith("approval_pending:")


async def test_an_open_stream_ends_with_its_token(
    tmp_path: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "PING_SECONDS", 0.05)
    async with gateway(tmp_path, fake) as (app, url), httpx2.AsyncClient(timeout=30) as http:
        held = await app.tokens.issue("user:ana", ["oncall"], 600)
        headers = {
            "authorization": f"Bearer {held['token']}",
            "accept": "application/json, text/event-stream",
        }
        about = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}
        opened = await http.post(f"{url}/mcp", json=hello, headers=headers)
        headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        async with http.stream("GET", f"{url}/mcp", headers=headers) as stream, asyncio.timeout(20):
            pieces = stream.aiter_text()
            assert await anext(pieces)
            await app.tokens.revoke(held["id"])
            async for _ in pieces:
                pass
        assert (await http.get(f"{url}/mcp", headers=headers)).status_code == 401


async def test_a_gateway_in_a_process_of_its_own_takes_jwts_by_its_settings(
    tmp_path: Path, fake: FakeServer
) -> None:
    async with issuer() as made:
        keys = f'jwt_issuer = "{made.url}"\njwt_jwks = "{made.url}/jwks"\n'
        (tmp_path / "pointsman.toml").write_text(f"[gateway]\n{keys}")
        started = partial(world.gateway, tmp_path, {"fake": fake.entry(pin="trust")})
        async with in_thread(started) as running:
            audience = f"{running.url.replace('127.0.0.1', 'localhost')}/mcp"  # loopback has several names
            claims = {"sub": "ana", "aud": audience, "roles": ["specialist"], "act": {"sub": "logs"}}
            first = made.sign(claims)
            assert (await post(running.url, first)).status_code == 200
            assert (await post(running.url, made.sign({**claims, "aud": "else"}))).status_code == 401
            told = await asyncio.to_thread(
                world.pointsman, running, "audit", "search", "--kind", "intent", "--json"
            )
            record = json.loads(told.stdout)["records"][0]
            assert (record["subject"], record["chain"]) == ("agent:logs", ["user:ana"])


@asynccontextmanager
async def in_thread(manager: Any) -> AsyncIterator[Any]:
    """A context manager that blocks, entered and left beside the loop."""
    entered = manager()
    value = await asyncio.to_thread(entered.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(entered.__exit__, None, None, None)
