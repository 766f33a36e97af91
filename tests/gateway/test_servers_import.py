"""Server files of other programs: what becomes of them, and that no secret stays in ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ServersFileError, UsageError
from gateway.servers_desk import entry_of
from gateway.servers_file import REFERENCE, check_name, load, parse_entry
from gateway.servers_import import Foreign, own_name, read_foreign


def foreign(tmp_path: Path, document: Any) -> Foreign:
    """What is made of this document."""
    path = tmp_path / "other.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_foreign(path)


def one(tmp_path: Path, body: dict[str, Any]) -> dict[str, Any]:
    """What is made of one entry of an mcpServers file."""
    return foreign(tmp_path, {"mcpServers": {"it": body}}).servers["it"]


def test_claude_and_cursor_files_are_taken_over(tmp_path: Path) -> None:
    found = foreign(
        tmp_path,
        {
            "mcpServers": {
                "files": {
                    "command": "npx",
                    "args": ["-y", "@x/files", "${userHome}/notes"],
                    "env": {"LEVEL": "2"},
                },
                "hub": {"url": "https://hub.example/mcp", "headers": {"X-Team": "sre"}},
                "claude": {"command": "x", "env": {"A": "${A_TOKEN:-none}", "B": "${env:B_HOST}"}},
            },
            "globalShortcut": "Ctrl+Space",
        },
    )
    assert found.servers == {
        "files": {
            "command": "npx",
            "args": ["-y", "@x/files", f"{Path.home()}/notes"],
            "env": {"LEVEL": "2"},
        },
        "hub": {"type": "http", "url": "https://hub.example/mcp", "headers": {"X-Team": "sre"}},
        "claude": {"command": "x", "env": {"A": "${env:A_TOKEN}", "B": "${env:B_HOST}"}},
    }
    assert sorted(found.needs) == ["A_TOKEN", "B_HOST"] and not found.left_out


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"type": "sse", "url": "https://x/sse"}, "'sse', which is not supported"),
        ({"transport": "sse", "url": "https://x/sse"}, "'sse', which is not supported"),
        ({"type": "ws", "url": "wss://x"}, "'ws', which is not supported"),
        ({"command": "x", "disabled": True}, "disabled there"),
        ({"command": "x", "args": ["${workspaceFolder}/a"]}, "means nothing here"),
        ({"command": "x", "args": ["${file:/etc/passwd}"]}, "means nothing here"),
        ({"command": "x", "url": "https://x"}, "either a url or a command"),
        ({}, "either a url or a command"),
        ({"url": "ftp://x"}, "http:// or https://"),
        ("x", "not an object"),
    ],
)
def test_what_cannot_work_here_is_left_out_with_a_reason(tmp_path: Path, body: Any, why: str) -> None:
    found = foreign(tmp_path, {"mcpServers": {"it": body, "fine": {"command": "x"}}})
    assert list(found.servers) == ["fine"] and why in found.left_out["it"] and not found.needs


def test_vs_code_files_have_comments_and_inputs(tmp_path: Path) -> None:
    text = """{
      // asked once
      "inputs": [{"id": "gh-key", "type": "promptString", "description": "GitHub key", "password": true},],
      "servers": {
        /* two */
        "gh": {"type": "http", "url": "https://gh.example/mcp", /* x */
               "headers": {"Authorization": "Bearer ${input:gh-key}"}},
        "local": {"type": "stdio", "command": "x", "envFile": ".env", "args": ["http://a//b", "/*",],},
      },
    }"""
    found = foreign(tmp_path, text)
    assert found.servers["gh"]["headers"] == {"Authorization": "Bearer ${env:GH_KEY}"}
    assert found.servers["local"] == {"command": "x", "args": ["http://a//b", "/*"]}
    assert found.needs == {"GH_KEY": "GitHub key"} and found.notes == ["local: not taken over: envFile"]
    assert foreign(tmp_path, {"mcp": {"servers": {"a": {"command": "x"}}}}).servers == {"a": {"command": "x"}}


SECRET = "hunter2-very-secret"
LITERALS: list[dict[str, Any]] = [
    {"command": "x", "env": {"API_KEY": SECRET}},
    {
        "command": "x",
        "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": SECRET, "DB_PASSWORD": SECRET, "NPM_AUTH": SECRET},
    },
    {"command": "x", "env": {"SETTING": "ghp_" + "a" * 36}},
    {"command": "x", "env": {"URL": f"postgres://ana:{SECRET}@db/x"}},
    {"command": "x", "args": ["--api-key", SECRET]},
    {"command": "x", "args": [f"--token={SECRET}"]},
    {"command": "x", "args": ["sk-" + "a" * 30]},
    {"command": "x", "args": [f"postgres://ana:{SECRET}@db/x"]},
    {"url": "https://x/mcp", "headers": {"Authorization": f"Bearer {SECRET}"}},
    {"url": "https://x/mcp", "headers": {"X-API-Key": SECRET, "Cookie": f"s={SECRET}"}},
    {"url": f"https://x/mcp?api_key={SECRET}&region=eu"},
    {"url": f"https://ana:{SECRET}@x/mcp"},
]


@pytest.mark.parametrize("body", LITERALS)
def test_no_secret_that_was_written_out_comes_into_our_file(tmp_path: Path, body: dict[str, Any]) -> None:
    found = foreign(tmp_path, {"mcpServers": {"it": body}})
    told = json.dumps(found.servers)
    assert found.left_out == {} and found.needs
    assert SECRET not in told and "aaaaaaa" not in told
    assert {m[2] for m in REFERENCE.finditer(told)} == set(found.needs)
    parse_entry("it", found.servers["it"])


def test_what_is_no_secret_stays_as_it_is(tmp_path: Path) -> None:
    body = {
        "command": "node",
        "args": ["--port", "80", "--keyboard=us", "monkey", "--max-tokens-per-call=4096", "-v"],
        "env": {"KEYBOARD": "us", "TOKENIZER": "x", "AUTHOR": "ana", "PATHS": "/a:/b", "MONKEY": "y"},
    }
    found = foreign(tmp_path, {"mcpServers": {"it": body}})
    assert found.servers == {"it": body} and not found.needs
    kept = one(tmp_path, {"url": "https://x/mcp?region=eu", "headers": {"Authorization": "Bearer ${MINE}"}})
    assert kept["url"] == "https://x/mcp?region=eu" and kept["headers"] == {
        "Authorization": "Bearer ${env:MINE}"
    }


NEWER = {
    "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
    "name": "io.github.acme/weather",
    "description": "Weather.",
    "version": "1.4.0",
    "packages": [
        {
            "registryType": "npm",
            "identifier": "@acme/weather",
            "version": "1.4.0",
            "transport": {"type": "stdio"},
            "runtimeHint": "npx",
            "runtimeArguments": [{"type": "named", "name": "--yes"}],
            "packageArguments": [
                {"type": "positional", "value": "serve"},
                {"type": "named", "name": "--units", "default": "metric"},
                {"type": "named", "name": "--station", "isRequired": True, "description": "Station id"},
                {"type": "named", "name": "--extra"},
            ],
            "environmentVariables": [
                {"name": "WEATHER_KEY", "description": "Key", "isRequired": True, "isSecret": True},
                {"name": "LANGUAGE", "default": "en"},
                {"name": "PROXY", "description": "A proxy"},
            ],
        }
    ],
}


def older(value: Any) -> Any:
    """The same with the names of the registry's first schema."""
    if isinstance(value, dict):
        return {"".join(f"_{c.lower()}" if c.isupper() else c for c in k): older(v) for k, v in value.items()}
    return [older(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("shape", [lambda d: d, older, lambda d: {"server": d, "_meta": {}}])
def test_a_registry_entry_becomes_the_command_that_runs_it(tmp_path: Path, shape: Any) -> None:
    found = foreign(tmp_path, shape(NEWER))
    assert found.servers == {
        "weather": {
            "command": "npx",
            "args": [
                *("-y", "--yes", "@acme/weather@1.4.0", "serve", "--units", "metric", "--station"),
                *("${env:WEATHER_STATION}", "--extra"),
            ],
            "env": {"WEATHER_KEY": "${env:WEATHER_KEY}", "LANGUAGE": "en"},
        }
    }
    assert found.needs == {"WEATHER_KEY": "Key", "WEATHER_STATION": "Station id"}
    assert found.notes == ["weather: PROXY may be set too: A proxy"]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ({"registryType": "pypi", "identifier": "mcp-w", "version": "2"}, ["uvx", "mcp-w==2"]),
        ({"registry_name": "npm", "name": "w", "version": "2"}, ["npx", "-y", "w@2"]),
        ({"registryType": "npm", "identifier": "w"}, ["npx", "-y", "w"]),
        (
            {
                "registryType": "oci",
                "identifier": "ghcr.io/acme/w:2",
                "environmentVariables": [{"name": "K"}],
            },
            ["docker", "run", "-i", "--rm", "ghcr.io/acme/w:2"],
        ),
        (
            {
                "registryType": "oci",
                "identifier": "acme/w",
                "version": "2",
                "environmentVariables": [{"name": "K", "isSecret": True}],
            },
            ["docker", "run", "-i", "--rm", "-e", "K", "acme/w:2"],
        ),
    ],
)
def test_packages_of_every_kind(tmp_path: Path, package: dict[str, Any], expected: list[str]) -> None:
    [body] = foreign(tmp_path, {"name": "a/w", "packages": [package]}).servers.values()
    assert [body["command"], *body["args"]] == expected


