"""What is measured: each target is a process tree of its own in front of the same tool server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import jwt
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

HERE = Path(__file__).resolve().parent
ISSUER, AUDIENCE = "https://issuer.example", "gateway"
UPSTREAM = [sys.executable, str(HERE / "upstream.py")]

RULES = """
@id("agents-call-upstream")
permit (principal in Role::"load", action in Action::"call", resource in Server::"up")
when {{ resource.readOnly }};
@id("no-forbidden-words")
forbid (principal, action == Action::"call/up__echo", resource)
when {{ context.args.text == "forbidden" || context.labels.contains("private") }};
@id("no-forbidden-phrases")
forbid (principal, action == Action::"call/up__page", resource)
when {{ context.args.text like "*forbidden*" }};
@id("operator-sees-everything")
permit (principal in Role::"operator", action in Action::"call", resource)
when {{ resource.readOnly }};
@id("operator-administers")
permit (principal in Role::"operator", action in Action::"call", resource in Server::"gateway");
{others}
"""
OTHER = """@id("team-{n}")
permit (principal in Role::"team{n}", action in Action::"call", resource in Server::"up")
when {{ resource.readOnly && context.environment == "place{n}" }};
"""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def favour(pid: int) -> None:
    """Pass our own nice value on to a new session: a scheduling group of its own would ignore it."""
    group = Path(f"/proc/{pid}/autogroup")
    if os.nice(0) < 0 and group.exists():
        group.write_text(str(os.nice(0)))


class Target:
    """One thing that is measured."""

    url = ""
    prefix = ""
    stdio = False

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.place = place / name
        self.place.mkdir()
        self.headers: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], **options: Any) -> None:
        """Start the process, its words going to a file."""
        with (self.place / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **options
            )
        favour(self.process.pid)

    def listening(self, port: int, seconds: float = 60) -> None:
        """Wait until it listens."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {(self.place / 'log').read_text()[-1500:]}")
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not listen within {seconds:g} s")

    def tree(self) -> list[psutil.Process]:
        """Its processes."""
        if self.process is None or self.process.poll() is not None:
            return []
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        """Processor seconds it has used so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.tree())

    def memory(self) -> float:
        """Resident megabytes now."""
        return sum(process.memory_info().rss for process in self.tree()) / 1e6

    def stop(self) -> None:
        """End it and what it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Upstream(Target):
    """The tool server itself."""

    def start(self, tools: int = 0) -> Upstream:
        """Start it."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.run([*UPSTREAM, "--port", str(self.port), "--tools", str(tools)])
        self.listening(self.port)
        return self

    def calls(self) -> int:
        """How many tool calls it has served."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/count", timeout=10) as answer:
            return json.load(answer)


class Script(Target):
    """A peer that is one file of this directory: `FILE PORT UPSTREAM`; "stdio" starts the upstream itself."""

    file = ""
    python = sys.executable

    def start(self, upstream: str) -> Script:
        """Start it."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.run([self.python, str(HERE / self.file), str(port), "stdio" if self.stdio else upstream])
        self.listening(port)
        return self


class Bytes(Script):
    """The floor: Starlette on uvicorn, aiohttp behind, bytes forwarded, nothing looked at."""

    file = "peer_bytes.py"


class Sdk(Script):
    """The SDK's server in front and its client behind, the upstream session shared."""

    file = "peer_sdk.py"


class SdkStdio(Sdk):
    """The same over a stdio upstream."""

    stdio = True


class FastMcp(Script):
    """FastMCP's proxy with one shared upstream session, in an environment of its own: FASTMCP_PYTHON."""

    file = "peer_fastmcp.py"
    python = os.environ.get("FASTMCP_PYTHON", sys.executable)


