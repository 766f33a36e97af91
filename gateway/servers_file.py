"""The list of tool servers: `mcp.json`, a superset of the `mcpServers` JSON other programs use."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import NotYet, ServersFileError, UsageError

BUNDLED = Path(__file__).parent / "defaults" / "mcp.json"
OPENABLE = ("sampling", "elicitation", "roots", "instructions", "meta")
ISOLATION = ("shared", "principal", "session")
OURSELVES = ("gateway", "hosted")  # the built-in servers
OURS = frozenset(("pin", "open", "tools", "labels", "timeout", "isolation", "credentials"))
HINTS = ("readOnly", "destructive", "idempotent", "openWorld")
OVERRIDES = frozenset((*HINTS, "labels", "undo", "atOnce", "perMinute"))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
REFERENCE = re.compile(r"\$\{([a-z]+)(?::([^}]*))?\}")


@dataclass(frozen=True)
class ServerEntry:
    """One tool server as the operator wrote it down; references are not yet resolved."""

    name: str
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    trusted: bool = False
    open: frozenset[str] = frozenset()
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    timeout: float = 0.0
    isolation: str = ""
    credentials: dict[str, str] = field(default_factory=dict)

    @property
    def transport(self) -> str:
        """How the server is reached: "http" or "stdio"."""
        return "http" if self.url else "stdio"

    def all_labels(self) -> set[str]:
        """The labels it and its tools are given."""
        return {*self.labels, *(label for over in self.tools.values() for label in over.get("labels", ()))}

    @property
    def identity(self) -> dict[str, Any]:
        """What makes this server the one that was approved: its name and where it stands."""
        if self.url:
            return {"name": self.name, "url": self.url}
        return {"name": self.name, "command": self.command, "args": list(self.args)}

    @property
    def reached(self) -> tuple[Any, ...]:
        """What a connection is made of: an entry that differs elsewhere goes on with the one it has."""
        return self.identity, self.headers, self.env, self.cwd, self.open, self.isolation


@dataclass(frozen=True)
class ChildEntry:
    """A process that serves several tool servers and tells its address when it is ready."""

    name: str
    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ServersFile:
    """Everything one mcp.json says."""

    path: Path
    servers: dict[str, ServerEntry]
    children: dict[str, ChildEntry]
    bundled: bool = False


def locate(configured: str, home: Path) -> Path:
    """The mcp.json in force; the bundled one when there is none."""
    if configured:
        if not Path(configured).is_file():
            raise ServersFileError(
                f"cannot read {configured}: there is no such file; correct gateway.servers or write the file"
            )
        return Path(configured)
    return next((p for p in (Path("mcp.json"), home / "mcp.json") if p.is_file()), BUNDLED)


def load(path: Path) -> ServersFile:
    """Read and check an mcp.json."""
    try:
        text = path.read_text()
        document = json.loads(text, object_pairs_hook=_unique)
    except (OSError, ValueError) as error:
        raise ServersFileError(f"cannot read {path}: {error}; correct the file") from None
    where = _Where(path, text)
    if not isinstance(document, dict) or not isinstance(document.get("mcpServers"), dict):
        raise where.error("", 'it has no object "mcpServers"; write {"mcpServers": {}}')
    ours = document.get("pointsman", {})
    children = {name: _child(name, body, where) for name, body in ours.get("children", {}).items()}
    servers = {name: _server(name, body, where) for name, body in document["mcpServers"].items()}
    return ServersFile(path, servers, children, path == BUNDLED)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return value


class _Where:
    """Finds the line of a key, for messages."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def error(self, key: str, problem: str) -> ServersFileError:
        at = self.text.find(json.dumps(key)) if key else 0
        return ServersFileError(f"{self.path}:{self.text.count(chr(10), 0, max(at, 0)) + 1}: {problem}")


def check_name(name: str) -> None:
    """Refuse a server name that would make tool names ambiguous."""
    if not _NAME.fullmatch(name) or "__" in name or name.endswith("_") or name in OURSELVES:
        raise UsageError(
            f"server name {name!r} refused: it takes letters, digits, '_', '.', '-' (at most 32), no '__', "
            "no '_' at the end, and is not 'gateway' or 'hosted'; choose another"
        )


def _server(name: str, body: Any, where: _Where) -> ServerEntry:
    try:
        check_name(name)
        return parse_entry(name, body)
    except UsageError as error:
        raise where.error(name, str(error)) from None


