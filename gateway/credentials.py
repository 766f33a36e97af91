"""What the gateway shows a tool server: the token of an OAuth client, or of the person a call is for.

Fixed headers need none of this. Whatever a caller showed to us goes nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote_plus, urlencode

from gateway import strictjson
from gateway.errors import RpcError, UpstreamFailed, UsageError
from gateway.http_client import Address, Pool, safe_url
from gateway.redaction import Redactor
from gateway.types import Subject

AGENT = "pointsman-gateway/0.1"
FETCH_SECONDS = 10.0
LARGEST = 65_536  # bytes of a token endpoint's answer
USUAL_SECONDS = 300.0  # a token without a stated life
EARLY_SECONDS = 30.0  # before its end it is renewed
APART_SECONDS = 5.0  # between two tokens, when a server refuses the one it gets or there was none to be had
KEPT_SECONDS = 5.0  # a person's token, before its file is looked at again
PEOPLE = 256  # whose tokens are held at once
_VISIBLE = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)


class Credential(Protocol):
    """What goes into the headers of a request to one tool server."""

    def person(self, subject: Subject) -> str:
        """Whose credential it is for this subject; empty when it is everybody's."""
        ...

    async def headers(self, subject: Subject) -> dict[str, str]:
        """The headers for a request in this subject's name; raises UpstreamFailed at the stage `auth`."""
        ...

    def refused(self, headers: dict[str, str]) -> None:
        """The server has not taken them."""
        ...


