"""Programs from PyPI in an environment of their own; where they cannot be had the tests skip."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.gateway.node import alone


def programs(directory: Path, *packages: str) -> Path:
    """The directory with the programs of these packages; skips, saying why, where they cannot be had."""
    place = directory / "environment"
    found = place / ("Scripts" if sys.platform == "win32" else "bin")
    if (uv := shutil.which("uv")) is not None:
        making = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)]
        installing = [uv, "pip", "install", "--quiet", "--python", str(found / "python"), *packages]
    else:
        making = [sys.executable, "-m", "venv", "--clear", str(place)]
        installing = [str(found / "python"), "-m", "pip", "install", "--quiet", *packages]
    with alone(directory):
        if (directory / "complete").exists():
            return found
        try:
            for command in (making, installing):
                done = subprocess.run(command, capture_output=True, text=True, timeout=280)
                if done.returncode:
                    pytest.skip(f"cannot install {', '.join(packages)}: {done.stderr[-300:]}")
        except subprocess.TimeoutExpired:
            pytest.skip(f"{', '.join(packages)} were not installed in time")
        (directory / "complete").touch()
    return found
