"""Reads the server files of other programs: Claude and Cursor, VS Code, the MCP registry."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gateway.errors import ServersFileError

_INPUT = re.compile(r"\$\{input:([^}]+)\}")
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Z][A-Z0-9_]*)\}")
_SECRET = re.compile(r"(?i)token|secret|password|key|authorization|credential")
Found = tuple[dict[str, dict[str, Any]], dict[str, str], list[str]]


def read_foreign(path: Path) -> Found:
    """(servers in our form, names left out and why, environment variables that have to be set)."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ServersFileError(f"cannot read {path}: {error}; give a JSON file") from None
    if not isinstance(document, dict):
        raise ServersFileError(f"cannot read {path}: it is not a JSON object")
    needs: list[str] = []
    if "mcpServers" in document or "servers" in document:
        servers = document.get("mcpServers") or document.get("servers")
        if not isinstance(servers, dict):
            raise ServersFileError(f"cannot read {path}: its servers are not an object")
        return {name: _entry(name, body, needs) for name, body in servers.items()}, {}, sorted(set(needs))
    if "packages" in document or "remotes" in document:
        return _registry(document)
    raise ServersFileError(
        f"cannot read {path}: it has none of mcpServers (Claude, Cursor), servers (VS Code), "
        "packages (registry)"
    )


def _entry(name: str, body: Any, needs: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if not isinstance(body, dict):
        return {}
    for field in ("url", "command", "cwd"):
        if isinstance(body.get(field), str):
            kept[field] = _reference(body[field], needs)
    if isinstance(body.get("args"), list):
        kept["args"] = [_reference(str(arg), needs) for arg in body["args"]]
    for field in ("headers", "env"):
        if isinstance(body.get(field), dict):
            kept[field] = {key: _value(name, key, str(value), needs) for key, value in body[field].items()}
    return {"type": "http", **kept} if "url" in kept else kept


def _value(server: str, key: str, value: str, needs: list[str]) -> str:
    """The value; a secret written out becomes a reference, since secrets do not belong in the file."""
    told = _reference(value, needs)
    if told == value and _SECRET.search(key) and value and "${" not in value:
        variable = _variable(f"{server}_{key}")
        needs.append(variable)
        scheme, _, rest = value.partition(" ")
        return (
            f"{scheme} ${{env:{variable}}}"
            if rest and scheme.lower() in ("bearer", "basic")
            else f"${{env:{variable}}}"
        )
    return told


def _reference(text: str, needs: list[str]) -> str:
    def asked(match: re.Match[str]) -> str:
        variable = _variable(match[1])
        needs.append(variable)
        return f"${{env:{variable}}}"

    return _VARIABLE.sub(lambda m: f"${{env:{m[1]}}}", _INPUT.sub(asked, text))


def _variable(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").upper()


def _registry(document: dict[str, Any]) -> Found:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", str(document.get("name", "server")).rpartition("/")[2])[
        :32
    ].rstrip("_")
    needs: list[str] = []
    for remote in document.get("remotes") or ():
        kind = remote.get("type") or remote.get("transport_type")
        if kind in ("streamable-http", "http") and remote.get("url"):
            headers = {
                h["name"]: _asked(name, h, needs) for h in remote.get("headers") or () if h.get("name")
            }
            body = {"type": "http", "url": remote["url"], **({"headers": headers} if headers else {})}
            return {name: body}, {}, needs
    for package in document.get("packages") or ():
        kind = package.get("registryType") or package.get("registry_type") or package.get("registry_name")
        identifier = package.get("identifier") or package.get("name")
        version = package.get("version", "")
        runner = {"npm": ("npx", ["-y"], "@"), "pypi": ("uvx", [], "==")}.get(str(kind))
        if runner is None or not identifier:
            continue
        command, args, join = runner
        told = package.get("environmentVariables") or package.get("environment_variables") or ()
        env = {
            v["name"]: _asked(name, v, needs)
            for v in told
            if v.get("name") and (v.get("isRequired") or v.get("is_required"))
        }
        target = f"{identifier}{join}{version}" if version else str(identifier)
        body = {"command": command, "args": [*args, target], **({"env": env} if env else {})}
        return {name: body}, {}, needs
    return {}, {name: "it offers neither a streamable-http remote nor an npm or PyPI package"}, []


def _asked(server: str, variable: dict[str, Any], needs: list[str]) -> str:
    if isinstance(variable.get("value"), str) and "{" not in variable["value"]:
        return variable["value"]
    name = _variable(variable["name"] if "-" not in variable["name"] else f"{server}_{variable['name']}")
    needs.append(name)
    return f"${{env:{name}}}"
