"""Reads the server files of other programs: Claude and Cursor, VS Code, the MCP registry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import ServersFileError, UsageError
from gateway.redaction import Redactor
from gateway.servers_file import REFERENCE, check_name, parse_entry

HTTP = ("http", "streamable-http", "streamableHttp")
TAKEN = frozenset(("type", "transport", "url", "command", "args", "env", "headers", "cwd"))
OFF = frozenset(("disabled",))
RUNNERS = {"npm": ("npx", ("-y",), "@"), "pypi": ("uvx", (), "==")}
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
_INPUT = re.compile(r"\$\{input:([^}]+)\}")
_VARIABLE = re.compile(r"\$\{(?:env:([A-Za-z_][A-Za-z0-9_]*)|([A-Z][A-Z0-9_]*))(?::-[^}]*)?\}")
_BRACES = re.compile(r"\{([A-Za-z0-9_.-]+)\}")
_SECRET = re.compile(
    r"(?i)(?:^|[_-])(?:api)?(?:key|token|secret|password|passwd|pwd|pat|auth|authorization|credentials?|cookie)s?$"
)
_QUERY = re.compile(r"([?&])([A-Za-z0-9_-]+)=([^&#]+)")
_FLAG = re.compile(r"(--?[A-Za-z0-9-]+)=(.+)", re.DOTALL)
_LOOK = Redactor()


@dataclass
class Foreign:
    """What was found in another program's file, in our form."""

    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # by name: why
    needs: dict[str, str] = field(default_factory=dict)  # environment variables to set, and what they are
    notes: list[str] = field(default_factory=list)  # what was not taken over as it stood


def read_foreign(path: Path) -> Foreign:
    """The servers of a file; secrets in it become references, and what they refer to is told in `needs`."""
    document = _read(path)
    found = Foreign()
    inner = document.get("mcp")  # VS Code's settings.json
    if isinstance(inner, dict) and "servers" in inner:
        document = inner
    servers = document.get("mcpServers", document.get("servers"))
    if servers is not None:
        if not isinstance(servers, dict):
            raise ServersFileError(f"cannot read {path}: its servers are not an object")
        inputs = {i.get("id"): i for i in document.get("inputs") or () if isinstance(i, dict)}
        for name, body in servers.items():
            _take(found, str(name), lambda own, body=body: _entry(found, own, body, inputs))
        return found
    told = (
        document["server"] if isinstance(document.get("server"), dict) else document
    )  # the registry's answer
    if "packages" in told or "remotes" in told:
        name = str(told.get("name") or "server").rpartition("/")[2]
        _take(found, name, lambda own: _registry(found, own, told))
        return found
    raise ServersFileError(
        f"cannot read {path}: it has none of mcpServers (Claude, Cursor), servers (VS Code), "
        "packages or remotes (registry)"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        try:
            document = json.loads(text)
        except ValueError:  # VS Code's files may have comments and commas too many
            plain = _COMMENT.sub(lambda m: m[1] or "", text)
            document = json.loads(_TRAILING.sub(lambda m: m[1] or "", plain))
    except (OSError, ValueError) as error:
        raise ServersFileError(f"cannot read {path}: {error}; give a JSON file") from None
    if not isinstance(document, dict):
        raise ServersFileError(f"cannot read {path}: it is not a JSON object")
    return document


def _take(found: Foreign, name: str, make: Callable[[str], dict[str, Any]]) -> None:
    """Take a server in under a name that may stand, or say why not."""
    own = own_name(name)
    needs = dict(found.needs)
    try:
        if own in found.servers:
            raise UsageError(f"its name here would be {own!r}, as of another one: rename one of them")
        check_name(own)
        body = make(own)
        parse_entry(own, body)
    except UsageError as error:
        found.left_out[name] = str(error)
        found.needs = needs
        return
    found.servers[own] = body
    if own != name:
        found.notes.append(f"{name!r} is called {own!r} here")


def own_name(name: str) -> str:
    """A server's name as we can have it."""
    plain = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_.-]+", "-", name)).lstrip("_.-")
    return plain[:32].rstrip("_.-") or "server"


# -- mcpServers and servers --------------------------------------------------------------------------