def test_a_remote_goes_before_a_package_and_what_neither_can_is_told(tmp_path: Path) -> None:
    remote = {
        "type": "streamable-http",
        "url": "https://{tenant}.example/mcp",
        "variables": {"tenant": {"description": "Your tenant", "isRequired": True}},
        "headers": [
            {"name": "Authorization", "value": "Bearer {token}", "variables": {"token": {"isSecret": True}}},
            {"name": "X-Key", "isSecret": True, "isRequired": True, "description": "Key"},
            {"name": "X-Region", "value": "eu"},
        ],
    }
    found = foreign(tmp_path, {**NEWER, "remotes": [{"type": "sse", "url": "https://x"}, remote]})
    assert found.servers == {
        "weather": {
            "type": "http",
            "url": "https://${env:WEATHER_TENANT}.example/mcp",
            "headers": {
                "Authorization": "Bearer ${env:WEATHER_TOKEN}",
                "X-Key": "${env:WEATHER_X_KEY}",
                "X-Region": "eu",
            },
        }
    }
    assert found.needs == {"WEATHER_TENANT": "Your tenant", "WEATHER_TOKEN": "", "WEATHER_X_KEY": "Key"}
    nothing = {
        "name": "a/w",
        "remotes": [{"type": "sse", "url": "x"}],
        "packages": [{"registryType": "mcpb"}],
    }
    assert "'sse'" in foreign(tmp_path, nothing).left_out["w"]


