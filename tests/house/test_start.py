"""The command line answers at once, whatever stands behind it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

POINTSMAN = Path(sys.executable).with_name("pointsman")
HEAVY = (
    "langgraph",
    "langchain",
    "langchain_core",
    "langchain_openai",
    "mcp",
    "chromadb",
    "numpy",
    "aiohttp",
    "pydantic",
)


def test_help_names_every_command_of_the_design():
    shown = subprocess.run([POINTSMAN, "--help"], capture_output=True, text=True, check=True).stdout
    wanted = "init chat triage doctor cases gateway servers tokens policy approvals audit specialists eval"
    assert [name for name in wanted.split() if name not in shown.split()] == []


def loaded(*command, **environment):
    """The modules that a command imports."""
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", POINTSMAN, *command],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}


def test_help_loads_nothing_heavy():
    assert sorted(loaded("--help") & set(HEAVY)) == []


@pytest.mark.parametrize("command", ["cases list", "specialists list", "servers list"])
def test_a_command_that_looks_at_files_loads_no_protocol_and_no_server(command, tmp_path):
    needless = {"mcp", "langgraph", "langchain_core", "a2a", "dbos", "chromadb", "jwt", "uvicorn", "httpx2"}
    assert sorted(loaded(*command.split(), POINTSMAN_HOME=str(tmp_path)) & needless) == []


def test_an_unknown_command_is_a_usage_error_in_plain_words():
    done = subprocess.run([POINTSMAN, "tirage"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "tirage" in done.stderr and "Traceback" not in done.stderr


def test_version_answers():
    started = time.monotonic()
    done = subprocess.run([POINTSMAN, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith("pointsman ")
    assert time.monotonic() - started < 30  # a bound on hanging, not a measurement
