"""Servers other people wrote, as npm and PyPI give them, behind one gateway."""

import asyncio
import json
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mcp.types import PromptReference, TextContent, TextResourceContents

from tests.conformance.gateway.node import install, node, shared
from tests.conformance.gateway.pypi import programs
from tests.gateway.world import Running, gateway, pointsman, words

NPM = [f"@modelcontextprotocol/server-{name}@2026.8.31" for name in ("everything", "filesystem", "memory")]
PYPI = ["mcp-server-git==2026.10.19", "mcp-server-time==2026.10.19", "mcp-server-fetch==2026.10.24"]
EVERYBODY = """
@id("everybody") @description("Everybody may do everything.") @advice("Go on.")
permit (principal, action, resource);
"""
TRUST = {"pin": "trust"}
pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class World:
    """A gateway with the servers behind it, and what they work on."""

    running: Running
    files: Path
    repository: Path
    page: str


@dataclass(frozen=True)
class Expected:
    """What a server must do: its era, some of its tools, a call and words of its answer, one it refuses."""

    era: str
    tools: set[str]
    good: tuple[str, dict[str, Any], str]
    bad: tuple[str, dict[str, Any], str]


def expected(world: World) -> dict[str, Expected]:
    note, repository = {"path": str(world.files / "note.txt")}, {"repo_path": str(world.repository)}
    noon = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    nobody = {"observations": [{"entityName": "nobody", "contents": ["is here"]}]}
    return {
        "everything": Expected(
            "legacy",
            {"echo", "get-sum", "get-tiny-image", "trigger-long-running-operation"},
            ("get-sum", {"a": 2, "b": 3}, "The sum of 2 and 3 is 5."),
            ("get-resource-reference", {"resourceType": "Text", "resourceId": -1}, "Invalid resourceId: -1"),
        ),
        "files": Expected(
            "legacy",
            {"read_text_file", "write_file", "list_directory", "directory_tree"},
            ("read_text_file", note, "the disk was full at nine"),
            ("read_text_file", {"path": "/etc/passwd"}, "Access denied"),
        ),
        "board": Expected(
            "legacy",
            {"create_entities", "create_relations", "read_graph", "search_nodes"},
            ("read_graph", {}, '"entities"'),
            ("add_observations", nobody, "Entity with name nobody not found"),
        ),
        "git": Expected(
            "modern",
            {"git_status", "git_log", "git_commit", "git_diff"},
            ("git_log", repository, "Fix the pool size"),
            ("git_show", {**repository, "revision": "nowhere"}, "nowhere"),
        ),
        "time": Expected(
            "modern",
            {"convert_time", "get_current_time"},
            ("convert_time", noon, "T21:00:00+09:00"),
            ("get_current_time", {"timezone": "Nowhere/Else"}, "Invalid timezone"),
        ),
        "fetch": Expected(
            "modern",
            {"fetch"},
            ("fetch", {"url": f"{world.page}/note.txt"}, "the disk was full at nine"),
            ("fetch", {"url": f"{world.page}/nothing.txt"}, "404"),
        ),
    }


