"""A small real OAuth 2.1 authorization server: metadata, JWKS, registration, authorization code with PKCE,
client credentials. Everybody may log in as anybody; what it must get right, it checks.

    python authorization_server.py        prints {"url": …} as one line

`POST /mint` with JSON {"claims": {…}, "header": {…}, "key": ID} signs whatever a test wants to see refused.
`POST /rotate` makes a new key and withdraws the old one; `POST /down` with {"down": true} breaks /jwks.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import socket
import time
from typing import Any
from urllib.parse import parse_qs, urlencode

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENTS = {"robot": "robot's secret &+%"}


class Issuer:
    """The server's keys, clients and codes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.codes: dict[str, dict[str, str]] = {}
        self.keys: dict[str, Any] = {}
        self.down = False
        self.fetched = 0
        self.issued: list[dict[str, Any]] = []
        self.lives = 3600.0
        self.rotate()

    def rotate(self) -> str:
        name = f"key-{secrets.token_hex(4)}"
        self.keys = {name: ec.generate_private_key(ec.SECP256R1())}
        return name

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        (name, key), *_ = self.keys.items()
        now = int(time.time())
        whole = {"iss": self.url, "iat": now, "exp": now + self.lives, **claims}
        whole = {claim: value for claim, value in whole.items() if value is not None}
        return jwt.encode(whole, key, "ES256", {"kid": name, "typ": "at+jwt", **(header or {})})

    # -- routes ------------------------------------------------------------------------------------

    async def metadata(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "registration_endpoint": f"{self.url}/register",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "client_credentials"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
                "scopes_supported": ["mcp"],
            }
        )

    async def jwks(self, request: Request) -> Response:
        self.fetched += 1
        if self.down:
            return Response("down", 503)
        public = [
            {**jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}
            for name, key in self.keys.items()
        ]
        return JSONResponse({"keys": public})

    async def register(self, request: Request) -> Response:
        told = await request.json()
        client = f"client-{secrets.token_hex(4)}"
        return JSONResponse({**told, "client_id": client, "token_endpoint_auth_method": "none"}, 201)

    async def authorize(self, request: Request) -> Response:
        told = dict(request.query_params)
        assert told["code_challenge_method"] == "S256" and told["response_type"] == "code"
        code = secrets.token_hex(8)
        self.codes[code] = told
        back = {"code": code, "state": told.get("state", ""), "iss": self.url}
        return RedirectResponse(f"{told['redirect_uri']}?{urlencode(back)}", 302)

    async def token(self, request: Request) -> Response:
        told = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        self.issued.append({**told, "authorization": request.headers.get("authorization", "")})
        if self.down:
            return Response("down", 503)
        if told.get("grant_type") == "client_credentials":
            return self._robot(request, told)
        asked = self.codes.pop(told.get("code", ""), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(told.get("code_verifier", "").encode()).digest())
        if asked is None or proof.rstrip(b"=").decode() != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return self._answer({"sub": "ana", "azp": asked["client_id"], "roles": ["oncall"]}, told, asked)

    def _robot(self, request: Request, told: dict[str, str]) -> Response:
        from urllib.parse import unquote_plus

        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(encoded or "").decode().partition(":")
        if scheme != "Basic" or CLIENTS.get(unquote_plus(name)) != unquote_plus(secret):
            return JSONResponse({"error": "invalid_client"}, 401)
        client = unquote_plus(name)
        return self._answer({"sub": client, "client_id": client, "roles": ["specialist"]}, told, told)

    def _answer(self, claims: dict[str, Any], told: dict[str, str], asked: dict[str, str]) -> Response:
        scope = told.get("scope") or asked.get("scope") or "mcp"
        audience = told.get("resource") or asked.get("resource")
        token = self.sign({**claims, "aud": audience, "scope": scope})
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.lives, "scope": scope}
        return JSONResponse(answer)

    async def mint(self, request: Request) -> Response:
        told = await request.json()
        return JSONResponse({"token": self.sign(told.get("claims", {}), told.get("header"))})

    async def control(self, request: Request) -> Response:
        told = json.loads(await request.body() or b"{}")
        if request.url.path == "/rotate":
            self.rotate()
        self.down = told.get("down", self.down)
        self.lives = told.get("lives", self.lives)
        return JSONResponse({"keys": list(self.keys), "fetched": self.fetched, "issued": self.issued})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self.metadata),
                Route("/jwks", self.jwks),
                Route("/register", self.register, methods=["POST"]),
                Route("/authorize", self.authorize),
                Route("/token", self.token, methods=["POST"]),
                Route("/mint", self.mint, methods=["POST"]),
                Route("/rotate", self.control, methods=["POST"]),
                Route("/state", self.control, methods=["POST"]),
            ]
        )


if __name__ == "__main__":
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    print(json.dumps({"url": address}), flush=True)
    config = uvicorn.Config(Issuer(address).app(), log_level="error", ws="none", lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[sock]))