def parse_entry(name: str, body: Any) -> ServerEntry:
    """One entry of `mcpServers`."""
    if not isinstance(body, dict):
        raise UsageError(f"server {name!r} is not an object; write its url or its command")
    url, command = body.get("url", ""), body.get("command", "")
    if bool(url) == bool(command):
        raise UsageError(f"server {name!r} needs either a url or a command; give one of them")
    kind = body.get("type") or body.get("transport") or ("http" if url else "stdio")
    if (kind == "stdio") != bool(command) or kind not in (
        "http",
        "streamable-http",
        "streamableHttp",
        "stdio",
    ):
        raise UsageError(
            f'server {name!r} has type {kind!r}; supported are "http" with a url, "stdio" with a command'
        )
    if url and not re.match(r"https?://|\$\{", url):
        raise UsageError(f"server {name!r} has the url {url!r}; it starts with http:// or https://")
    ours = body.get("pointsman", {})
    _known(name, ours, OURS)
    if ours.get("credentials") and not url:
        raise UsageError(f"server {name!r} is a command: what it needs to log in goes into its env")
    opened = OPENABLE if ours.get("open") in (True, "all") else ours.get("open", ())
    if not set(opened) <= set(OPENABLE):
        raise UsageError(
            f"server {name!r} opens {sorted(set(opened) - set(OPENABLE))}; known are {', '.join(OPENABLE)}"
        )
    for tool, override in ours.get("tools", {}).items():
        _known(f"{name}.{tool}", override, OVERRIDES)
        _limits(f"{name}.{tool}", override)
    if ours.get("pin", "approve") not in ("approve", "trust"):
        raise UsageError(f'server {name!r} has pin {ours["pin"]!r}; write "approve" or "trust"')
    if ours.get("isolation", "") not in ("", *ISOLATION):
        raise UsageError(
            f"server {name!r} has isolation {ours['isolation']!r}; known are {', '.join(ISOLATION)}"
        )
    return ServerEntry(
        name=name,
        url=url,
        headers=_strings(name, "headers", body.get("headers", {})),
        command=command,
        args=tuple(str(a) for a in body.get("args", ())),
        env=_strings(name, "env", body.get("env", {})),
        cwd=body.get("cwd", ""),
        trusted=ours.get("pin") == "trust",
        open=frozenset(opened),
        tools=ours.get("tools", {}),
        labels=tuple(ours.get("labels", ())),
        timeout=float(ours.get("timeout", 0)),
        isolation=ours.get("isolation", ""),
        credentials=_credentials(name, ours.get("credentials", {})),
    )


def _credentials(name: str, told: Any) -> dict[str, str]:
    ways = ({"user_tokens"}, {"token_url", "client_id", "client_secret"})
    given = set(told) if isinstance(told, dict) else {"?"}
    if given and not any(way <= given <= way | {"scope", "resource"} for way in ways):
        raise UsageError(
            f"server {name!r} has credentials that name no way: write user_tokens (a directory), "
            "or token_url, client_id and client_secret (and scope, resource where they are needed)"
        )
    _strings(name, "credentials", told)
    if "client_secret" in told and "${" not in told["client_secret"]:
        raise UsageError(
            f"server {name!r} has its client_secret written out: write ${{env:NAME}} or ${{file:PATH}}"
        )
    return told


def _known(name: str, body: Any, known: frozenset[str]) -> None:
    if not isinstance(body, dict) or not set(body) <= known:
        extra = sorted(set(body) - known) if isinstance(body, dict) else body
        raise UsageError(f"{name!r} has unknown settings {extra}; known are {', '.join(sorted(known))}")


def _limits(name: str, override: dict[str, Any]) -> None:
    for key in ("atOnce", "perMinute"):
        value = override.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f"{name!r} has {key} {value!r}; write a whole number, 0 for no limit")


def _strings(name: str, what: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UsageError(f"server {name!r} has {what} that are not an object of strings")
    return value


def _child(name: str, body: Any, where: _Where) -> ChildEntry:
    if not isinstance(body, dict) or not body.get("command"):
        raise where.error(name, f"child {name!r} has no command")
    return ChildEntry(name, body["command"], tuple(body.get("args", ())), body.get("env", {}))


class References:
    """Resolves `${env:X}`, `${file:P}`, `${child:X}`, `${python}`, `${recording}`, `${config}`, `${home}`."""

    def __init__(self, home: Path, recording: str = "", config: str = "") -> None:
        self.children: dict[str, str] = {}
        self.trouble: dict[str, str] = {}  # by child: why it does not run
        self._plain = {
            "python": sys.executable,
            "recording": recording,
            "config": config,
            "home": str(home),
        }
        self.secrets: set[str] = set()

    def resolve(self, text: str) -> str:
        """The text with every reference replaced; what env and file held is remembered as secret."""
        return REFERENCE.sub(self._one, text)

    def plain(self, text: str) -> str:
        """The text with those references replaced that hold no secret, as for another program."""
        return REFERENCE.sub(lambda m: m[0] if m[2] is not None else self._plain.get(m[1], m[0]), text)

    def _one(self, match: re.Match[str]) -> str:
        kind, name = match[1], match[2] or ""
        if kind in self._plain and not name:
            return self._plain[kind]
        if kind == "child":
            if name in self.children:
                return self.children[name]
            if name in self.trouble:
                raise UsageError(f"{match[0]}: {self.trouble[name]}")
            raise NotYet(f"{match[0]} is still starting")
        if kind == "env":
            if name not in os.environ:
                raise UsageError(f"{match[0]} is not set: export {name} before the gateway starts")
            return self._secret(os.environ[name])
        if kind == "file":
            try:
                return self._secret(Path(name).read_text().strip())
            except OSError as error:
                raise UsageError(f"{match[0]} cannot be read: {error.strerror}; write the file") from None
        raise UsageError(
            f"{match[0]} is no reference; known are ${{env:X}}, ${{file:P}}, ${{python}}, ${{home}}"
        )

    def _secret(self, value: str) -> str:
        self.secrets.add(value)
        return value


def edit(path: Path, change: Any) -> None:
    """Apply `change` to the document of an mcp.json and write it back in one step."""
    document = json.loads(path.read_text()) if path.is_file() else json.loads(BUNDLED.read_text())
    change(document.setdefault("mcpServers", {}), document)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(document, indent=2) + "\n")
    fresh.replace(path)