def _entry(found: Foreign, name: str, body: Any, inputs: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise UsageError("its entry is not an object")
    if body.get("disabled") is True:
        raise UsageError("it is disabled there")
    kind = str(body.get("type") or body.get("transport") or ("http" if body.get("url") else "stdio"))
    if kind not in (*HTTP, "stdio"):
        raise UsageError(
            f"its type is {kind!r}, which is not supported: ask its maker for a streamable HTTP address"
        )
    if extra := sorted(str(key) for key in body.keys() - TAKEN - OFF):
        found.notes.append(f"{name}: not taken over: {', '.join(extra)}")
    refer = _References(found, name, inputs)
    kept: dict[str, Any] = {"type": "http"} if kind != "stdio" else {}
    if isinstance(body.get("url"), str):
        kept["url"] = refer.url(body["url"])
    for word in ("command", "cwd"):
        if isinstance(body.get(word), str):
            kept[word] = refer.plain(body[word])
    if isinstance(body.get("args"), list):
        kept["args"] = refer.arguments([str(each) for each in body["args"]])
    for word in ("headers", "env"):
        if isinstance(body.get(word), dict):
            given = {str(k): str(v) for k, v in body[word].items() if v is not None}
            kept[word] = {key: refer.value(key, value) for key, value in given.items()}
    return kept


class _References:
    """Turns other programs' references, and secrets written out, into references of ours."""

    def __init__(self, found: Foreign, server: str, inputs: dict[Any, dict[str, Any]]) -> None:
        self._found = found
        self._server = server
        self._inputs = inputs

    def plain(self, text: str) -> str:
        """The text with the references it has."""
        text = _INPUT.sub(lambda m: self._need(variable(m[1]), self._about(m[1])), text)
        text = (
            text.replace("${userHome}", str(Path.home()))
            .replace("${pathSeparator}", "/")
            .replace("${/}", "/")
        )
        text = _VARIABLE.sub(lambda m: self._need(m[1] or m[2], ""), text) if "${" in text else text
        for match in REFERENCE.finditer(text):
            if match[1] != "env":
                raise UsageError(f"it uses {match[0]}, which means nothing here: write what it stands for")
        if "${" in REFERENCE.sub("", text):
            raise UsageError(f"it uses a reference that means nothing here: {text!r}")
        return text

    def value(self, key: str, text: str) -> str:
        """A header or a variable of the environment: a secret does not stay in the file."""
        told = self.plain(text)
        return self.hidden(key, told) if is_secret(key, told) else told

    def hidden(self, key: str, text: str) -> str:
        """A reference in place of a secret, the word before it kept."""
        scheme, _, rest = text.partition(" ")
        about = f"the {key} of {self._server}, which stood in the file"
        told = self._need(variable(f"{self._server}_{key}"), about)
        return f"{scheme} {told}" if rest and scheme.lower() in ("bearer", "basic", "token") else told

    def url(self, text: str) -> str:
        """An address, its password and the secrets of its query taken out."""

        def asked(match: re.Match[str]) -> str:
            return f"{match[1]}{match[2]}={self.value(match[2], match[3])}"

        told = _QUERY.sub(asked, self.plain(text))
        bare = REFERENCE.sub("", told)
        return self.hidden("url", told) if _LOOK.text(bare) != bare else told

    def arguments(self, given: list[str]) -> list[str]:
        """The arguments of a command; what follows `--token` and the like is a secret."""
        told: list[str] = []
        for n, text in enumerate(given):
            before = given[n - 1] if n and given[n - 1].startswith("-") and "=" not in given[n - 1] else ""
            flag = _FLAG.fullmatch(text)
            if flag and "${" not in flag[1]:
                told.append(f"{flag[1]}={self.value(flag[1].lstrip('-'), flag[2])}")
            elif text.startswith("-"):
                told.append(self.plain(text))
            else:
                told.append(self.value(before.lstrip("-") or f"argument_{n + 1}", text))
        return told

    def _about(self, number: str) -> str:
        told = self._inputs.get(number) or {}
        return str(told.get("description") or "")

    def _need(self, name: str, about: str) -> str:
        self._found.needs[name] = self._found.needs.get(name) or about
        return f"${{env:{name}}}"


def is_secret(key: str, text: str) -> bool:
    """Whether this is a secret written out: by the name it has, or by how it looks."""
    if not text or "${" in text:
        return False
    return bool(_SECRET.search(key)) or _LOOK.text(text) != text


def variable(text: str) -> str:
    """A name for the environment."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").upper()


# -- the registry's server.json ----------------------------------------------------------------------


def _of(body: Any, name: str) -> Any:
    """A member by its name of today, or by the older one with underscores."""
    if not isinstance(body, dict):
        return None
    older = re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", name)
    return body.get(name, body.get(older))


def _registry(found: Foreign, name: str, document: dict[str, Any]) -> dict[str, Any]:
    why: list[str] = []
    for remote in document.get("remotes") or ():
        kind = _of(remote, "type") or _of(remote, "transportType")
        if kind in HTTP and isinstance(remote.get("url"), str):
            return _remote(found, name, remote)
        why.append(f"a remote of type {kind!r}")
    for package in document.get("packages") or ():
        kind = str(_of(package, "registryType") or _of(package, "registryName"))
        reached = _of(_of(package, "transport") or {}, "type") or "stdio"
        if (kind in RUNNERS or kind in ("oci", "docker")) and reached == "stdio" and _identifier(package):
            return _package(found, name, package, kind)
        why.append(f"a package of {kind!r} reached by {reached}")
    raise UsageError(
        f"it offers {' and '.join(why) or 'nothing'}; supported are a streamable-http remote, and packages "
        "of npm, pypi and oci on stdio"
    )


def _identifier(package: dict[str, Any]) -> str:
    return str(package.get("identifier") or package.get("name") or "")


def _remote(found: Foreign, name: str, remote: dict[str, Any]) -> dict[str, Any]:
    asked = _Asked(found, name)
    body: dict[str, Any] = {"type": "http", "url": asked.filled(remote["url"], remote)}
    if headers := asked.all(remote.get("headers"), f"{name}_"):
        body["headers"] = headers
    return body


def _package(found: Foreign, name: str, package: dict[str, Any], kind: str) -> dict[str, Any]:
    asked = _Asked(found, name)
    identifier, version = _identifier(package), str(package.get("version") or "")
    env = asked.all(_of(package, "environmentVariables"), "")
    before = asked.arguments(_of(package, "runtimeArguments"))
    after = asked.arguments(_of(package, "packageArguments"))
    if kind in RUNNERS:
        command, flags, join = RUNNERS[kind]
        flags = [flag for flag in flags if flag not in before]
    else:
        command, flags, join = "docker", ["run", "-i", "--rm"], ":"
        flags += [word for variable_ in env for word in ("-e", variable_)]
        if "@" in identifier or ":" in identifier.rpartition("/")[2]:
            version = ""  # it names its version itself
    target = f"{identifier}{join}{version}" if version else identifier
    body: dict[str, Any] = {"command": command, "args": [*flags, *before, target, *after]}
    return {**body, "env": env} if env else body


class _Asked:
    """What a registry entry asks its user for."""

    def __init__(self, found: Foreign, server: str) -> None:
        self._found = found
        self._server = server

    def all(self, given: Any, prefix: str) -> dict[str, str]:
        """Headers or variables by name; those nobody has to give and that have no value are left out."""
        kept: dict[str, str] = {}
        for each in given or ():
            name = each.get("name") if isinstance(each, dict) else None
            if isinstance(name, str) and name:
                if (value := self._value(each, variable(f"{prefix}{name}") if prefix else name)) is not None:
                    kept[name] = value
                else:
                    self._found.notes.append(
                        f"{self._server}: {name} may be set too: {each.get('description', '')}"
                    )
        return kept

    def arguments(self, given: Any) -> list[str]:
        """The arguments of a command."""
        words: list[str] = []
        for each in given or ():
            if not isinstance(each, dict):
                continue
            name = str(each.get("name") or _of(each, "valueHint") or "argument")
            named = each.get("type") == "named"
            flag = _of(each, "format") == "boolean" or (named and not _asks(each))
            if named and flag:
                words += [name] if str(each.get("value", each.get("default", "true"))) != "false" else []
                continue
            value = self._value(each, variable(f"{self._server}_{name}"))
            if value is not None:
                words += [name, value] if named else [value]
        return words

    def filled(self, text: str, told: dict[str, Any]) -> str:
        """A text whose {variables} are references."""
        about = told.get("variables") if isinstance(told.get("variables"), dict) else {}

        def one(match: re.Match[str]) -> str:
            each = about.get(match[1]) if isinstance(about, dict) else None
            each = each if isinstance(each, dict) else {"isRequired": True}
            value = self._value(each, variable(f"{self._server}_{match[1]}"), required=True)
            return str(value)

        return _BRACES.sub(one, text)

    def _value(self, told: dict[str, Any], name: str, *, required: bool = False) -> str | None:
        secret = bool(_of(told, "isSecret"))
        if isinstance(told.get("value"), str):
            value = self.filled(told["value"], told)
            return self._need(name, told) if is_secret(name if secret else "", value) else value
        default = told.get("default")
        if default is not None and not secret:
            return str(default)
        if secret or required or _of(told, "isRequired"):
            return self._need(name, told)
        return None

    def _need(self, name: str, told: dict[str, Any]) -> str:
        self._found.needs[name] = str(told.get("description") or "")
        return f"${{env:{name}}}"


def _asks(told: dict[str, Any]) -> bool:
    words: Iterable[str] = ("value", "default", "valueHint", "isRequired", "isSecret", "variables", "choices")
    return any(_of(told, word) is not None for word in words)