SERVERS = ["everything", "files", "board", "git", "time", "fetch"]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory with a note, and where it is served over HTTP."""
    files = tmp_path_factory.mktemp("files")
    (files / "note.txt").write_text("the disk was full at nine")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield files, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not on PATH: mcp-server-git cannot work")
    place = tmp_path_factory.mktemp("repository")
    who = ["-c", "user.name=ana", "-c", "user.email=ana@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "Fix the pool size"]):
        subprocess.run(["git", *command], cwd=place, check=True, capture_output=True)
    return place


async def ready(running: Running, names: set[str]) -> dict[str, dict[str, Any]]:
    """What the gateway says of these servers once it has reached all of them."""
    servers: dict[str, dict[str, Any]] = {}
    async with running.client() as client:
        for _ in range(600):
            told = (await client.call_tool("gateway__list_servers", {})).structured_content
            assert told is not None
            servers = {server["name"]: server for server in told["servers"] if server["name"] in names}
            assert not (failed := [s for s in servers.values() if s["state"] == "failed"]), failed
            if all(server["state"] in ("ready", "quarantined") for server in servers.values()):
                return servers
            await asyncio.sleep(0.1)
    raise AssertionError(servers)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, page: tuple[Path, str], repository: Path
) -> Iterator[World]:
    directory, (files, url) = tmp_path_factory.mktemp("real"), page
    place = shared(tmp_path_factory, "npm")
    with ThreadPoolExecutor() as all_at_once:
        found = all_at_once.submit(node, place)
        npm = all_at_once.submit(install, place / "servers", *NPM)
        pypi = all_at_once.submit(programs, shared(tmp_path_factory, "pypi"), *PYPI)
        packages, commands = npm.result() / "node_modules" / "@modelcontextprotocol", pypi.result()
        runner = found.result()

    def by_node(name: str, *arguments: str) -> dict[str, Any]:
        program = str(packages / f"server-{name}" / "dist" / "index.js")
        return {"command": runner, "args": [program, *arguments], "pointsman": TRUST}

    def by_python(name: str, *arguments: str) -> dict[str, Any]:
        return {"command": str(commands / f"mcp-server-{name}"), "args": list(arguments), "pointsman": TRUST}

    board = by_node("memory")
    board["env"] = {"MEMORY_FILE_PATH": str(directory / "board.jsonl")}
    own_file = f'MEMORY_FILE_PATH="$(mktemp -d {shlex.quote(str(directory))}/graph-XXXXXX)/own.jsonl"'
    memory = {
        "command": "sh",
        "args": ["-c", f"{own_file} exec {shlex.join([runner, *board['args']])}"],
        "pointsman": {**TRUST, "isolation": "principal"},
    }
    git = by_python("git", "--repository", str(repository))
    del git["pointsman"]
    servers = {
        "everything": by_node("everything"),
        "files": by_node("filesystem", str(files)),
        "board": board,
        "memory": memory,
        "git": git,
        "time": by_python("time", "--local-timezone", "UTC"),
        "fetch": by_python("fetch", "--ignore-robots-txt", "--allow-private-ips"),
    }
    with gateway(directory, servers, EVERYBODY) as running:
        told = asyncio.run(ready(running, set(servers)))
        assert {name for name, server in told.items() if server["state"] == "quarantined"} == {"git"}
        approved = pointsman(running, "servers", "approve", "git")
        assert approved.returncode == 0, approved.stderr
        yield World(running, files, repository, url)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("name", SERVERS)
async def test_it_lists_answers_and_refuses_in_its_own_words(world: World, name: str, mode: str) -> None:
    wanted = expected(world)[name]
    assert (await ready(world.running, {name}))[name]["era"] == wanted.era
    async with world.running.client(endpoint=f"/servers/{name}/mcp", mode=mode) as client:
        assert wanted.tools <= {tool.name for tool in (await client.list_tools()).tools}
        tool, arguments, said = wanted.good
        answered = await client.call_tool(tool, arguments)
        assert not answered.is_error and said in words(answered.model_dump())
        tool, arguments, said = wanted.bad
        refused = await client.call_tool(tool, arguments)
        assert refused.is_error and said in words(refused.model_dump())
        assert "pointsman/refusal" not in (refused.meta or {})


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_everything_has_prompts_resources_completion_progress_and_structure(
    world: World, mode: str
) -> None:
    steps: list[tuple[float, float | None]] = []

    async def count(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total))

    async with world.running.client(mode=mode) as client:
        prompts = [p.name for p in (await client.list_prompts()).prompts]
        assert {"everything__args-prompt", "everything__completable-prompt", "fetch__fetch"} <= set(prompts)
        prompt = await client.get_prompt("everything__args-prompt", {"city": "Bergen", "state": "Vestland"})
        content = prompt.messages[0].content
        assert isinstance(content, TextContent) and "Bergen, Vestland" in content.text
        reference = PromptReference(type="ref/prompt", name="everything__completable-prompt")
        completed = await client.complete(reference, {"name": "department", "value": "E"})
        assert completed.completion.values == ["Engineering"]
        uris = {str(resource.uri) for resource in (await client.list_resources()).resources}
        uri = "demo://resource/static/document/features.md"
        assert uri in uris
        templates = (await client.list_resource_templates()).resource_templates
        assert "demo://resource/dynamic/text/{resourceId}" in {t.uri_template for t in templates}
        for address, said in ((uri, "Features"), ("demo://resource/dynamic/text/7", "Resource 7: ")):
            read = (await client.read_resource(address)).contents[0]
            assert isinstance(read, TextResourceContents) and said in read.text
        weather = await client.call_tool("everything__get-structured-content", {"location": "Chicago"})
        assert weather.structured_content is not None and weather.structured_content["temperature"] == 36
        name, arguments = "everything__trigger-long-running-operation", {"duration": 0.2, "steps": 2}
        done = await client.call_tool(name, arguments, progress_callback=count)
        assert "completed" in words(done.model_dump()) and steps == [(1, 2), (2, 2)]


async def test_what_two_subjects_remember_meets_only_where_the_process_is_shared(world: World) -> None:
    async def remember(server: str, subject: str) -> list[str]:
        token = await world.running.issue(f"agent:{subject}")
        async with world.running.client(token, f"/servers/{server}/mcp") as client:
            entity = {"name": f"{subject}'s", "entityType": "secret", "observations": ["mine"]}
            made = await client.call_tool("create_entities", {"entities": [entity]})
            assert not made.is_error, made
            graph = await client.call_tool("read_graph", {})
            read = (await client.read_resource("memory://knowledge-graph")).contents[0]
        assert graph.structured_content is not None and isinstance(read, TextResourceContents)
        names = [entity["name"] for entity in graph.structured_content["entities"]]
        assert [entity["name"] for entity in json.loads(read.text)["entities"]] == names
        return names

    assert await remember("memory", "ben") == ["ben's"]
    assert await remember("memory", "cleo") == ["cleo's"]
    assert await asyncio.gather(remember("memory", "dan"), remember("memory", "eve")) == [
        ["dan's"],
        ["eve's"],
    ]
    assert (await remember("board", "ben"))[-1:] == ["ben's"]
    assert (await remember("board", "cleo"))[-2:] == ["ben's", "cleo's"]


async def test_the_ledger_holds_every_call(world: World) -> None:
    token = await world.running.issue("agent:busy")
    calls: dict[tuple[str, str], dict[str, Any]] = {}
    for name, wanted in expected(world).items():
        for (tool, arguments, _), status in ((wanted.good, "ok"), (wanted.bad, "error")):
            calls[f"{name}__{tool}", status] = arguments
    async with world.running.client(token) as client:
        await asyncio.gather(*(client.call_tool(tool, given) for (tool, _), given in calls.items()))
    told = await asyncio.to_thread(pointsman, world.running, "audit", "export", "--jsonl")
    records = [json.loads(line) for line in told.stdout.splitlines()]
    mine = [r for r in records if r.get("subject") == "agent:busy" and r["kind"] in ("intent", "outcome")]
    intents = {r["call"]: r["tool"] for r in mine if r["kind"] == "intent"}
    outcomes = [(r["call"], r["status"]) for r in mine if r["kind"] == "outcome"]
    assert sorted((intents[call], status) for call, status in outcomes) == sorted(calls)
    assert len(intents) == len(calls)
