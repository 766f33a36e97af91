"""The commands for tool servers: add, list, test, diff, approve, remove, import, export."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

Config = Annotated[str | None, typer.Option("--config", help="settings file (default: ./pointsman.toml)")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Name = Annotated[str, typer.Argument(help="the server's name")]

servers_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="Register tool servers; a new one is quarantined until you approve it.",
)


def _desk(config: str | None) -> Any:
    from gateway.servers_desk import ServersDesk

    return ServersDesk(config)


def _show(value: Any, as_json: bool, text: str) -> None:
    from gateway import printing

    typer.echo(printing.as_json(value) if as_json else text)


@servers_app.command("add", context_settings={"allow_extra_args": True, "ignore_unknown_options": False})
def add(
    context: typer.Context,
    name: Name,
    target: Annotated[list[str], typer.Argument(help="URL, or -- COMMAND ARG…")],
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="NAME: VALUE sent to the server")
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE for the command")] = None,
    open_all: Annotated[bool, typer.Option("--open", help="allow everything the server may ask for")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Register a server by URL or command; shows its tools, which stay quarantined."""
    from gateway.servers_desk import entry_of, tools_text

    told = asyncio.run(_desk(config).add(name, entry_of(target, header or [], env or [], open_all)))
    lines = [
        f"{name}: {told['state']}" + (f" ({told['stage']}: {told['error']})" if told.get("error") else "")
    ]
    lines += [tools_text(told["tools"])] if told.get("tools") else []
    lines += [f"approve them with: pointsman servers approve {name}"] if told.get("tools") else []
    _show(told, as_json, "\n".join(lines))


@servers_app.command("list")
def list_servers(as_json: AsJson = False, config: Config = None) -> None:
    """Show every server: state, era, tools, last error, calls, p95."""
    from gateway.printing import table

    told = asyncio.run(_desk(config).ask("list_servers", {}))
    rows = [
        (
            s["name"],
            s["state"],
            s["era"],
            f"{s['approved']}/{s['tools']}",
            s["calls"],
            "" if s["p95_ms"] is None else s["p95_ms"],
            f"{s['stage']}: {s['error']}" if s["error"] else s["target"],
        )
        for s in told["servers"]
    ]
    head = ("name", "state", "era", "tools", "calls", "p95 ms", "target or error")
    _show(told, as_json, table(head, rows, none="no servers: add one with `pointsman servers add NAME URL`"))


@servers_app.command("test")
def test(name: Name, as_json: AsJson = False, config: Config = None) -> None:
    """Connect to a server and list its tools; names the stage that fails."""
    from gateway.servers_desk import tools_text

    told = asyncio.run(_desk(config).ask("test_server", {"name": name}))
    if told["ok"]:
        warning = f"\nwarning: {told['warning']}" if told.get("warning") else ""
        unused = told.get("no_rule_permits")
        policy = f"\npolicy: no rule permits anybody {', '.join(unused)}" if unused else ""
        _show(told, as_json, f"{name}: ok, {told['era']}\n{tools_text(told['tools'])}{warning}{policy}")
        return
    _show(told, as_json, f"{name}: failed at {told['stage']}: {told['error']}")
    raise typer.Exit(5)


@servers_app.command("diff")
def diff(name: Name, as_json: AsJson = False, config: Config = None) -> None:
    """Show what a server offers against what was approved."""
    from gateway.printing import safe

    told = asyncio.run(_desk(config).ask("diff_server", {"name": name}))
    lines = []
    for tool in told["tools"]:
        marks = f"  [{'; '.join(tool['flags'])}]" if tool["flags"] else ""
        lines.append(f"{tool['name']}: {tool['standing']}, {tool['risk']}{marks}")
        lines += [f"  {line}" for line in tool["diff"]]
    if told["error"]:
        lines.append(f"{name} cannot be looked at just now ({told['error']}): this is what it last offered")
    _show(told, as_json, safe("\n".join(lines), lines=True) or f"{name}: everything is as approved")


@servers_app.command("approve")
def approve(
    name: Name,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", help="only this tool; may be given again")
    ] = None,
    unflagged: Annotated[
        bool, typer.Option("--unflagged", help="what the definition check did not flag")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="everything, flagged or not")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Approve a server's definitions as they are now."""
    arguments: dict[str, Any] = {"name": name, "unflagged": unflagged, "all": everything}
    if tool:
        arguments["tools"] = tool
    told = asyncio.run(_desk(config).ask("approve_server", arguments))
    waiting = f"; waiting: {', '.join(told['waiting'])}" if told["waiting"] else ""
    _show(told, as_json, f"{name}: approved {', '.join(told['approved']) or 'nothing'}{waiting}")


@servers_app.command("remove")
def remove(name: Name, as_json: AsJson = False, config: Config = None) -> None:
    """Remove a server and forget what was approved of it."""
    told = asyncio.run(_desk(config).ask("remove_server", {"name": name}))
    _show(told, as_json, f"{name}: removed")


@servers_app.command("import")
def import_file(
    file: Annotated[str, typer.Argument(help="mcpServers JSON, VS Code mcp.json, or a registry server.json")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="only this server; may be given again")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be written")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Take servers over from another program's file; all of them start quarantined."""
    from gateway import printing

    told = asyncio.run(_desk(config).take_over(file, only or [], dry_run))
    lines = [f"{'would add' if dry_run else 'added'} {name}" for name in told["servers"]]
    lines += [f"left out {name}: {why}" for name, why in told["left_out"].items()]
    lines += [f"note: {note}" for note in told["notes"]]
    lines += [
        f"set {name} in the environment before the gateway starts" + (f": {about}" if about else "")
        for name, about in told["needs"].items()
    ]
    _show(told, as_json, printing.safe("\n".join(lines), lines=True) or "nothing to add")


@servers_app.command("export")
def export(as_json: AsJson = False, config: Config = None) -> None:
    """Print the servers as plain mcpServers JSON; secrets stay references."""
    from gateway import printing

    typer.echo(printing.as_json(_desk(config).export()))
