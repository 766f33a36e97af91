"""Who calls: the bearer token of a request made into a subject, and what is told to whoever has none.

An OAuth 2.1 resource server (RFC 6750, RFC 9728): the challenge names the metadata, the metadata the issuer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import NotIdentified, UsageError
from gateway.http_client import Pool
from gateway.settings import Settings
from gateway.tokens import Tokens
from gateway.types import Subject

if TYPE_CHECKING:
    from gateway.jwts import Jwts

LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]", "::1"))
WELL_KNOWN = "/.well-known/oauth-protected-resource"
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", re.ASCII)
ENDPOINT = re.compile(r"/mcp|/servers/[A-Za-z0-9_.-]{1,32}/mcp", re.ASCII)


class Identity:
    """Says whose a bearer token is: one of our own, or a JWT of the issuer we are told to trust."""

    def __init__(self, tokens: Tokens, settings: Settings, pool: Pool) -> None:
        self._tokens = tokens
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._scopes = settings.jwt_scopes.split()
        self.jwts = _jwts(settings, pool)

    def known(self, authorization: bytes, path: str) -> Subject | None:
        """The subject of a token seen before: one look-up by its hash; almost every call ends here."""
        if authorization[:7].lower() != b"bearer ":
            return None
        bearer = authorization[7:].decode("latin-1")
        if bearer.startswith("pm_") or self.jwts is None:
            return self._tokens.verify(bearer)
        return self.jwts.known(bearer, path)

    async def verify(self, authorization: bytes, path: str) -> Subject:
        """The subject of any token; raises NotIdentified with the reason."""
        if (subject := self.known(authorization, path)) is not None:
            return subject
        scheme, _, bearer = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not bearer:
            raise NotIdentified("a bearer token is needed: see `pointsman tokens issue`")
        if bearer.startswith("pm_") or self.jwts is None:
            if (subject := await self._tokens.look(bearer)) is not None:
                return subject
            raise NotIdentified("the token is unknown, revoked or expired: see `pointsman tokens issue`")
        return await self.jwts.verify(bearer, path)

    def challenge(self, failed: NotIdentified, told: bool, host: str, path: str) -> bytes:
        """The WWW-Authenticate header; `told` when there was a token, which is then said to be wrong."""
        place = f"{WELL_KNOWN}{path}" if ENDPOINT.fullmatch(path) else WELL_KNOWN
        parts = ['Bearer realm="pointsman"', f'resource_metadata="{self._base(host)}{place}"']
        if told:
            parts.append(f'error="{"insufficient_scope" if failed.scope else "invalid_token"}"')
            parts.append(f'error_description="{_quotable(str(failed))}"')
        if scope := failed.scope or " ".join(self._scopes):
            parts.append(f'scope="{scope}"')
        return ", ".join(parts).encode("latin-1", "replace")

    def metadata(self, host: str, path: str) -> bytes | None:
        """The protected resource metadata at this path; None where there is none."""
        inner = path.removeprefix(WELL_KNOWN)
        if inner and not ENDPOINT.fullmatch(inner):
            return None
        told: dict[str, Any] = {
            "resource": f"{self._base(host)}{inner}",
            "resource_name": "Pointsman gateway",
            "bearer_methods_supported": ["header"],
        }
        if self._settings.jwt_issuer:
            told["authorization_servers"] = [self._settings.jwt_issuer]
        if self._scopes:
            told["scopes_supported"] = self._scopes
        return orjson.dumps(told)

    def _base(self, host: str) -> str:
        return self._url or f"http://{host if _HOST.fullmatch(host) else self._settings.host}"

    def listens(self, host: str, port: int) -> None:
        """Take the address we listen on for ours, where no other is set."""
        if self.jwts is not None and not self._url:
            names = LOOPBACK if host in LOOPBACK else (host,)
            shown = (f"[{name}]" if ":" in name and name[0] != "[" else name for name in names)
            urls = tuple(dict.fromkeys(f"http://{name}:{port}" for name in shown))
            self.jwts.rules = replace(self.jwts.rules, urls=urls)

    async def close(self) -> None:
        """Stop reading keys."""
        if self.jwts is not None:
            await self.jwts.keys.close()


def _jwts(settings: Settings, pool: Pool) -> Jwts | None:
    """What checks JWTs; None when no issuer is trusted."""
    if not settings.jwt_issuer:
        return None
    if not settings.jwt_jwks:
        raise UsageError(
            "gateway.jwt_issuer is set without jwt_jwks: name the URL or file of the issuer's keys"
        )
    from gateway.jwks import KeySet
    from gateway.jwts import JwtRules, Jwts

    url = settings.url.rstrip("/")
    rules = JwtRules(
        settings.jwt_issuer,
        settings.jwt_audience,
        (url,) if url else (),
        frozenset(settings.jwt_scopes.split()),
        settings.jwt_subject,
        settings.jwt_roles,
    )
    return Jwts(rules, KeySet(settings.jwt_jwks, pool))


def _quotable(text: str) -> str:
    """Text that may stand between quotes in a header (RFC 6750 §3)."""
    return re.sub(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]", "'", text)
