"""The MCP conformance suite through the gateway, in both eras, whatever way the server is reached."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.conformance.gateway.node import install, node, shared
from tests.gateway.world import Running, ended, gateway, line_of

HERE = Path(__file__).parent
FIXTURE = HERE / "fixture_server.py"
SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
EVERYBODY = """
@id("everybody") @description("Everybody may do everything.") @advice("Go on.")
permit (principal, action, resource);
"""
OPEN = {"pin": "trust", "open": "all"}
READS = {"resources-read-binary", "resources-read-text", "resources-templates-read"}


@contextmanager
def fixture_over_http() -> Iterator[dict[str, Any]]:
    """The fixture on a port; its entry."""
    process = subprocess.Popen(
        [sys.executable, str(FIXTURE), "--http", "0"], stdout=subprocess.PIPE, text=True
    )
    with ended(process):
        yield {"type": "http", "url": json.loads(line_of(process, process.stdout))["url"], "pointsman": OPEN}


@contextmanager
def fixture_over_stdio() -> Iterator[dict[str, Any]]:
    """The fixture as a process for each session, loaded once; its entry."""
    with TemporaryDirectory() as directory:
        program, place = str(HERE / "forked.py"), f"{directory}/fixture"
        command = [sys.executable, program, "--serve", place]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with ended(process):
            line_of(process, process.stdout)
            yield {"command": sys.executable, "args": ["-I", "-S", program, place], "pointsman": OPEN}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory where the suite and its node are installed."""
    directory = shared(tmp_path_factory, "npm")
    node(directory)
    return install(directory / "suite", SUITE)


def conformance(
    suite: Path, running: Running, out: Path, path: str, prefix: str = ""
) -> tuple[str, list[str]]:
    """(what the script counts, the scenarios that failed and why)."""
    environment = {
        **os.environ,
        "CONFORMANCE_HOME": str(suite),
        "CONFORMANCE_VERSION": SUITE.rpartition("@")[2],
        "PYTHON": sys.executable,
        "PATH": f"{Path(node(suite.parent)).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [str(HERE / "conformance.sh"), running.url + path, "--out", str(out)]
    command += [
        "--header",
        f"Authorization: Bearer {running.token}",
        *(("--prefix", prefix) if prefix else ()),
    ]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    lines = told.stdout.splitlines()
    assert lines, told.stderr
    return lines[-1], [line for line in lines if line.startswith("FAIL")]


@pytest.mark.parametrize("behind", ["http", "stdio"])
@pytest.mark.parametrize(("path", "prefix"), [("/servers/fx/mcp", ""), ("/mcp", "fx__")])
def test_every_scenario_passes(suite: Path, tmp_path: Path, behind: str, path: str, prefix: str) -> None:
    fixture = fixture_over_http() if behind == "http" else fixture_over_stdio()
    with fixture as entry, gateway(tmp_path, {"fx": entry}, EVERYBODY) as running:
        count, failed = conformance(suite, running, tmp_path / "out", path, prefix)
    assert (count, failed) == ("73 passed, 0 failed", [])


def test_beside_a_server_that_offers_the_same_only_what_collides_is_refused_and_by_name(
    suite: Path, tmp_path: Path
) -> None:
    with (
        fixture_over_http() as one,
        fixture_over_http() as other,
        gateway(tmp_path, {"fx": one, "gx": other}, EVERYBODY) as running,
    ):
        count, failed = conformance(suite, running, tmp_path / "out", "/mcp", "fx__")
    assert count == "65 passed, 8 failed", failed
    assert all("quarantined: test://" in line and "is offered by fx, gx" in line for line in failed)
    about = {tuple(line.split()[1:3]) for line in failed}
    subscriptions = {("2025-11-25", "resources-subscribe"), ("2025-11-25", "resources-unsubscribe")}
    assert about == subscriptions | {(era, read) for era in ("2025-11-25", "2026-07-28") for read in READS}
