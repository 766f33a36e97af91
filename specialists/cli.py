"""The specialists' part of the command line: list, test, set, serve."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="See where each specialist runs, test it, move it, and serve it to others.",
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
    mode: Annotated[str, typer.Option("--mode", help="local, remote or cloud")],
    url: Annotated[str | None, typer.Option(help="remote: where the agent is")] = None,
    token_env: Annotated[str | None, typer.Option(help="remote: the variable that holds its token")] = None,
    gateway_url: Annotated[
        str | None, typer.Option(help="remote: our gateway as the agent reaches it")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="cloud: compatible, openai or foundry")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="cloud: an OpenAI-compatible endpoint, or a project")
    ] = None,
    model: Annotated[str | None, typer.Option(help="cloud: the model's name")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="cloud: the variable that holds the key")] = None,
    hosted: Annotated[
        list[str] | None, typer.Option(help="cloud: a tool of the provider to offer; may be repeated")
    ] = None,
    bing_connection: Annotated[
        str | None, typer.Option(help="foundry: the project's Bing connection")
    ] = None,
    fallback: Annotated[str | None, typer.Option(help="cloud: none or local")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Write where a specialist runs into the settings file; comments stay, nothing else changes.

    Example: pointsman specialists set logs --mode cloud --provider openai --base-url https://api.openai.com/v1
    --model gpt-5 --hosted code_interpreter
    """
    from specialists.rewrite import set_table

    given: dict[str, Any] = {"url": url, "token_env": token_env, "gateway_url": gateway_url}
    given |= {"provider": provider, "base_url": base_url, "model": model, "api_key_env": api_key_env}
    given |= {"hosted": hosted or None, "bing_connection": bing_connection, "fallback": fallback}
    changes = {"mode": mode} | {key: value for key, value in given.items() if value is not None}
    path = set_table(config, name, changes)
    if as_json:
        print(json.dumps({"specialist": name, "file": str(path), **changes}, indent=2))
    else:
        print(f"{name}: {mode}, {_roster(str(path)).where(name)}; written to {path}")


@app.command()
def serve(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="the specialists to serve")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one")] = 8431,
    gateway: Annotated[
        list[str] | None, typer.Option(help="a gateway that callers may send it to; may be repeated")
    ] = None,
    token_env: Annotated[
        str, typer.Option(help="the variable that holds the token callers must give")
    ] = "POINTSMAN_SPECIALIST_TOKEN",
    token_file: Annotated[Path | None, typer.Option(help="a file that holds it instead")] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="let everybody on this machine ask; loopback only")
    ] = False,
    jwt_issuer: Annotated[str, typer.Option(help="whose OAuth access tokens are taken, as in `iss`")] = "",
    jwt_jwks: Annotated[str, typer.Option(help="that issuer's public keys: a JWKS URL or file")] = "",
    jwt_audience: Annotated[str, typer.Option(help="whom such a token must be for, as in `aud`")] = "",
    jwt_scope: Annotated[
        list[str] | None, typer.Option(help="a scope that it must have; may be repeated")
    ] = None,
    url: Annotated[str, typer.Option(help="how callers reach it, when a proxy stands before it")] = "",
    ready_fd: Annotated[int | None, typer.Option(help="write one JSON line here when ready")] = None,
    config: Config = None,
) -> None:
    """Serve specialists to other machines as A2A agents.

    Example: pointsman specialists serve logs --host 0.0.0.0 --gateway http://gateway.internal:8420/mcp
    """
    import logging

    from specialists.remote.access import AllowedGateways, is_loopback, read_token
    from specialists.remote.tokens import Issuer

    only_here = is_loopback(host)
    named = jwt_issuer or jwt_jwks or jwt_audience or jwt_scope
    issuer = Issuer(jwt_issuer, jwt_jwks, jwt_audience, frozenset(jwt_scope or ())) if named else None
    without = no_token and issuer is None
    token = read_token(token_env, token_file, without=without, only_here=only_here, needed=issuer is None)
    allowed = AllowedGateways.named(gateway or [], only_here=only_here)
    roster = _roster(config)
    specialists = [roster.here(name) for name in dict.fromkeys(names)]
    from specialists.remote.serving import Serving
    from specialists.remote.serving import serve as serve_them

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    serve_them(specialists, Serving(host, port, allowed, token, issuer, url, ready_fd))


def _roster(config: str | None) -> Any:
    from specialists.roster import Roster
    from specialists.settings import SpecialistsSettings

    return Roster.from_settings(SpecialistsSettings.load(config))