def test_names_become_ours_and_never_two_the_same(tmp_path: Path) -> None:
    found = foreign(tmp_path, {"mcpServers": {"My Server": {"command": "x"}, "My-Server": {"command": "y"}}})
    assert found.servers == {"My-Server": {"command": "x"}}
    assert "rename one" in found.left_out["My-Server"] and "'My Server' is called" in found.notes[0]
    for odd in ("a__b", "x_", "größe", "", "___", "a/b c", "x" * 80, "-a", "日本"):
        check_name(own_name(odd))


def test_a_file_that_is_none_of_these_is_named(tmp_path: Path) -> None:
    for text, expected in (
        ("[1]", "not a JSON object"),
        ("{", "give a JSON file"),
        ("{}", "none of mcpServers"),
    ):
        with pytest.raises(ServersFileError, match=expected):
            foreign(tmp_path, text)


def test_what_was_taken_over_reads_as_our_own_file(tmp_path: Path) -> None:
    everything = {f"s{n}": body for n, body in enumerate(LITERALS)}
    ours = tmp_path / "mcp.json"
    ours.write_text(json.dumps({"mcpServers": foreign(tmp_path, {"mcpServers": everything}).servers}))
    first = load(ours)
    assert len(first.servers) == len(LITERALS)
    again = foreign(tmp_path, ours.read_text())
    assert again.servers == json.loads(ours.read_text())["mcpServers"] and not again.left_out


@pytest.mark.parametrize("header", [["Authorization: Bearer abc"], ["X-Api-Key: k"]])
def test_a_secret_is_not_taken_from_the_command_line_either(header: list[str]) -> None:
    with pytest.raises(UsageError, match="looks like a secret"):
        entry_of(["https://x/mcp"], header, [], False)
    with pytest.raises(UsageError, match="looks like a secret"):
        entry_of(["x"], [], ["MY_TOKEN=abc"], False)
    assert entry_of(["https://x/mcp"], ["Authorization: Bearer ${env:T}"], [], False)["headers"]
