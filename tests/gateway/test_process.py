"""The gateway as a process: when it is ready, what it says when it cannot start, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.world import (
    ended,
    environment,
    fake_server,
    gateway,
    pointsman,
    stdio_entry,
    until,
    write_files,
)


def start(directory: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start a gateway that cannot start."""
    command = [sys.executable, "-m", "gateway", "--port", "0", *options]
    return subprocess.run(
        command,
        env={**environment(directory), **env},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_is_ready_at_once_whatever_its_servers_do(tmp_path: Path) -> None:
    dead: dict[str, Any] = {
        f"dead{n}": {"type": "http", "url": f"http://10.255.255.{n}/mcp"} for n in range(8)
    }
    dead["silent"] = {"command": "sleep", "args": ["60"]}
    dead["missing"] = {"command": "no-such-program"}
    with gateway(tmp_path, dead, connect_seconds=300) as running:
        told = json.loads(pointsman(running, "servers", "list", "--json").stdout)
        states = {s["name"]: s for s in told["servers"]}
        assert states["silent"]["state"] == "connecting"  # it was not waited for
        assert states["missing"]["stage"] == "start" and "no-such-program" in states["missing"]["error"]


def test_its_file_tells_where_it_is_to_its_owner_only_and_goes_with_it(tmp_path: Path) -> None:
    with gateway(tmp_path, {}) as running:
        file = running.home / "gateway.json"
        assert file.stat().st_mode & 0o777 == 0o600
        assert json.loads(file.read_text())["pid"] == running.process.pid
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        assert not file.exists()


def test_a_second_gateway_in_the_same_home_says_so(tmp_path: Path) -> None:
    with gateway(tmp_path, {}) as running:
        second = start(tmp_path)
        assert second.returncode == 1
        assert (
            f"already runs in {running.home} ({running.url}, process {running.process.pid})" in second.stderr
        )
        assert "Traceback" not in second.stderr
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        with gateway(tmp_path, {}):
            pass


def test_one_that_is_ending_is_joined_by_nobody_and_waited_for_by_the_next(tmp_path: Path) -> None:
    with fake_server(tmp_path / "fake") as fake:
        servers = {"fake": fake.entry(pin="trust")}
        with gateway(tmp_path, servers) as running:
            token = pointsman(running, "tokens", "issue", "agent:logs", "--role", "specialist").stdout
            caller = calling(running.url, token.strip(), "slow", {"until": "go-on"})
            assert until(lambda: len(fake.calls) == 1)
            running.process.terminate()
            assert until(lambda: not (running.home / "gateway.json").exists())
            command = [sys.executable, "-m", "gateway", "--port", "0"]
            second = subprocess.Popen(command, env=running.env, cwd=tmp_path, stderr=subprocess.DEVNULL)
            with ended(second):
                assert until(lambda: holds(second, running.home / "gateway.lock"))
                (fake.directory / "go-on").touch()
                assert running.process.wait(20) == 0 == caller.wait(20)
                assert until(lambda: serves(running.home) == second.pid, 30)


def serves(home: Path) -> int:
    """The process that says it serves this home; 0 when none does."""
    file = home / "gateway.json"
    return json.loads(file.read_text())["pid"] if file.exists() else 0


def holds(process: subprocess.Popen[Any], file: Path) -> bool:
    """Whether the process has this file open."""
    return any(fd.exists() and fd.samefile(file) for fd in Path(f"/proc/{process.pid}/fd").iterdir())


def calling(url: str, token: str, tool: str, arguments: dict[str, Any], key: str = "") -> Any:
    """A process that calls a tool of the server `fake`."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        **({"pointsman/key": key} if key else {}),
    }
    params = {"name": f"fake__{tool}", "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": f"fake__{tool}",
    }
    flags = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    return subprocess.Popen(["curl", "-s", *flags, "-d", body, url + "/mcp"], stdout=subprocess.DEVNULL)


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    settings = write_files(tmp_path, {})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        wrong = start(tmp_path, "--port", port)
        assert wrong.returncode == 1 and f"cannot listen on 127.0.0.1:{port}" in wrong.stderr
    (tmp_path / "policy" / "test.cedar").write_text("permit (principal, action, resource)")
    cases = [
        ({"POINTSMAN_GATEWAY__POLICY": settings.policy}, "test.cedar:1"),
        ({"POINTSMAN_GATEWAY__POLICY": "nowhere"}, "no such directory"),
        ({"POINTSMAN_GATEWAY__SERVERS": "nowhere.json"}, "no such file"),
        ({"POINTSMAN_GATEWAY__PROT": "1"}, "did you mean 'port'"),
        ({"POINTSMAN_GATEWAY__MAX_BODY_BYTES": "few"}, "max_body_bytes"),
        ({"POINTSMAN_CONFIG": "nowhere.toml"}, "no such file"),
    ]
    for env, expected in cases:
        wrong = start(tmp_path, **env)
        assert wrong.returncode == 2, wrong.stderr
        assert expected in wrong.stderr and "Traceback" not in wrong.stderr
        assert wrong.stderr.startswith("pointsman: ")
    (tmp_path / "mcp.json").write_text('{"mcpServers": {\n"a": {}\n}}')
    wrong = start(tmp_path)
    assert "mcp.json:2: server 'a' needs either a url or a command" in wrong.stderr
    (tmp_path / "pointsman.toml").write_text("[gateway]\nprot = 1\n")
    assert (
        "unknown setting 'prot' in pointsman.toml [gateway]: did you mean 'port'?" in start(tmp_path).stderr
    )


def test_with_parent_it_ends_when_the_parent_does(tmp_path: Path) -> None:
    write_files(tmp_path, {"child": stdio_entry(tmp_path / "child")})
    program = (
        "import subprocess, sys, json, os\n"
        "r, w = os.pipe()\n"
        "options = ['--port', '0', '--with-parent', '--ready-fd', str(w)]\n"
        "gateway = [sys.executable, '-m', 'gateway', *options]\n"
        "p = subprocess.Popen(gateway, pass_fds=[w], stdin=subprocess.PIPE)\n"
        "os.close(w)\n"
        "print(os.fdopen(r).readline(), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    pid = json.loads(parent.stdout)["pid"]
    assert until(
        lambda: not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text()
    )


@pytest.mark.parametrize("key", ["", "k1"])
def test_a_call_cut_off_by_kill_is_unknown_after_the_restart(tmp_path: Path, key: str) -> None:
    with fake_server(tmp_path / "fake") as fake:
        servers = {"fake": fake.entry(pin="trust")}
        with gateway(tmp_path, servers) as running:
            issued = pointsman(running, "tokens", "issue", "agent:logs", "--role", "specialist")
            token = issued.stdout.strip()
            caller = calling(running.url, token, "slow", {"seconds": 30}, key)
            assert until(lambda: len(fake.calls) == 1)
            running.process.kill()
            running.process.wait()
            caller.wait(10)
        with gateway(tmp_path, servers) as running:
            found = json.loads(pointsman(running, "audit", "search", "--tool", "fake__slow", "--json").stdout)
            assert [(r["kind"], r.get("status")) for r in found["records"]] == [
                ("intent", None),
                ("outcome", "unknown"),
            ]
            assert pointsman(running, "audit", "verify").returncode == 0
