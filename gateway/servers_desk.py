"""What the `servers` commands do: through the running gateway, or in this process when none runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gateway import servers_file
from gateway.admin import add_entry
from gateway.caller import Caller
from gateway.catalogue import OPERATOR
from gateway.errors import GatewayError, Refusal, UsageError
from gateway.printing import table
from gateway.remote import call_admin, only_one, running
from gateway.settings import Settings, home, load


def entry_of(target: list[str], headers: list[str], env: list[str], open_all: bool) -> dict[str, Any]:
    """The mcp.json entry for a URL or a command as typed."""
    from gateway.servers_import import is_secret, variable

    body: dict[str, Any]
    if re.match(r"https?://", target[0]):
        if len(target) > 1 or env:
            raise UsageError("a URL takes no arguments and no --env: give them to the server itself")
        body = {"type": "http", "url": target[0]}
        pairs = [header.partition(":") for header in headers]
        if any(not colon for _, colon, _ in pairs):
            raise UsageError("a header is written 'NAME: VALUE'")
        if pairs:
            body["headers"] = {name.strip(): value.strip() for name, _, value in pairs}
    else:
        if headers:
            raise UsageError("a command takes no headers: give it --env")
        body = {"command": target[0], "args": target[1:]}
        variables = [pair.partition("=") for pair in env]
        if any(not equals for _, equals, _ in variables):
            raise UsageError("a variable is written NAME=VALUE; secrets as NAME=${env:OTHER}")
        if variables:
            body["env"] = {name: value for name, _, value in variables}
    for kind in ("headers", "env"):
        for key, value in body.get(kind, {}).items():
            if is_secret(key, value):
                raise UsageError(
                    f"{key} looks like a secret, and secrets do not belong in mcp.json: put it into the "
                    f"environment of the gateway and write '${{env:{variable(key)}}}' in its place"
                )
    if open_all:
        body["pointsman"] = {"open": list(servers_file.OPENABLE)}
    return body


def tools_text(tools: list[dict[str, Any]]) -> str:
    """A server's tools as columns."""
    rows = [
        (f"  {t['name']}", t["standing"], t["risk"], "; ".join(t["flags"]), t["description"][:70])
        for t in tools
    ]
    return table(("  tool", "standing", "risk", "flags", "description"), rows, none="  it offers no tools")


class ServersDesk:
    """Where an operator works on the servers of one gateway."""

    def __init__(self, config: str | None = None) -> None:
        self.settings: Settings = load(config)
        self.home: Path = home()

    @property
    def path(self) -> Path:
        """The file that is written: never the bundled one."""
        found = servers_file.locate(self.settings.servers, self.home)
        return self.home / "mcp.json" if found == servers_file.BUNDLED else found

    async def ask(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer of an admin tool, of the running gateway or of one opened for this command."""
        told = await call_admin(self.home, tool, arguments)
        return told if told is not None else await self._here(tool, arguments)

    async def _here(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        from gateway.app import open_app

        with only_one(self.home):
            quiet = self.settings.model_copy(update={"checkpoints_also": ""})  # stdout is the command's
            async with open_app(quiet, self.home) as app:
                if tool == "list_servers":
                    return await self._idle(app, arguments)
                if "${child:" in app.catalogue.get(arguments["name"]).entry.url:
                    raise UsageError(
                        f"{arguments['name']} runs with the gateway only: start `pointsman gateway` first"
                    )
                return await self._call(app, tool, arguments)

    async def _idle(self, app: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        told = await self._call(app, "list_servers", arguments)
        for server in told["servers"]:
            server["state"] = "not running"
        return told

    async def _call(self, app: Any, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        params = {"name": f"gateway__{tool}", "arguments": arguments}
        result = await app.gateway.call(Caller(OPERATOR), "tools/call", params)
        text = "; ".join(part.get("text", "") for part in result.get("content", ()))
        if refusal := (result.get("_meta") or {}).get("pointsman/refusal"):
            raise Refusal(refusal["code"], text)
        if result.get("isError"):
            raise GatewayError(text)
        return result["structuredContent"]

    async def add(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Write the entry and look at the server; commands come only this way, never over MCP."""
        add_entry(self.path, name, body)
        try:
            return await self.ask("test_server", {"name": name})
        except Refusal:
            servers_file.edit(self.path, lambda servers, _: servers.pop(name, None))
            raise

    def export(self) -> dict[str, Any]:
        """The servers without what is ours, and what in them means nothing elsewhere."""
        from gateway.servers_import import is_secret, variable

        document = json.loads(servers_file.locate(self.settings.servers, self.home).read_text())
        ours = servers_file.References(self.home, self.settings.recording, self.settings.source)

        def told(name: str, value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                return {k: told(name, v, k) for k, v in value.items()}
            if isinstance(value, list):
                return [told(name, each) for each in value]
            if isinstance(value, str) and is_secret(key, value):  # somebody wrote it into the file
                return f"${{env:{variable(f'{name}_{key}')}}}"
            return ours.plain(value) if isinstance(value, str) else value

        return {
            "mcpServers": {
                name: told(name, {key: value for key, value in body.items() if key != "pointsman"})
                for name, body in document.get("mcpServers", {}).items()
                if "${child:" not in body.get("url", "")
            }
        }

    async def take_over(self, file: str, only: list[str], dry_run: bool) -> dict[str, Any]:
        """Add the servers of another program's file."""
        from gateway.servers_import import read_foreign

        found = read_foreign(Path(file))
        wanted = {name: body for name, body in found.servers.items() if not only or name in only}
        taken = servers_file.load(servers_file.locate(self.settings.servers, self.home)).servers
        for name in [name for name in wanted if name in taken]:
            found.left_out[name] = "there is a server of this name already"
            del wanted[name]
        if missing := [name for name in only if name not in found.servers and name not in found.left_out]:
            raise UsageError(f"no server {', '.join(missing)} in {file}: it has {', '.join(found.servers)}")
        if not dry_run and wanted:
            servers_file.edit(self.path, lambda servers, _: servers.update(wanted))
            if running(self.home) is not None:
                await self.ask("list_servers", {})
        used = json.dumps(wanted)
        needs = {name: about for name, about in sorted(found.needs.items()) if f"${{env:{name}}}" in used}
        told = {"servers": wanted, "left_out": found.left_out, "needs": needs, "notes": found.notes}
        return {**told, "file": str(self.path)}
