"""OAuth access tokens at the door of a served specialist: which get in, and what happens to the keys."""

import json
import time

import httpx
import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from specialists.errors import SettingsError
from specialists.remote import tokens
from specialists.remote.access import AllowedGateways
from specialists.remote.serving import build
from specialists.remote.tokens import AccessTokens, BadToken, Issuer
from specialists.types import Card
from tests.fakes.openai_server import listening

pytestmark = pytest.mark.anyio
NAME, US = "https://login.example.com/", "https://logs.example.com"
EC, OTHER, RSA = (
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
    rsa.generate_private_key(65537, 2048),
)


def public(name, algorithm, key):
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": name, "alg": algorithm}


SET = {"keys": [public("one", "ES256", EC), public("two", "RS256", RSA), {"kty": "oct", "k": "c2VjcmV0"}]}


def token(key=EC, algorithm="ES256", header=(("kid", "one"), ("typ", "at+jwt")), **claims):
    """A token that is right but for what is given; None leaves a claim out, times are seconds from now."""
    whole = {"iss": NAME, "aud": [US], "sub": "ana", "exp": 60, "scope": "ask look", **claims}
    whole = {name: value for name, value in whole.items() if value is not None}
    whole |= {name: time.time() + whole[name] for name in ("exp", "nbf") if name in whole}
    return jwt.encode(whole, key, algorithm, dict(header))


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(SET))
    return file


@pytest.fixture
def door(keys):
    return AccessTokens(Issuer(NAME, str(keys), US, frozenset({"ask"})))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"aud": US},
        {"key": RSA, "algorithm": "RS256", "header": [("kid", "two")]},
        {"scope": None, "scp": ["ask"]},
        {"exp": -2},
    ],
)
async def test_a_good_token_of_the_issuer_is_taken(door, given):
    await door.check(token(**given))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"key": OTHER}, "InvalidSignature"),
        ({"iss": "https://login.example.com"}, "InvalidIssuer"),
        ({"iss": None}, "MissingRequiredClaim"),
        ({"aud": "https://metrics.example.com"}, "InvalidAudience"),
        ({"aud": None}, "MissingRequiredClaim"),
        ({"exp": -60}, "ExpiredSignature"),
        ({"exp": None}, "MissingRequiredClaim"),
        ({"nbf": 600}, "ImmatureSignature"),
        ({"scope": "look"}, "lacks a scope: ask"),
        ({"scope": {"ask": 1}}, "lacks a scope: ask"),
        ({"header": [("kid", "three")]}, "does not publish"),
        ({"header": [("kid", "two")]}, "does not publish"),
        ({"header": [("kid", "one"), ("typ", "logout+jwt")]}, "no access token"),
        ({"header": [("kid", "one"), ("crit", ["b64"]), ("b64", True)]}, "InvalidToken"),
        ({"key": "secret" * 8, "algorithm": "HS256"}, "no access token"),
        ({"key": None, "algorithm": "none"}, "no access token"),
        ({"sub": "x" * 20_000}, "longer than"),
    ],
)
async def test_any_other_token_is_refused_with_the_reason(door, given, why):
    with pytest.raises(BadToken, match=why):
        await door.check(token(**given))
    for nonsense in ("", "..", "a.b.c", "é.é.é"):
        with pytest.raises(BadToken):
            await door.check(nonsense)


async def test_keys_come_from_a_url_and_are_read_again_when_a_new_one_is_used(monkeypatch):
    published, asked = {"keys": [public("two", "RS256", RSA)]}, []

    async def serve(_):
        asked.append(None)
        return JSONResponse(published, 200 if published else 500)

    issuer = uvicorn.Config(Starlette(routes=[Route("/jwks", serve)]), port=0, log_level="error")
    with listening(uvicorn.Server(issuer)) as url:
        door = AccessTokens(Issuer(NAME, f"{url}/jwks", US))
        for _ in range(2):
            with pytest.raises(BadToken, match="does not publish"):
                await door.check(token())
        assert len(asked) == 1  # not again so soon
        monkeypatch.setattr(tokens, "APART_SECONDS", 0.0)
        published["keys"].append(public("one", "ES256", EC))
        await door.check(token())
        assert len(asked) == 2
        published.clear()
        monkeypatch.setattr(tokens, "FRESH_SECONDS", 0.0)
        await door.check(token())
        assert len(asked) == 3


async def test_without_any_key_nobody_gets_in_and_is_told_to_come_back(keys):
    door = AccessTokens(Issuer(NAME, str(keys), US))
    keys.write_text("[]")
    with pytest.raises(BadToken, match="try again") as caught:
        await door.check(token())
    assert caught.value.status == 503


@pytest.mark.parametrize("static", ["", "token-of-the-served-specialist"])
async def test_the_door_takes_the_token_the_operator_set_or_one_of_the_issuer(door, static):
    class Looker:
        card = Card(name="looker", description="Looks once.", tools=())

    app = build([Looker()], "http://here", AllowedGateways.named([], only_here=True), static, tokens=door)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:

        async def asked(authorization):
            answer = await http.post("/looker", json={}, headers={"Authorization": authorization})
            return answer.status_code, answer.headers.get("www-authenticate", "")

        assert await asked(f"Bearer {token()}") == (200, "")
        assert (await asked(f"Bearer {static}"))[0] == (200 if static else 401)
        assert await asked(f"Bearer {token(aud='x')}") == (401, "Bearer")
        assert await asked(f"Bearer {token(scope='look')}") == (403, 'Bearer error="insufficient_scope"')
        assert (await asked(token()))[0] == (await asked(""))[0] == 401
        card = (await http.get("/.well-known/agent-card.json")).json()
        assert list(card["securitySchemes"]) == ["bearer"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((NAME, "", US), "belong together"),
        ((NAME, "jwks.json", ""), "belong together"),
        ((NAME, "absent.json", US), "no such file"),
        ((NAME, "http://login.example.com/jwks", US), "by https only"),
    ],
)
def test_half_of_an_issuer_is_no_issuer(given, why):
    with pytest.raises(SettingsError, match=why):
        Issuer(*given)
