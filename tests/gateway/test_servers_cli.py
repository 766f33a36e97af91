"""The `servers` commands, with a running gateway and without one."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import servers_file
from tests.gateway.world import (
    FAKE,
    FakeServer,
    Home,
    environment,
    gateway,
    pointsman,
    words,
    write_files,
)

pytestmark = pytest.mark.anyio


def alone(tmp_path: Path) -> Home:
    """The commands without a gateway."""
    settings = write_files(tmp_path, {})
    env = {
        **environment(tmp_path),
        "POINTSMAN_GATEWAY__POLICY": settings.policy,
        "POINTSMAN_GATEWAY__SERVERS": settings.servers,
    }
    return Home(tmp_path / "home", env)


def test_without_a_gateway_the_commands_work_on_the_store_and_are_recorded(
    tmp_path: Path, fake: FakeServer
) -> None:
    here = alone(tmp_path)
    added = pointsman(here, "servers", "add", "fake", fake.url)
    assert added.returncode == 0, added.stderr
    assert "fake: quarantined" in added.stdout and "pointsman servers approve fake" in added.stdout
    assert pointsman(here, "servers", "add", "fake", fake.url).returncode == 2
    diff = pointsman(here, "servers", "diff", "fake")
    assert "read: new, reads" in diff.stdout and "write: new, destructive" in diff.stdout
    approved = pointsman(here, "servers", "approve", "fake", "--tool", "read", "--json")
    assert json.loads(approved.stdout)["approved"] == ["read"]
    listed = json.loads(pointsman(here, "servers", "list", "--json").stdout)["servers"]
    assert [(s["name"], s["approved"], s["state"]) for s in listed] == [("fake", 1, "not running")]
    exported = json.loads(pointsman(here, "servers", "export").stdout)
    assert exported == {"mcpServers": {"fake": {"type": "http", "url": fake.url}}}
    assert pointsman(here, "servers", "remove", "fake").returncode == 0
    rows = json.loads(pointsman(here, "audit", "search", "--kind", "registration", "--json").stdout)[
        "records"
    ]
    assert [r["body"]["change"] for r in rows] == ["added", "approved", "removed"]
    assert {r["subject"] for r in rows} == {"user:operator"}
    assert pointsman(here, "audit", "verify").returncode == 0


def test_mistakes_are_told_with_what_to_do(tmp_path: Path) -> None:
    here = alone(tmp_path)
    cases = {
        ("test", "nobody"): "no server 'nobody'",
        ("add", "a__b", "http://x"): "choose another",
        ("add", "x", "http://127.0.0.1:1/mcp", "more"): "takes no arguments",
        ("import", "nowhere.json"): "cannot read nowhere.json",
    }
    for arguments, expected in cases.items():
        told = pointsman(here, "servers", *arguments)
        assert told.returncode in (1, 2) and expected in told.stderr, arguments
        assert "Traceback" not in told.stderr
    down = pointsman(here, "servers", "add", "down", "http://127.0.0.1:1/mcp")
    assert down.returncode == 0 and "down: failed (connect:" in down.stdout
    assert pointsman(here, "servers", "test", "down").returncode == 5


async def test_a_server_nobody_here_wrote_goes_from_quarantine_to_use(tmp_path: Path) -> None:
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed: no npm server can be run")
    files = tmp_path / "files"
    files.mkdir()
    (files / "note.txt").write_text("the disk was full at nine")
    installed = await asyncio.to_thread(
        subprocess.run,
        ["npx", "-y", "@modelcontextprotocol/server-filesystem"],
        capture_output=True,
        text=True,
    )
    if "allowed" not in (installed.stderr + installed.stdout).lower():
        pytest.skip("npx cannot install @modelcontextprotocol/server-filesystem here")
    with gateway(tmp_path, {}) as running:
        target = ("npx", "-y", "@modelcontextprotocol/server-filesystem", str(files))
        added = pointsman(running, "servers", "add", "files", "--", *target)
        assert added.returncode == 0 and "files: quarantined" in added.stdout, added.stdout + added.stderr
        reader = await running.issue("agent:logs", "specialist")
        stranger = await running.issue("agent:stranger")
        arguments = {"path": str(files / "note.txt")}
        async with running.client(reader) as client:
            assert (await client.list_tools()).tools == []
            hidden = await client.call_tool("files__read_text_file", arguments)
            assert hidden.content[0].text.startswith("quarantined:")
        approved = pointsman(running, "servers", "approve", "files")
        assert approved.returncode == 0, approved.stderr
        for mode in ("auto", "legacy"):
            async with running.client(reader, mode=mode) as client:
                assert "files__read_text_file" in [tool.name for tool in (await client.list_tools()).tools]
                read = await client.call_tool("files__read_text_file", arguments)
                assert words(read.model_dump()) == "the disk was full at nine"
        async with running.client(stranger) as client:
            refused = await client.call_tool("files__read_text_file", arguments)
            assert refused.is_error and refused.content[0].text.startswith("denied:")
        found = json.loads(pointsman(running, "audit", "search", "--limit", "500", "--json").stdout)[
            "records"
        ]
        told = [
            (r["kind"], r.get("code") or r.get("status", ""))
            for r in found
            if r.get("tool") == "files__read_text_file"
        ]
        assert told == [
            ("refusal", "quarantined"),
            *[("intent", ""), ("outcome", "ok")] * 2,
            ("refusal", "denied"),
        ]
        assert [r for r in found if r["kind"] == "registration" and r.get("server") == "files"]


def test_with_a_gateway_a_command_is_taken_from_the_command_line_only(tmp_path: Path) -> None:
    with gateway(tmp_path, {}) as running:
        (tmp_path / "child").mkdir()
        command = (sys.executable, str(FAKE), str(tmp_path / "child"))
        added = pointsman(running, "servers", "add", "child", "-e", "A=1", "--", *command)
        assert "child: quarantined" in added.stdout, added.stderr
        assert pointsman(running, "servers", "approve", "child", "--unflagged").returncode == 0
        tested = pointsman(running, "servers", "test", "child")
        assert "child: ok, modern" in tested.stdout
        assert pointsman(running, "servers", "remove", "child").returncode == 0
        assert "no server" in pointsman(running, "servers", "test", "child").stderr


def test_servers_are_taken_over_and_given_away_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    claude = {
        "mcpServers": {
            "gh": {"command": "npx", "args": ["-y", "gh"], "env": {"GH_TOKEN": "ghp_verysecret"}},
            "old": {"type": "sse", "url": "https://x/sse"},
            "hub": {"url": "https://hub.example/mcp"},
        }
    }
    path.write_text(json.dumps(claude))
    here = alone(tmp_path)
    planned = pointsman(here, "servers", "import", str(path), "--dry-run")
    assert "would add gh" in planned.stdout and not servers_file.load(tmp_path / "mcp.json").servers
    told = pointsman(here, "servers", "import", str(path), "--only", "gh")
    assert "added gh" in told.stdout and "set GH_GH_TOKEN" in told.stdout and "hub" not in told.stdout
    rest = pointsman(here, "servers", "import", str(path))
    assert "added hub" in rest.stdout and "left out gh: there is a server of this name" in rest.stdout
    assert "left out old: its type is 'sse'" in rest.stdout
    text = (tmp_path / "mcp.json").read_text()
    assert "verysecret" not in text and "sse" not in text
    document = json.loads(text)
    document["mcpServers"]["hub"]["headers"] = {"X-Api-Key": "written-by-hand"}
    document["mcpServers"]["hub"]["pointsman"] = {"pin": "trust"}
    document["mcpServers"]["py"] = {"command": "${python}", "args": ["a", "${env:B}"]}
    (tmp_path / "mcp.json").write_text(json.dumps(document))
    exported = json.loads(pointsman(here, "servers", "export").stdout)
    assert exported["mcpServers"] == {
        "gh": {"command": "npx", "args": ["-y", "gh"], "env": {"GH_TOKEN": "${env:GH_GH_TOKEN}"}},
        "hub": {
            "type": "http",
            "url": "https://hub.example/mcp",
            "headers": {"X-Api-Key": "${env:HUB_X_API_KEY}"},
        },
        "py": {"command": sys.executable, "args": ["a", "${env:B}"]},
    }
    path.write_text(json.dumps(exported))
    again = json.loads(pointsman(here, "servers", "import", str(path), "--dry-run", "--json").stdout)
    assert sorted(again["left_out"]) == ["gh", "hub", "py"]
    assert "no server nobody" in pointsman(here, "servers", "import", str(path), "--only", "nobody").stderr


def test_the_bundled_file_reads_and_names_one_child(monkeypatch: pytest.MonkeyPatch) -> None:
    file = servers_file.load(servers_file.BUNDLED)
    assert list(file.children) == ["bundled"]
    wanted = ["kubernetes", "metrics", "logs", "traces", "changes", "runbooks"]
    wanted += ["tickets", "actions", "delivery"]
    assert sorted(file.servers) == sorted(wanted) and all(s.trusted for s in file.servers.values())


def test_adding_to_the_bundled_servers_keeps_them(tmp_path: Path, fake: FakeServer) -> None:
    env = environment(tmp_path)
    here = Home(tmp_path / "home", env)
    os.makedirs(tmp_path / "home", exist_ok=True)
    assert pointsman(here, "servers", "add", "mine", fake.url).returncode == 0
    servers = servers_file.load(tmp_path / "home" / "mcp.json").servers
    assert "mine" in servers and "kubernetes" in servers
