"""OAuth access tokens at the door of a served specialist: JWTs of one issuer, checked with its keys.

Signature, issuer, audience, times and scopes are checked (RFC 9068); who the subject is makes no difference
here, because what a task may do is decided by the gateway for the token that comes with the task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt

from specialists.errors import SettingsError
from specialists.remote.access import is_loopback

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
TYPES = ("", "jwt", "at+jwt", "application/at+jwt")
LONGEST = 16_384  # characters of a token
CLOCKS_SECONDS = 10  # by which the issuer's clock and ours may differ
LARGEST_SET = 1 << 20  # bytes of a key set
FETCH_SECONDS = 5.0
FRESH_SECONDS = 300.0  # after which keys are read again, so that one taken away is missed
APART_SECONDS = 10.0  # between two readings, however many tokens name a key nobody knows


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are taken, and what they must say."""

    name: str  # exactly as in `iss`
    keys: str  # its JWK set: a URL or a file
    audience: str  # in `aud`
    scopes: frozenset[str] = frozenset()  # all of these are needed

    def __post_init__(self) -> None:
        if not (self.name and self.keys and self.audience):
            raise SettingsError(
                "--jwt-issuer, --jwt-jwks and --jwt-audience belong together: whose tokens are taken, "
                "what they are checked with, and whom they must be for; give all three"
            )
        parts = urlsplit(self.keys)
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise SettingsError(f"--jwt-jwks {self.keys}: over a network keys come by https only; name that")
        if "://" not in self.keys and not Path(self.keys).is_file():
            raise SettingsError(
                f"--jwt-jwks {self.keys}: no such file; name the issuer's JWK set, a URL or a file"
            )


class BadToken(Exception):
    """A token is not taken; the message is for the caller, and holds nothing of the token."""

    def __init__(self, why: str, status: int = 401) -> None:
        super().__init__(why)
        self.status = status


class AccessTokens:
    """Says whether an access token is taken."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._keys: Mapping[tuple[str | None, str], jwt.PyJWK] = {}  # by id and algorithm
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def check(self, token: str) -> None:
        """BadToken with the reason, unless the token is good."""
        if len(token) > LONGEST:
            raise BadToken(f"the token is longer than {LONGEST} characters")
        try:
            header = jwt.get_unverified_header(token)
            kind = str(header.get("typ", "")).lower()
            if header.get("alg") not in ALGORITHMS or kind not in TYPES or "crit" in header:
                raise BadToken(f"the token is no access token signed with one of {', '.join(ALGORITHMS)}")
            claims = jwt.decode(
                token,
                await self._key(header.get("kid"), header["alg"]),
                algorithms=[header["alg"]],
                issuer=self._issuer.name,
                audience=self._issuer.audience,
                leeway=CLOCKS_SECONDS,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise BadToken(f"the token is not valid: {type(error).__name__}") from None
        granted = claims.get("scope") or claims.get("scp") or []
        granted = granted.split() if isinstance(granted, str) else granted
        if not (isinstance(granted, list) and self._issuer.scopes <= {*map(str, granted)}):
            wanted = " ".join(sorted(self._issuer.scopes))
            raise BadToken(f"the token lacks a scope: {wanted} is needed", 403)

    async def _key(self, name: str | None, algorithm: str) -> jwt.PyJWK:
        """The issuer's key; its keys are read again when they are old or this one is new, not too often."""
        place = (name, algorithm)
        if self._is_due(place):
            async with self._reading:
                if self._is_due(place):
                    await self._read()
        if not self._keys:
            raise BadToken("the issuer's keys cannot be had just now; try again", 503)
        if (key := self._keys.get(place)) is None:
            raise BadToken("the token is signed with a key that the issuer does not publish")
        return key

    def _is_due(self, place: tuple[str | None, str]) -> bool:
        age = time.monotonic() - self._read_at
        return age > FRESH_SECONDS or (age > APART_SECONDS and place not in self._keys)

    async def _read(self) -> None:
        """Read the keys; those read before stay when that fails."""
        self._read_at = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                found = jwt.PyJWKSet.from_json(await _got(self._issuer.keys)).keys
            self._keys = {(key.key_id, key.algorithm_name): key for key in found}
        except (OSError, ValueError, AttributeError, httpx2.HTTPError, jwt.PyJWTError) as error:
            log.warning("keys of %s: %s; those read before stay", self._issuer.keys, error or type(error))


async def _got(source: str) -> Any:
    if "://" not in source:
        return await asyncio.to_thread(Path(source).read_bytes)
    async with httpx2.AsyncClient(trust_env=False) as http, http.stream("GET", source) as answer:
        body = b""
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > LARGEST_SET:
                break
        if len(body) > LARGEST_SET or answer.status_code != 200:
            raise ValueError(f"HTTP {answer.status_code}, {len(body)} bytes")
        return body
