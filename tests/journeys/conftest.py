"""A person's own directory and the programs as a person starts them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
POINTSMAN = str(Path(sys.executable).with_name("pointsman"))
INCIDENT = ROOT / "examples" / "incident_triage"


@dataclass
class Person:
    """Somebody with an empty directory, who runs commands in it."""

    directory: Path
    environment: dict[str, str]

    def run(self, *command: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and hold it to its exit code."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,  # a bound on hanging; each test has its own
        )
        assert done.returncode == code, (
            f"{command} → {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def pointsman(self, *arguments: str, code: int = 0, **more: str) -> str:
        """What `pointsman ARGUMENTS` prints."""
        return self.run(POINTSMAN, *arguments, code=code, **more).stdout

    def json(self, *arguments: str, code: int = 0, **more: str) -> Any:
        """What `pointsman ARGUMENTS --json` prints, read."""
        return json.loads(self.pointsman(*arguments, "--json", code=code, **more))

    def records(self, **where: str) -> list[dict[str, Any]]:
        """The records of the ledger, oldest first, of those fields."""
        lines = self.pointsman("audit", "export", "--jsonl").splitlines()
        records = [json.loads(line) for line in lines]
        return [each for each in records if all(each.get(k) == v for k, v in where.items())]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    directory = tmp_path / "work"
    directory.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "CI") if name in os.environ}
    yield Person(
        directory,
        {
            **kept,
            "POINTSMAN_HOME": str(tmp_path / "home"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "NO_COLOR": "1",
        },
    )


@pytest.fixture(scope="session")
def truth() -> dict[str, Any]:
    return json.loads((INCIDENT / "truth.json").read_text())


@pytest.fixture
def gateway(person):
    """The gateway alone, as `pointsman gateway` starts it; its address."""
    with running_gateway(person) as address:
        yield address


@contextmanager
def running_gateway(person: Person, *options: str) -> Iterator[str]:
    """`pointsman gateway` until the block ends; its address."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [POINTSMAN, "gateway", "--port", "0", "--ready-fd", str(writer), *options],
        cwd=person.directory,
        env=person.environment,
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            yield json.loads(pipe.readline())["url"]
    finally:
        process.terminate()
        ended = process.wait(timeout=60)
    assert ended == 0
