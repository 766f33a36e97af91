"""JWTs of one issuer: signature, issuer, audience and times are checked, claims become a subject."""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import ImmatureSignatureError, InvalidIssuerError, InvalidTokenError

from gateway.errors import NotIdentified
from gateway.jwks import ALGORITHMS, KeySet
from gateway.types import ROLE_NAME, SUBJECT_NAME, Subject

LONGEST = 16_384  # characters of a token
REMEMBERED = 10_000  # verified tokens
CLOCKS_SECONDS = 10  # an issuer's clock may be ahead by this much; none lives longer for it
FAR = 1e11  # no expiry is as late as this; claims are numbers of any size
MOST_ROLES = 100
MOST_ACTORS = 8
TYPES = ("", "jwt", "at+jwt", "application/at+jwt")
# Claims people choose for themselves at many issuers: what stands there never says that it is an agent.
CHOSEN = frozenset(("preferred_username", "username", "login", "email", "upn", "name", "nickname"))
_ENCODED = re.compile(r".*\.[0-9a-f]{20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class JwtRules:
    """What a JWT must say, and which of its claims say who acts."""

    issuer: str
    audience: str = ""  # whom it must be for, beside `urls`
    urls: tuple[str, ...] = ()  # ours: each is an audience, and with a path behind it one for that path
    scopes: frozenset[str] = frozenset()  # all of these are needed
    subject: str = "sub"
    roles: str = "roles"


@dataclass(frozen=True, slots=True)
class _Known:
    subject: Subject
    expires: float
    paths: frozenset[str]  # the endpoints it is good for; none named: every one
    lacks: bool  # a scope that is needed


class Jwts:
    """Says whose a JWT is. A verified one is remembered by its hash until it expires."""

    def __init__(self, rules: JwtRules, keys: KeySet) -> None:
        self.rules = rules
        self.keys = keys
        self._known: OrderedDict[str, _Known] = OrderedDict()
        keys.dropped = self._known.clear  # what was signed with it may be forged

    def known(self, bearer: str, path: str) -> Subject | None:
        """The subject of a token that was verified before; None when it has to be looked at."""
        found = self._known.get(_hash(bearer))
        if found is None or found.expires <= time.time() or found.lacks:
            return None
        if found.paths and path not in found.paths:
            return None
        return found.subject

    async def verify(self, bearer: str, path: str) -> Subject:
        """The subject of a token; raises NotIdentified with the reason."""
        hashed = _hash(bearer)
        found = self._known.pop(hashed, None)
        if found is None or found.expires <= time.time():
            found = self._look(await self._claims(bearer), hashed)
        self._known[hashed] = found
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        if found.paths and path not in found.paths:
            raise NotIdentified("the token is for another endpoint of this gateway")
        if found.lacks:
            wanted = " ".join(sorted(self.rules.scopes))
            raise NotIdentified(f"the token lacks a scope: {wanted} is needed", scope=wanted)
        return found.subject

    async def _claims(self, bearer: str) -> dict[str, Any]:
        if len(bearer) > LONGEST:
            raise NotIdentified(f"the token is longer than {LONGEST} characters")
        try:
            header = jwt.get_unverified_header(bearer)
            kid, algorithm = header.get("kid"), header.get("alg")
            if algorithm not in ALGORITHMS:
                raise NotIdentified(f"the token is not signed with one of {', '.join(ALGORITHMS)}")
            if "crit" in header or str(header.get("typ", "")).lower() not in TYPES:
                raise NotIdentified(
                    "the token is no access token: its header names another type or extensions"
                )
            key = self.keys.find(kid, algorithm)
            if key is None:
                key = await self._fresh_key(kid, algorithm)
            return jwt.decode(
                bearer,
                key,
                algorithms=[algorithm],
                issuer=self.rules.issuer,
                leeway=CLOCKS_SECONDS,
                options={"require": ["exp", "iss", "aud"], "verify_aud": False, "verify_sub": False},
            )
        except ImmatureSignatureError:
            raise NotIdentified("the token is not valid yet: wait, or set the clocks right") from None
        except InvalidIssuerError:
            raise NotIdentified("the token is of another issuer") from None
        except InvalidTokenError as error:
            raise NotIdentified(f"the token is not valid: {_plain(error)}") from None
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise NotIdentified("the token does not read") from None

    async def _fresh_key(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        await self.keys.refreshed()
        if self.keys.empty:
            raise NotIdentified(
                "the issuer's keys cannot be had just now: try again", status=503, retry_after=5
            )
        key = self.keys.find(kid, algorithm)
        if key is None:
            raise NotIdentified("the token is signed with a key the issuer does not publish")
        return key

    def _look(self, claims: dict[str, Any], hashed: str) -> _Known:
        expires = claims["exp"]
        if not isinstance(expires, int | float) or not time.time() < expires < FAR:
            raise NotIdentified("the token has expired, or names no time that could be")
        paths = self._paths(claims["aud"])
        granted = frozenset(_words(claims.get("scope") or claims.get("scp")))
        subject = subject_of(claims, self.rules, hashed[:16], float(expires))
        return _Known(subject, float(expires), paths, not self.rules.scopes <= granted)

    def _paths(self, told: Any) -> frozenset[str]:
        """The endpoints a token is for; none named: the gateway whole."""
        named = [told] if isinstance(told, str) else told if isinstance(told, list) else []
        audiences = {each.rstrip("/") for each in named if isinstance(each, str)}
        if audiences & {self.rules.audience.rstrip("/"), *self.rules.urls} - {""}:
            return frozenset()
        ours = [(each, url) for each in audiences for url in self.rules.urls if each.startswith(f"{url}/")]
        narrow = frozenset(each.removeprefix(url) for each, url in ours)
        if not narrow:
            raise NotIdentified("the token is for another audience")
        return narrow


def subject_of(claims: dict[str, Any], rules: JwtRules, token: str, expires: float) -> Subject:
    """Who acts by these claims: `act` (RFC 8693) names the actor, with the token's subject behind it.

    A token whose `sub` is the client itself (RFC 9068 §2.2) is an agent's; any other is a person's, unless
    the claim says `agent:NAME` outright and is none that people choose for themselves.
    """
    own = _principal(claims.get(rules.subject), _is_client(claims), claims, rules)
    actors = _actors(claims.get("act"))
    chain = (own, *reversed(actors))[: len(actors)]
    who = actors[0] if actors else own
    roles = tuple(
        dict.fromkeys(role for role in _words(_claim(claims, rules.roles)) if ROLE_NAME.fullmatch(role))
    )[:MOST_ROLES]
    if "user:operator" in (who, *chain) and "operator" not in roles:
        raise NotIdentified("the token names user:operator without the role operator")
    return Subject(who, roles, chain, token=token, expires=expires)


def _is_client(claims: dict[str, Any]) -> bool:
    clients = [claims.get(name) for name in ("client_id", "azp")]
    named = {client for client in clients if isinstance(client, str) and client}
    return claims.get("idtyp") == "app" or claims.get("sub") in [*named, *(f"{c}@clients" for c in named)]


def _principal(value: Any, client: bool, claims: dict[str, Any], rules: JwtRules) -> str:
    if client and not isinstance(value, str):
        value = claims.get("client_id") or claims.get("azp") or claims.get("sub")
    if not isinstance(value, str) or not value:
        raise NotIdentified(f"the token has no claim {rules.subject!r} that names a subject")
    return _named(value, "agent" if client else "user", outright=rules.subject not in CHOSEN)


def _actors(act: Any) -> list[str]:
    """The actors of an `act` claim, the current one first."""
    found: list[str] = []
    while act is not None:
        value = act.get("sub") if isinstance(act, dict) else None
        if not isinstance(value, str) or not value or len(found) == MOST_ACTORS:
            raise NotIdentified(
                "the token's claim 'act' does not read: it is nested objects with a 'sub' each"
            )
        found.append(_named(value, "agent"))
        act = act.get("act")
    return found


def _named(value: str, kind: str, *, outright: bool = True) -> str:
    """`kind:NAME`; a name with other letters is spelled with ours and ends in a hash: none collide."""
    if outright and value.startswith(("agent:", "user:")):
        kind, _, value = value.partition(":")
    if not SUBJECT_NAME.fullmatch(f"{kind}:{value}") or _ENCODED.fullmatch(value):
        spelled = re.sub(r"[^A-Za-z0-9._@-]", "-", value, flags=re.ASCII)[:70]
        value = f"{spelled}.{_hash(value)[:20]}"
    return f"{kind}:{value}"


def _claim(claims: dict[str, Any], path: str) -> Any:
    """A claim by its name, or by a dotted path into nested ones."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _words(value: Any) -> list[str]:
    """A list of strings, or a string of words, as scopes and roles are written."""
    if isinstance(value, str):
        return value.split()
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _plain(error: InvalidTokenError) -> str:
    """What a library says of a token, without anything of the token itself."""
    return {"ExpiredSignatureError": "it has expired", "InvalidSignatureError": "its signature is wrong"}.get(
        type(error).__name__, "it does not read, or lacks one of exp, iss, aud"
    )


def _hash(bearer: str) -> str:
    return hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).hexdigest()