class Ours(Target):
    """The gateway as it ships: ledger durable, policy of 50 rules, identity by JWT, approved definitions."""

    prefix = "up__"
    durability = "full"
    roles: tuple[str, ...] = ("load",)

    def start(self, upstream: str, servers: dict[str, str] | None = None, seconds: float = 60) -> Ours:
        """Start it and wait until the tools are there."""
        policy = self.place / "policy"
        policy.mkdir()
        others = "".join(OTHER.format(n=n) for n in range(45))
        (policy / "load.cedar").write_text(RULES.format(others=others))
        command, *arguments = [*UPSTREAM, "--stdio"]
        entry: dict[str, Any] = {"command": command, "args": arguments} if self.stdio else {"url": upstream}
        urls = {name: {"url": url} for name, url in (servers or {}).items()}
        every = {
            name: {**each, "pointsman": {"pin": "trust"}} for name, each in {"up": entry, **urls}.items()
        }
        (self.place / "mcp.json").write_text(json.dumps({"mcpServers": every}))
        (self.place / "pointsman.toml").write_text(
            f'[gateway]\nport = 0\nservers = "{self.place}/mcp.json"\npolicy = "{policy}"\n'
            f'checkpoints = "{self.place}/checkpoints"\ndurability = "{self.durability}"\n'
            f'jwt_issuer = "{ISSUER}"\njwt_audience = "{AUDIENCE}"\njwt_jwks = "{self.place}/jwks.json"\n'
        )
        self.headers = {"authorization": f"Bearer {self.signed()}"}
        ready, tell = os.pipe()
        env = {**os.environ, "POINTSMAN_HOME": str(self.place / "home")}
        self.run(
            [
                sys.executable,
                "-m",
                "gateway",
                "--config",
                str(self.place / "pointsman.toml"),
                "--ready-fd",
                str(tell),
            ],
            env=env,
            pass_fds=(tell,),
            cwd=self.place,
        )
        os.close(tell)
        with os.fdopen(ready) as told:
            line = told.readline()
        about = json.loads(line or "{}")
        if "url" not in about:
            raise RuntimeError(
                f"the gateway did not start: {line} {(self.place / 'log').read_text()[-1500:]}"
            )
        self.url = about["url"] + "/mcp"
        until = time.monotonic() + seconds
        while not any(tool["name"] == "up__echo" for tool in self.ask("tools/list", {})["tools"]):
            if time.monotonic() > until:
                raise RuntimeError(f"the tools did not appear: {(self.place / 'log').read_text()[-1500:]}")
            time.sleep(0.1)
        return self

    def signed(self) -> str:
        """A JWT for the load, by an issuer whose key the gateway is given."""
        key = Ed25519PrivateKey.generate()
        public = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
        keys = {"keys": [{**public, "kid": "load", "alg": "EdDSA", "use": "sig"}]}
        (self.place / "jwks.json").write_text(json.dumps(keys))
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "agent:load", "roles": self.roles}
        return jwt.encode({**claims, "exp": int(time.time()) + 86_400}, key, "EdDSA", {"kid": "load"})

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of one modern request."""
        from load import META

        fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        fields |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, **self.headers}
        if "name" in params:
            fields["Mcp-Name"] = params["name"]
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), fields)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["result"]


class OursAsync(Ours):
    """The same without waiting for the disk."""

    durability = "async"


class OursStdio(Ours):
    """The same over a stdio upstream."""

    stdio = True


class Nginx(Target):
    """nginx as a reverse proxy with keep-alive connections behind."""

    def start(self, upstream: str) -> Nginx:
        """Start it."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/mcp"
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        if not Path(binary).exists():
            raise RuntimeError("nginx is not installed")
        temporary = "".join(
            f"{kind}_temp_path {self.place}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.place / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {self.place}/pid; error_log stderr;\n"
            "events { worker_connections 1024; }\nhttp { access_log off; keepalive_requests 10000000;\n"
            f"{temporary}"
            f"upstream up {{ server {upstream.split('/')[2]}; keepalive 128;\n"
            f"keepalive_requests 10000000; }}\nserver {{ listen 127.0.0.1:{port}; location / {{\n"
            "proxy_pass http://up; proxy_http_version 1.1;\n"
            'proxy_set_header Connection ""; } } }\n'
        )
        self.run([binary, "-c", str(self.place / "nginx.conf"), "-p", str(self.place)])
        self.listening(port)
        return self


TARGETS: dict[str, type[Any]] = {
    "nginx": Nginx,
    "bytes": Bytes,
    "sdk": Sdk,
    "fastmcp": FastMcp,
    "ours": Ours,
    "ours-async": OursAsync,
    "sdk-stdio": SdkStdio,
    "ours-stdio": OursStdio,
}
