"""JWTs: what gets in, what does not, keys that change, claims that become a subject."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway import jwks
from gateway.errors import NotIdentified, UsageError
from gateway.http_client import Pool
from gateway.jwks import KeySet
from gateway.jwts import JwtRules, Jwts, subject_of

pytestmark = pytest.mark.anyio
ISSUER, US = "https://issuer.example.com/", "https://gateway.example.com"
RULES = JwtRules(ISSUER, "", (US,))
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


def public(algorithm: str, key: Any = None, **more: Any) -> dict[str, Any]:
    """A JWK of the public half."""
    made = jwt.get_algorithm_by_name(algorithm).to_jwk((key or KEYS[algorithm]).public_key(), as_dict=True)
    return {**made, "kid": algorithm, **more}


def token(algorithm: str = "ES256", key: Any = None, header: Any = None, **claims: Any) -> str:
    """A token that is right but for what is given; a claim of None is left out."""
    whole = {"iss": ISSUER, "aud": US, "sub": "ana", "exp": time.time() + 60, "roles": ["oncall"], **claims}
    whole = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(whole, key or KEYS[algorithm], algorithm, {"kid": algorithm, **(header or {})})


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public(name) for name in KEYS]}))
    return path


@pytest.fixture
async def jwts(key_file: Path) -> AsyncIterator[Jwts]:
    async with Pool(2) as pool:
        made = Jwts(RULES, KeySet(str(key_file), pool))
        yield made
        await made.keys.close()


async def refused(jwts: Jwts, bearer: str, path: str = "/mcp") -> NotIdentified:
    with pytest.raises(NotIdentified) as caught:
        await jwts.verify(bearer, path)
    assert jwts.known(bearer, path) is None
    return caught.value


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_good_token_says_who_calls_and_is_known_from_then_on(jwts: Jwts, algorithm: str) -> None:
    good = token(algorithm)
    assert jwts.known(good, "/mcp") is None
    subject = await jwts.verify(good, "/mcp")
    assert (subject.id, subject.roles, subject.chain) == ("user:ana", ("oncall",), ())
    assert subject.token == hashlib.sha256(good.encode()).hexdigest()[:16]
    assert jwts.known(good, "/mcp") is subject


PEM = EC.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def hmac_with_the_public_key(payload: dict[str, Any], kid: str = "ES256") -> str:
    """The classic confusion: the public key, which everybody has, taken for a shared secret."""
    head = encoded({"alg": "HS256", "typ": "JWT", "kid": kid})
    signed = f"{head}.{encoded(payload)}"
    return f"{signed}.{encoded(hmac.new(PEM, signed.encode(), 'sha256').digest())}"


GOOD = {"iss": ISSUER, "aud": US, "sub": "ana", "exp": time.time() + 3600, "roles": ["operator"]}
STRANGER = ec.generate_private_key(ec.SECP256R1())
OWN_KEY = public("ES256", STRANGER)


@pytest.mark.parametrize(
    "bad",
    {
        "alg none": lambda: f"{encoded({'alg': 'none', 'kid': 'ES256'})}.{encoded(GOOD)}.",
        "alg None": lambda: f"{encoded({'alg': 'None', 'kid': 'ES256'})}.{encoded(GOOD)}.",
        "no alg": lambda: f"{encoded({'kid': 'ES256'})}.{encoded(GOOD)}.AAAA",
        "HS256 with the public key": lambda: hmac_with_the_public_key(GOOD),
        "HS256 with an empty key": lambda: jwt.encode(GOOD, "x" * 32, "HS256", {"kid": "ES256"}),
        "a key of another algorithm": lambda: token("RS256", header={"kid": "ES256"}),
        "a foreign key": lambda: token(key=STRANGER),
        "jwk in the header": lambda: token(key=STRANGER, header={"jwk": OWN_KEY}),
        "jku in the header": lambda: token(key=STRANGER, header={"jku": "https://evil.example/jwks"}),
        "x5u in the header": lambda: token(key=STRANGER, header={"x5u": "https://evil.example/x.pem"}),
        "an unknown kid": lambda: token(header={"kid": "nobody"}),
        "a kid that is a path": lambda: token(header={"kid": "../../../../dev/null"}),
        "a kid of another type": lambda: f"{encoded({'alg': 'ES256', 'kid': {'a': 1}})}.{encoded(GOOD)}.AAAA",
        "crit": lambda: token(header={"crit": ["exp"], "exp": 1}),
        "another type": lambda: token(header={"typ": "logout+jwt"}),
        "another issuer": lambda: token(iss="https://issuer.example.com"),
        "no issuer": lambda: token(iss=None),
        "another audience": lambda: token(aud="https://other.example.com"),
        "an audience that begins alike": lambda: token(aud="https://gateway.example.com.evil.example"),
        "no audience": lambda: token(aud=None),
        "an audience that is a number": lambda: raw({**GOOD, "aud": [5]}),
        "expired": lambda: token(exp=time.time() - 1),
        "no expiry": lambda: token(exp=None),
        "an endless expiry": lambda: raw({**GOOD, "exp": float("inf")}),
        "an expiry past all numbers": lambda: raw({**GOOD, "exp": 10**400}),
        "an expiry in words": lambda: raw({**GOOD, "exp": "9999999999"}),
        "not yet": lambda: token(nbf=time.time() + 60),
        "issued tomorrow": lambda: token(iat=time.time() + 86_400),
        "no subject": lambda: token(sub=None),
        "a subject that is a list": lambda: raw({**GOOD, "sub": ["user:operator"]}),
        "the operator without the role": lambda: token(sub="operator"),
        "an actor without a name": lambda: token(act={"client": "x"}),
        "twenty actors": lambda: token(act=nested(20)),
        "a changed payload": lambda: changed(token()),
        "no signature": lambda: token().rpartition(".")[0] + ".",
        "half": lambda: token().partition(".")[0],
        "dots": lambda: "..",
        "empty": lambda: "",
        "deep": lambda: f"{encoded(b'[' * 10_000)}.{encoded(GOOD)}.AAAA",
        "long": lambda: token(more="x" * 20_000),
        "no text": lambda: "\udcff\x00.é.é",
    }.items(),
    ids=lambda pair: pair[0],
)
async def test_a_token_that_is_wrong_in_one_way_is_nobodys(jwts: Jwts, bad: Any) -> None:
    assert (await refused(jwts, bad[1]())).status == 401


def raw(payload: Any) -> str:
    """A well-signed token around any payload."""
    return jwt.api_jws.encode(json.dumps(payload).encode(), EC, "ES256", {"kid": "ES256"})


def nested(depth: int) -> dict[str, Any]:
    return {"sub": "x", "act": nested(depth - 1)} if depth else {"sub": "x"}


def changed(good: str) -> str:
    head, _, signature = good.split(".")
    return f"{head}.{encoded({**GOOD, 'roles': ['operator']})}.{signature}"


async def test_symmetric_weak_and_private_keys_of_a_set_are_no_keys(tmp_path: Path) -> None:
    small = rsa.generate_private_key(65537, 1024)
    secret = {"kty": "oct", "k": encoded(b"k" * 32), "kid": "shared", "alg": "HS256"}
    odd = [
        secret,
        public("RS256", small, kid="small"),
        public("ES256", kid="hidden", use="enc"),
        public("RS256", kid="other", alg="RS512"),
        {"kty": "RSA"},
        "no key",
        None,
    ]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"keys": [*odd, public("EdDSA")]}))
    async with Pool(2) as pool:
        made = Jwts(RULES, KeySet(str(path), pool))
        await made.verify(token("EdDSA"), "/mcp")
        for bad in (
            jwt.encode(GOOD, b"k" * 32, "HS256", {"kid": "shared"}),
            token("ES256", header={"kid": "hidden"}),
            jwt.encode(GOOD, RSA, "RS512", {"kid": "other"}),
        ):
            await refused(made, bad)
        with pytest.warns(Warning, match="1024"):
            weak = jwt.encode(GOOD, small, "RS256", {"kid": "small"})
        await refused(made, weak)
        await made.keys.close()
        path.write_text(json.dumps({"keys": odd}))
        with pytest.raises(UsageError, match="no public key"):
            KeySet(str(path), pool)
        for wrong in ("http://keys.example.com/jwks", "ftp://127.0.0.1/jwks", str(tmp_path / "none.json")):
            with pytest.raises(UsageError, match="jwt_jwks"):
                KeySet(wrong, pool)


async def test_an_audience_with_a_path_is_good_for_that_endpoint_alone(jwts: Jwts) -> None:
    narrow = token(aud=[f"{US}/servers/fake/mcp", "https://other.example.com"])
    assert (await jwts.verify(narrow, "/servers/fake/mcp")).id == "user:ana"
    assert jwts.known(narrow, "/servers/fake/mcp") is not None
    assert jwts.known(narrow, "/mcp") is None
    await refused(jwts, narrow, "/mcp")
    whole = token(aud=US + "/")
    for path in ("/mcp", "/servers/fake/mcp"):
        assert (await jwts.verify(whole, path)).id == "user:ana"


async def test_a_scope_that_is_lacking_is_named(key_file: Path) -> None:
    async with Pool(2) as pool:
        made = Jwts(
            JwtRules(ISSUER, "api://us", scopes=frozenset(("mcp", "tools"))), KeySet(str(key_file), pool)
        )
        for granted in ({"scope": "mcp tools more"}, {"scp": ["tools", "mcp"]}):
            assert (await made.verify(token(aud="api://us", **granted), "/mcp")).id == "user:ana"
        for lacking in ({}, {"scope": "mcp"}, {"scope": "mcptools"}, {"scope": {"mcp": 1, "tools": 1}}):
            bad = token(aud="api://us", **lacking)
            for _ in range(2):  # the second time it is known
                failed = await refused(made, bad)
                assert (failed.status, failed.scope) == (403, "mcp tools")
        await made.keys.close()


async def test_a_token_ends_when_it_expires_although_it_is_known(jwts: Jwts) -> None:
    brief = token(exp=time.time() + 1.2)
    await jwts.verify(brief, "/mcp")
    until = time.monotonic() + 10
    while jwts.known(brief, "/mcp") is not None:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    assert "expired" in str(await refused(jwts, brief))


@pytest.mark.parametrize(
    ("claims", "rules", "who", "roles", "chain"),
    [
        ({"sub": "ana"}, {}, "user:ana", (), ()),
        ({"sub": "agent:load"}, {}, "agent:load", (), ()),
        ({"sub": "bot", "client_id": "bot"}, {}, "agent:bot", (), ()),
        ({"sub": "bot@clients", "azp": "bot"}, {}, "agent:bot@clients", (), ()),
        ({"sub": "1-2", "idtyp": "app", "roles": ["reader"]}, {}, "agent:1-2", ("reader",), ()),
        ({"sub": "ana", "azp": "some-app"}, {}, "user:ana", (), ()),
        ({"sub": "7", "email": "ana@example.com"}, {"subject": "email"}, "user:ana@example.com", (), ()),
        ({"sub": "7", "email": "agent:remediation"}, {"subject": "email"}, "user:agent-remediation.", (), ()),
        ({"sub": "bot", "azp": "bot"}, {"subject": "email"}, "agent:bot", (), ()),
        ({"sub": "auth0|77"}, {}, "user:auth0-77.", (), ()),
        ({"sub": "a", "r": {"all": ["x", "odd role", 5]}}, {"roles": "r.all"}, "user:a", ("x",), ()),
        ({"sub": "ana", "https://x/r": "a b a"}, {"roles": "https://x/r"}, "user:ana", ("a", "b"), ()),
        ({"sub": "operator", "roles": ["operator"]}, {}, "user:operator", ("operator",), ()),
        ({"sub": "ana", "act": {"sub": "coordinator"}}, {}, "agent:coordinator", (), ("user:ana",)),
        (
            {"sub": "ana", "act": {"sub": "logs", "act": {"sub": "coordinator"}}},
            {},
            "agent:logs",
            (),
            ("user:ana", "agent:coordinator"),
        ),
    ],
)  # fmt: skip
def test_claims_become_a_subject(claims: Any, rules: Any, who: str, roles: Any, chain: Any) -> None:
    found = subject_of(claims, JwtRules(ISSUER, US, **rules), "ab" * 8, 99.0)
    assert (found.id if who[-1] != "." else found.id[: len(who)]) == who
    assert (found.roles, found.chain, found.expires) == (roles, chain, 99.0)


def test_no_two_names_become_one() -> None:
    def named(sub: str) -> str:
        return subject_of({"sub": sub}, RULES, "", 0).id

    plain = named("auth0-77")
    spelled = named("auth0|77")
    assert (
        len({plain, spelled, named("auth0 77"), named(spelled.removeprefix("user:")), named("auth0-77.")})
        == 5
    )
    assert len(named("ä" * 500)) <= 110


class Issuer:
    """A JWKS endpoint of a few lines whose keys, speed and health a test sets."""

    def __init__(self) -> None:
        self.keys: list[Any] = [public("ES256")]
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()
        self.heard = asyncio.Event()
        self.status = b"200 OK"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        self.heard.set()
        await self.go.wait()
        body = json.dumps({"keys": self.keys}).encode()
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (self.status, len(body)) + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def issuer() -> AsyncIterator[tuple[Issuer, Jwts]]:
    made = Issuer()
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as server, Pool(2) as pool:
        port = server.sockets[0].getsockname()[1]
        jwts = Jwts(RULES, KeySet(f"http://127.0.0.1:{port}/jwks", pool))
        yield made, jwts
        made.go.set()
        await jwts.keys.close()


async def test_a_new_key_is_fetched_once_while_other_calls_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with issuer() as (made, jwts):
        monkeypatch.setattr(jwks, "APART_SECONDS", 0)
        old = token()
        await jwts.verify(old, "/mcp")
        monkeypatch.setattr(jwks, "APART_SECONDS", 60)
        jwts.keys._fetched = float("-inf")
        made.keys, new = [*made.keys, public("EdDSA")], token("EdDSA")
        made.go.clear()
        made.heard.clear()
        asking = [asyncio.create_task(jwts.verify(new, "/mcp")) for _ in range(20)]
        await asyncio.wait_for(made.heard.wait(), 10)
        assert jwts.known(old, "/mcp") and await jwts.verify(token(sub="bob"), "/mcp")  # neither waits
        made.go.set()
        assert {subject.id for subject in await asyncio.gather(*asking)} == {"user:ana"}
        for n in range(50):  # made-up key ids do not hammer the issuer
            await refused(jwts, token(header={"kid": f"made-up-{n}"}))
        assert made.asked == 2


async def test_a_key_taken_away_ends_its_tokens_and_a_dead_issuer_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jwks, "APART_SECONDS", 0)
    async with issuer() as (made, jwts):
        made.status = b"503 Down"
        failed = await refused(jwts, token())
        assert (failed.status, failed.retry_after) == (503, 5)
        made.status = b"200 OK"
        good = token()
        await jwts.verify(good, "/mcp")
        made.status = b"500 Broken"
        assert not await jwts.keys.refreshed()
        made.status, made.keys = b"200 OK", []
        assert not await jwts.keys.refreshed()
        assert jwts.known(good, "/mcp") and await jwts.verify(token(sub="bob"), "/mcp")
        made.keys = [public("EdDSA")]
        assert await jwts.keys.refreshed()
        assert jwts.known(good, "/mcp") is None
        await refused(jwts, good)


async def test_a_key_under_the_same_id_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "APART_SECONDS", 0)
    async with issuer() as (made, jwts):
        good = token()
        await jwts.verify(good, "/mcp")
        made.keys = [public("ES256", STRANGER)]
        assert await jwts.keys.refreshed()
        await refused(jwts, good)
        assert await jwts.verify(token(key=STRANGER), "/mcp")
