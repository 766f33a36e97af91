"""A workspace of its own for each test: settings, one tool server, one specialist, the real command."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coordinator import trigger
from coordinator.session import open_session

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
POINTSMAN = Path(sys.executable).with_name("pointsman")
PATIENCE = 120.0  # a bound on hanging, not a measurement


@dataclass
class Workspace:
    """A directory with a pointsman.toml, and the command run in it."""

    folder: Path
    started: list[subprocess.Popen] = field(default_factory=list)
    database: str = ""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        """Start `pointsman` and leave it running."""
        process = subprocess.Popen(
            [POINTSMAN, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
        """Run `pointsman` to its end."""
        return subprocess.run(
            [POINTSMAN, *arguments],
            cwd=self.folder,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
        return kept | {"POINTSMAN_HOME": str(self.home), "XDG_STATE_HOME": str(self.folder / "state")}

    def looks(self) -> list[int]:
        """Which things were looked at, in order."""
        return self._noted("looks.log")

    def mends(self) -> list[int]:
        """Which things were mended, in order."""
        return self._noted("mends.log")

    def _noted(self, name: str) -> list[int]:
        log = self.folder / name
        return [int(n) for n in log.read_text().split()] if log.exists() else []

    def close_door(self, name: str) -> None:
        (self.folder / f"door-{name}").touch()

    def open_door(self, name: str) -> None:
        (self.folder / f"door-{name}").unlink()

    def serve(self, *names: str) -> None:
        """Name the tool servers in mcp.json: the one of the tests, declared trusted by its operator."""
        command = {"command": sys.executable, "args": [str(HERE / "things_server.py"), str(self.folder)]}
        servers = {name: command | {"pointsman": {"pin": "trust"}} for name in names}
        (self.folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))

    def use(self, **specialists: str) -> None:
        """Name the specialists' classes in pointsman.toml."""
        tables = [f'[specialists.{name}]\nclass = "probe:{cls}"\n' for name, cls in specialists.items()]
        (self.folder / "pointsman.toml").write_text(
            "\n".join(['[gateway]\nservers = "mcp.json"\nport = 0\n', *tables])
        )

    def shipped_policy(self) -> str:
        """The policy that is shipped, to be extended by a test."""
        return (ROOT / "gateway" / "defaults" / "policy" / "default.cedar").read_text()

    def until(self, condition) -> None:
        """Wait for something that another process does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)

    def case(self) -> str:
        """The one case of this workspace."""
        [row] = json.loads(self.run("cases", "list", "--json").stdout)
        return row["id"]


@pytest.fixture
def workspace(tmp_path):
    """A workspace whose processes end with the test."""
    shutil.copy(HERE / "probe.py", tmp_path / "probe.py")
    alert = {"title": "things break", "service": "thing", "severity": "high"}
    (tmp_path / "alert.json").write_text(json.dumps(alert))
    made = Workspace(tmp_path)
    made.use(probe="Probe")
    made.serve("things")
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(workspace, monkeypatch):
    """Run a piece of a test inside an open session of the workspace, in this process."""
    monkeypatch.chdir(workspace.folder)
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(workspace.folder))

    def inside(act):
        async def whole():
            async with open_session() as session:
                return await act(session.runner, trigger.from_source("alert.json"))

        return asyncio.run(whole())

    return inside
