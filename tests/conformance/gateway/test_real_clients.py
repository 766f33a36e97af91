"""Clients other people wrote, as npm gives them, on the gateway; Python's is in all other tests."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.gateway.node import install, node, shared
from tests.conformance.gateway.test_conformance import EVERYBODY, HERE, fixture_over_http
from tests.gateway.world import Running, gateway, words

SDKS = ["@modelcontextprotocol/sdk@1.32.2", "@modelcontextprotocol/client@2.4.0"]
INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@dataclass(frozen=True)
class Programs:
    """A node, and the directories of what it runs."""

    node: str
    sdks: Path
    inspector: Path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """What npm gives, fetched at once."""
    place = shared(tmp_path_factory, "npm")
    with ThreadPoolExecutor() as all_at_once:
        found = all_at_once.submit(node, place)
        sdks = all_at_once.submit(install, place / "sdks", *SDKS)
        inspector = all_at_once.submit(install, place / "inspector", INSPECTOR)
        return Programs(found.result(), sdks.result(), inspector.result())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with the fixture behind it."""
    with (
        fixture_over_http() as entry,
        gateway(tmp_path_factory.mktemp("clients"), {"fx": entry}, EVERYBODY) as running,
    ):
        yield running


def run(command: list[str]) -> dict[str, Any]:
    """The JSON object a program of npm prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("name", "era"), [("legacy", LEGACY), ("modern", MODERN)])
def test_a_typescript_sdk_lists_calls_is_asked_and_told_of_progress(
    programs: Programs, running: Running, name: str, era: str
) -> None:
    program = [programs.node, str(HERE / f"{name}_client.mjs"), str(programs.sdks)]
    told = run([*program, f"{running.url}/mcp", running.token])
    assert {"fx__x_echo", "fx__test_elicitation", "gateway__list_servers"} <= set(told["tools"])
    assert told["echo"]["structuredContent"] == {"a": 1}
    assert told["error"]["isError"] and "intentionally" in words(told["error"])
    assert words(told["asked"]) == 'User response: action=accept, content={"response": "yes"}'
    seen = told["seen"]["structuredContent"]
    assert seen["protocolVersion"] == era
    assert seen["clientInfo"] == {"name": f"ts-{name}", "version": "1"}
    assert seen["capabilities"] == {"elicitation": {}}
    assert "authorization" not in seen["headers"]
    assert told["progress"] == [0, 50, 100]
    assert told["refused"]["isError"] and words(told["refused"]).startswith("unknown_tool: ")


def test_the_inspector_lists_and_calls(programs: Programs, running: Running) -> None:
    program = str(programs.inspector / "node_modules" / ".bin" / "mcp-inspector")
    start = [programs.node, program, "--cli", f"{running.url}/mcp", "--transport", "http"]
    start += ["--header", f"Authorization: Bearer {running.token}"]
    tools = run([*start, "--method", "tools/list"])["tools"]
    assert {"fx__x_echo", "gateway__list_servers"} <= {tool["name"] for tool in tools}
    call = [*start, "--method", "tools/call", "--tool-name"]
    assert run([*call, "fx__x_echo", "--tool-arg", "a=1"])["structuredContent"] == {"a": 1}
