"""The command line answers at once, whatever stands behind it."""

import subprocess
import sys
import time
from pathlib import Path

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


def test_help_loads_nothing_heavy():
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", POINTSMAN, "--help"], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert sorted(loaded & set(HEAVY)) == []


def test_an_unknown_command_is_a_usage_error_in_plain_words():
    done = subprocess.run([POINTSMAN, "tirage"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "tirage" in done.stderr and "Traceback" not in done.stderr


def test_version_answers():
    started = time.monotonic()
    done = subprocess.run([POINTSMAN, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith("pointsman ")
    assert time.monotonic() - started < 30  # a bound on hanging, not a measurement
