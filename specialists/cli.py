"""The specialists' part of the command line: list, test, set."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="See where each specialist runs, test it, and move it.",
)
commands = [("specialists", app)]

Config = Annotated[str | None, typer.Option("--config", help="settings file (default: ./pointsman.toml)")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Name = Annotated[str, typer.Argument(help="the specialist")]


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None) -> None:
    """Show every specialist: its mode, where it runs, the tools it needs, and whether it is ready."""
    from specialists.selfcheck import roll_call

    rows = roll_call(_roster(config))
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    columns = ("name", "mode", "where", "tools", "state")
    table = [dict(zip(columns, map(str.upper, columns), strict=True))]
    table += [row | {"tools": " ".join(row["tools"])} for row in rows]
    widths = {column: max(len(row[column]) for row in table) for column in columns}
    for row in table:
        print("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())


@app.command()
def test(name: Name, as_json: AsJson = False, config: Config = None) -> None:
    """Check one specialist through the running gateway: card, mode, gateway, tools, model endpoint."""
    from specialists.selfcheck import self_check

    checks = asyncio.run(self_check(_roster(config), name))
    if as_json:
        print(json.dumps({"specialist": name, "checks": [check.told() for check in checks]}, indent=2))
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:8}  {check.detail}")
    raise typer.Exit(max(check.exit_code for check in checks))


@app.command("set")
def set_(
    name: Name,
    mode: Annotated[str, typer.Option("--mode", help="local or cloud")],
    base_url: Annotated[str | None, typer.Option(help="cloud: an OpenAI-compatible endpoint")] = None,
    model: Annotated[str | None, typer.Option(help="cloud: the model's name")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="cloud: the variable that holds the key")] = None,
    fallback: Annotated[str | None, typer.Option(help="cloud: none or local")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Write where a specialist runs into the settings file; comments stay, nothing else changes."""
    from specialists.rewrite import set_table

    given = {"base_url": base_url, "model": model, "api_key_env": api_key_env, "fallback": fallback}
    changes: dict[str, Any] = {"mode": mode} | {
        key: value for key, value in given.items() if value is not None
    }
    path = set_table(config, name, changes)
    if as_json:
        print(json.dumps({"specialist": name, "file": str(path), **changes}, indent=2))
    else:
        print(f"{name}: {mode}, {_roster(str(path)).where(name)}; written to {path}")


def _roster(config: str | None) -> Any:
    from specialists.roster import Roster
    from specialists.settings import SpecialistsSettings

    return Roster.from_settings(SpecialistsSettings.load(config))
