"""The commands of the gateway: run it, and register tool servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer

from gateway.cli_audit import commands as audit_commands
from gateway.cli_governance import commands as governance_commands
from gateway.cli_servers import servers_app

Config = Annotated[str | None, typer.Option("--config", help="settings file (default: ./pointsman.toml)")]


class Command(NamedTuple):
    """One entry of a package's `commands`: its name, and a typer app or a function."""

    name: str
    app: typer.Typer | Callable[..., Any]


def gateway(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 takes a free one")] = None,
    recording: Annotated[
        str | None, typer.Option(help="recorded incident for the bundled tool servers")
    ] = None,
    ready_fd: Annotated[int | None, typer.Option(help="write one JSON line here when ready")] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="end when the starting process ends")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log more")] = False,
    config: Config = None,
) -> None:
    """Run the MCP gateway alone."""
    import logging

    from gateway import process, settings

    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if with_parent:
        process.die_with_parent()
    with process.Ready(ready_fd) as ready:
        loaded = settings.load(config, host=host, port=port, recording=recording)
        work = process.serve(loaded, settings.home(), ready, with_parent=with_parent)
        try:
            import uvloop
        except ImportError:
            asyncio.run(work)
        else:
            uvloop.run(work)


def connect(
    subject: Annotated[
        str | None, typer.Option("--as", help="who calls: agent:NAME or user:NAME; else POINTSMAN_TOKEN says")
    ] = None,
    role: Annotated[list[str] | None, typer.Option("--role", help="a role; may be given again")] = None,
    server: Annotated[str | None, typer.Option("--server", help="only this tool server")] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="a gateway elsewhere; needs POINTSMAN_TOKEN")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log more")] = False,
    config: Config = None,
) -> None:
    """Be an MCP server on stdin and stdout, for clients that start one.

    Example: pointsman connect --as agent:claude --role specialist
    """
    import logging
    import os

    from gateway import settings, stdio_front
    from gateway.joining import door

    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    loaded, token = settings.load(config), os.environ.get("POINTSMAN_TOKEN", "")
    there = door(settings.home(), config, url or "", token, subject or "", tuple(role or ()))
    path = f"/servers/{server}/mcp" if server else "/mcp"
    work = stdio_front.serve(there, path, connect_seconds=loaded.connect_seconds, limit=loaded.max_body_bytes)
    asyncio.run(work)


commands: list[Command] = [
    Command("gateway", gateway),
    Command("connect", connect),
    Command("servers", servers_app),
    *(Command(name, app) for name, app in (*governance_commands, *audit_commands)),
]