@dataclass(frozen=True)
class Grant:
    """The client-credentials grant of one tool server."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    resource: str = ""


class ClientToken:
    """An access token by the client-credentials grant (RFC 6749 §4.4), kept and renewed before it ends."""

    def __init__(self, grant: Grant, pool: Pool, redactor: Redactor) -> None:
        if not safe_url(grant.token_url):
            raise UsageError(f"token_url is {grant.token_url!r}: a secret goes by https, or to this machine")
        self._grant = grant
        self._pool = pool
        self._redactor = redactor
        self._token = ""
        self._until = 0.0
        self._asked = float("-inf")
        self._failed: UpstreamFailed | None = None
        self._lock = asyncio.Lock()
        redactor.know({grant.client_secret, quote_plus(grant.client_secret), self._login()})

    def person(self, subject: Subject) -> str:
        return ""

    async def headers(self, subject: Subject) -> dict[str, str]:
        if time.monotonic() >= self._until:
            async with self._lock:
                if time.monotonic() >= self._until:
                    await self._renew()
        return {"Authorization": f"Bearer {self._token}"}

    def refused(self, headers: dict[str, str]) -> None:
        fresh = time.monotonic() - self._asked < APART_SECONDS
        if headers.get("Authorization") == f"Bearer {self._token}" and not fresh:
            self._until = 0.0

    async def _renew(self) -> None:
        if self._failed is not None and time.monotonic() - self._asked < APART_SECONDS:
            raise self._failed
        self._asked = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                token, lives = await self._fetch()
        except TimeoutError:
            self._failed = self._no(f"no answer within {FETCH_SECONDS:g} s")
            raise self._failed from None
        except UpstreamFailed as failed:
            self._failed = failed if failed.stage == "auth" else self._no(failed.reason)
            raise self._failed from None
        self._redactor.know({token})
        self._redactor.forget({self._token} - {token})
        self._token, self._failed = token, None
        self._until = time.monotonic() + max(lives - EARLY_SECONDS, lives / 2)

    async def _fetch(self) -> tuple[str, float]:
        wish = {
            "grant_type": "client_credentials",
            "scope": self._grant.scope,
            "resource": self._grant.resource,
        }
        body = urlencode({name: value for name, value in wish.items() if value}).encode()
        headers = {
            "Authorization": f"Basic {self._login()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        to = Address.of(self._grant.token_url, AGENT)
        with await self._pool.request("POST", to, headers, body) as answer:
            raw = b""
            async for piece in answer.chunks():
                raw += piece
                if len(raw) > LARGEST:
                    raise self._no(f"more than {LARGEST} bytes")
        try:
            told = strictjson.read(raw, limit=LARGEST)
        except RpcError:
            told = None
        told = told if isinstance(told, dict) else {}
        if answer.status != 200:
            error = str(told.get("error", ""))
            named = f" ({error})" if re.fullmatch(r"[a-z_]{1,60}", error) else ""
            raise self._no(f"HTTP {answer.status}{named}")
        token, lives = told.get("access_token"), told.get("expires_in", USUAL_SECONDS)
        if not isinstance(token, str) or not _VISIBLE.fullmatch(token):
            raise self._no("its answer holds no access_token")
        if str(told.get("token_type", "")).lower() != "bearer":
            raise self._no("its token is no bearer token")
        return token, float(lives) if isinstance(lives, int | float) and 0 < lives < 1e9 else USUAL_SECONDS

    def _login(self) -> str:
        who = (
            f"{quote_plus(self._grant.client_id)}:{quote_plus(self._grant.client_secret)}"  # RFC 6749 §2.3.1
        )
        return base64.b64encode(who.encode()).decode()

    def _no(self, reason: str) -> UpstreamFailed:
        return UpstreamFailed(
            "auth", f"no token from {self._grant.token_url}: {reason}; check `credentials` of its entry"
        )


class PersonsTokens:
    """The token of the person behind a call: a file for each in one directory, named like the user."""

    def __init__(self, server: str, directory: str, redactor: Redactor) -> None:
        self._server = server
        self._directory = Path(directory)
        self._redactor = redactor
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()  # person → (token, when read)

    def person(self, subject: Subject) -> str:
        return next((link for link in (*subject.chain, subject.id) if link.startswith("user:")), "")

    async def headers(self, subject: Subject) -> dict[str, str]:
        if subject.kind == "gateway":  # it lists tools in nobody's name, with the entry's own headers
            return {}
        person = self.person(subject)
        token, read = self._known.get(person, ("", 0.0))
        if time.monotonic() - read > KEPT_SECONDS:
            token = await asyncio.to_thread(self._read, person)
            self._keep(person, token)
        if not token:
            who = person or f"{subject.id}, who acts for nobody,"
            raise UpstreamFailed(
                "auth",
                f"{who} has no token for {self._server}: the operator puts one into its user_tokens",
                refusal="credential_missing",
            )
        return {"Authorization": f"Bearer {token}"}

    def refused(self, headers: dict[str, str]) -> None:
        for person, (token, _) in self._known.items():
            if headers.get("Authorization") == f"Bearer {token}":
                self._known[person] = (token, 0.0)  # look at the file again

    def _read(self, person: str) -> str:
        name = person.partition(":")[2]
        if not name or name.startswith("."):
            return ""
        try:
            token = (self._directory / name).read_text().strip()
        except (OSError, ValueError):
            return ""
        return token if _VISIBLE.fullmatch(token) else ""

    def _keep(self, person: str, token: str) -> None:
        old = self._known.pop(person, ("", 0.0))[0]
        self._known[person] = (token, time.monotonic())
        gone = {old} if old != token else set()
        if len(self._known) > PEOPLE:
            gone.add(self._known.popitem(last=False)[1][0])
        self._redactor.forget(gone - {held for held, _ in self._known.values()})
        self._redactor.know({token})


def credential(
    server: str, told: dict[str, str], url: str, pool: Pool, redactor: Redactor
) -> Credential | None:
    """The credential an entry asks for, its references resolved; None when its headers are all there is."""
    if not told:
        return None
    if "user_tokens" in told:
        return PersonsTokens(server, told["user_tokens"], redactor)
    return ClientToken(Grant(**{"resource": url, **told}), pool, redactor)
