"""The keys that JWTs are checked with: a JWK set from a file or a URL, read again as it changes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from gateway.errors import GatewayError, UsageError
from gateway.http_client import Address, Pool, safe_url

log = logging.getLogger("gateway.identity")
ALGORITHMS = ("RS256", "ES256", "EdDSA")
PUBLIC = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use")  # a private part in the set is dropped
AGENT = "pointsman-gateway/0.1"
LARGEST = 1_048_576  # bytes of a key set
MOST_KEYS = 100
FETCH_SECONDS = 5.0
APART_SECONDS = 10.0  # between two fetches, however many tokens name a key nobody knows
URL_SECONDS = 300.0  # after which a URL is asked again, so that a key taken away is missed
FILE_SECONDS = 5.0


class KeySet:
    """Every key of one issuer by id and algorithm; what was read last stays until something better comes."""

    def __init__(self, source: str, pool: Pool) -> None:
        self.source = source
        self.dropped: Callable[[], None] = lambda: None  # told when a key is gone or is another one now
        self._pool = pool
        self._keys: dict[tuple[str, str], PyJWK] = {}
        self._raw: dict[tuple[str, str], Any] = {}
        self._fetch: asyncio.Task[bool] | None = None
        self._fetched = float("-inf")
        self._remote = "://" in source
        if self._remote and not safe_url(source):
            raise UsageError(
                f"gateway.jwt_jwks is {source!r}: over a network keys come by https only; "
                "name an https URL, an http URL of this machine, or a file"
            )
        if not self._remote:
            try:
                self._take(Path(source).read_bytes())
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UsageError(
                    f"gateway.jwt_jwks {source} is no usable key set: {reason}; name a JWKS file or URL"
                ) from None

    @property
    def empty(self) -> bool:
        """Whether no key has ever been read, so that nothing can be said about any token."""
        return not self._keys

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of this id for this algorithm; without an id, the only one there is for it."""
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, known), key in self._keys.items() if known == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def refreshed(self) -> bool:
        """Wait for the keys to be read again, if they were not just now; whether they were."""
        if self._fetch is None or self._fetch.done():
            if time.monotonic() - self._fetched < APART_SECONDS:
                return False
            self._fetched = time.monotonic()
            self._fetch = asyncio.create_task(self._read(), name="jwks")
        return await asyncio.shield(self._fetch)

    async def watch(self) -> None:
        """Go on reading them: at once, then now and then."""
        while True:
            read = await self.refreshed() or not self.empty
            usual = URL_SECONDS if self._remote else FILE_SECONDS
            await asyncio.sleep(usual if read else APART_SECONDS)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait((self._fetch,))

    async def _read(self) -> bool:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                raw = await (self._get() if self._remote else asyncio.to_thread(Path(self.source).read_bytes))
            self._take(raw)
        except (OSError, ValueError, GatewayError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else error
            log.warning("keys of %s: %s; those read before stay", self.source, reason)
            return False
        return True

    async def _get(self) -> bytes:
        answer = await self._pool.request(
            "GET", Address.of(self.source, AGENT), {"Accept": "application/json"}, b""
        )
        with answer:
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}")
            body = b""
            async for piece in answer.chunks():
                body += piece
                if len(body) > LARGEST:
                    raise ValueError(f"more than {LARGEST} bytes")
        return body

    def _take(self, raw: bytes) -> None:
        document = json.loads(raw)
        told = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(told, list):
            raise ValueError('it has no list "keys"')
        keys: dict[tuple[str, str], PyJWK] = {}
        parts: dict[tuple[str, str], Any] = {}
        for jwk in told[:MOST_KEYS]:
            made = _key(jwk)
            if made is not None:
                place = (str(made[1].get("kid", "")), made[0].algorithm_name)
                keys.setdefault(place, made[0])
                parts.setdefault(place, made[1])
        if not keys:
            raise ValueError(f"it holds no public key for {', '.join(ALGORITHMS)}")
        gone = any(parts.get(place) != jwk for place, jwk in self._raw.items())
        self._keys, self._raw = keys, parts
        if gone:
            self.dropped()


def _key(jwk: Any) -> tuple[PyJWK, dict[str, Any]] | None:
    """A usable public key; None for one that is symmetric, weak, for encryption or of another algorithm."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    public = {name: jwk[name] for name in PUBLIC if name in jwk}
    if public.get("kty") not in ("RSA", "EC", "OKP") or public.get("alg", "RS256") not in ALGORITHMS:
        return None
    try:
        key = PyJWK(public)
    except (PyJWTError, ValueError, TypeError) as error:
        log.warning("a key of the set is left out: %s", error)
        return None
    weak = key.key_type == "RSA" and getattr(key.key, "key_size", 0) < 2048
    return None if weak or key.algorithm_name not in ALGORITHMS else (key, public)
