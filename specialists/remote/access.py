"""The way to tools that a caller gives a served specialist, and which gateways the operator allows."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from specialists.errors import SettingsError

SHORTEST_TOKEN = 16


class AccessRefused(Exception):
    """A caller gave no way to tools, or one that is not allowed; the message is for the caller."""


@dataclass(frozen=True, slots=True)
class Access:
    """A gateway and a token on it, for one task."""

    url: str
    token: str = field(repr=False)
    run: str = ""


@dataclass(frozen=True, slots=True)
class AllowedGateways:
    """The gateways a caller may send this specialist to; any other would be a request forged through us."""

    urls: frozenset[str]
    loopback: bool = False  # any gateway on this machine, for a specialist that only this machine can ask

    @classmethod
    def named(cls, urls: Iterable[str], *, only_here: bool) -> AllowedGateways:
        """Those named; none named allows the gateways of this machine to callers of this machine."""
        given = [_normal(url) for url in urls]
        for url in given:
            if not url:
                raise SettingsError("--gateway: empty; give the URL of an MCP endpoint, http://HOST:8420/mcp")
        if not given and not only_here:
            raise SettingsError(
                "no gateway allowed: others than this machine can ask here, so say which gateway they may "
                "send the specialist to: --gateway http://HOST:8420/mcp"
            )
        return cls(frozenset(given), loopback=not given)

    def access(self, headers: Mapping[str, str], names: tuple[str, str, str]) -> Access:
        """The way to tools that the headers give; AccessRefused unless it is complete and allowed."""
        url, token, run = (headers.get(name.lower(), "") for name in names)
        if not token or not url:
            raise AccessRefused(
                f"no way to tools: give the gateway's MCP endpoint in the header {names[0]} "
                f"and a token of it for this task in {names[1]}"
            )
        if _normal(url) not in self.urls and not (self.loopback and is_loopback(urlsplit(url).hostname)):
            raise AccessRefused(
                f"gateway {url[:200]!r} is not allowed here; "
                f"the operator allows it with `pointsman specialists serve … --gateway {url[:200]}`"
            )
        return Access(url, token, run)


def read_token(
    variable: str, file: Path | None, *, without: bool, only_here: bool, needed: bool = True
) -> str:
    """The token callers must give; SettingsError when there is none where one is needed, or a bad one."""
    if without:
        if not only_here:
            raise SettingsError(
                "--no-token: only for a loopback address, where nobody else can ask; "
                f"put a token in {variable}, or leave out --host"
            )
        return ""
    where = str(file) if file else f"the environment variable {variable}"
    try:
        token = file.read_text(encoding="utf-8").strip() if file else os.environ.get(variable, "")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where}: the token cannot be read: {error}") from error
    if not (token or file or needed):
        return ""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise SettingsError(
            f"no token in {where}: callers must give one of {SHORTEST_TOKEN} or more visible characters; "
            "make one with `openssl rand -hex 32`, or take --no-token on a loopback address"
        )
    return token


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _normal(url: str) -> str:
    """A URL in one spelling; empty when it is none that can be called."""
    parts = urlsplit(url.strip())
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError):
        return ""
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')}"
