"""Serving: alone on stdio, alone over HTTP, all in one process; tokens; the end of the parent."""

import json
import os
import select
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.tool_servers.making import at, text_of
from tool_servers.serving import NAMES

pytestmark = pytest.mark.anyio

ROOT = str(Path(__file__).parents[2])
MODES = ("auto", "legacy")


@contextmanager
def child(module, *arguments, **environment):
    """A server as a child process that reports its address through a pipe."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", module, *map(str, arguments), "--ready-fd", str(writer)]
    process = subprocess.Popen(
        command, pass_fds=[writer], env=env(**environment), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            yield json.loads(pipe.readline())["url"], process
    finally:
        process.terminate()
        output, errors = process.communicate(timeout=60)
        assert (output, errors) == (b"", b""), "a server says nothing while all is well"


def env(**more):
    return {"PYTHONPATH": ROOT, "PATH": os.environ["PATH"], **more}


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_runs_alone_on_stdio_in_both_eras(recording, tmp_path, mode):
    alone = StdioServerParameters(
        command=sys.executable,
        args=["-m", "tool_servers.logs", "--recording", str(recording), "--state", str(tmp_path / "s")],
        env=env(),
    )
    async with Client(alone, mode=mode) as client:
        result = await client.call_tool("search", {"text": "pool", "limit": 1})
    assert text_of(result).splitlines()[0] == f"11 lines match, until {at(50)}"


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_runs_alone_over_http_in_both_eras(recording, tmp_path, mode):
    with child("tool_servers.changes", "--http", "--recording", recording, "--state", tmp_path) as (url, _):
        async with Client(f"{url}/changes/mcp", mode=mode) as client:
            result = await client.call_tool("flags", {})
    assert result.structured_content["flags"][0]["flag"] == "new_basket"


async def test_all_servers_run_in_one_process_and_want_the_token(recording, tmp_path):
    arguments = ("--recording", recording, "--state", tmp_path / "state")
    with child("tool_servers", *arguments, TOOL_SERVERS_TOKEN="secret") as (url, _):
        async with httpx2.AsyncClient() as stranger:
            for name in NAMES:
                answer = await stranger.post(f"{url}/{name}/mcp", json={})
                assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            wrong = await stranger.post(f"{url}/logs/mcp", headers={"Authorization": "Bearer secre"})
            assert wrong.status_code == 401
        async with httpx2.AsyncClient(headers={"Authorization": "Bearer secret"}) as http:
            assert (await http.post(f"{url}/nothing/mcp")).status_code == 404
            for name in NAMES:
                transport = streamable_http_client(f"{url}/{name}/mcp", http_client=http)
                async with Client(transport) as client:
                    assert (await client.list_tools()).tools


async def test_only_the_named_servers_are_served(recording, tmp_path):
    arguments = ("--recording", recording, "--state", tmp_path, "--only", "logs,traces")
    with child("tool_servers", *arguments) as (url, _):
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"{url}/metrics/mcp")
    assert answer.status_code == 404 and "/logs/mcp, /traces/mcp" in answer.text


async def test_another_site_cannot_reach_a_server_through_a_browser(recording, tmp_path):
    with child("tool_servers", "--only", "logs", "--state", tmp_path) as (url, _):
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"{url}/logs/mcp", json={}, headers={"Host": "evil.example"})
    assert answer.status_code == 421


def test_the_address_goes_to_standard_output_when_no_pipe_is_named(tmp_path):
    command = [sys.executable, "-m", "tool_servers", "--only", "tickets", "--state", str(tmp_path)]
    with subprocess.Popen(command, env=env(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
        process.terminate()


def test_the_servers_end_when_their_parent_is_killed(tmp_path):
    """The grandchild holds the pipe open until it is gone."""
    reader, writer = os.pipe()
    script = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'tool_servers', '--only', 'tickets']\n"
        f"subprocess.Popen([*command, '--state', {str(tmp_path)!r}], pass_fds=[{writer}])\n"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        pass_fds=[writer],
        env=env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert parent.stdout is not None and "url" in parent.stdout.readline()
    parent.kill()
    parent.communicate()
    gone, _, _ = select.select([reader], [], [], 20)
    assert gone and os.read(reader, 1) == b""
    os.close(reader)


async def test_a_link_to_another_recording_is_followed_while_serving(recording, tmp_path):
    from tests.tool_servers.making import make_recording

    link, aside = tmp_path / "current", tmp_path / "aside"
    link.symlink_to(recording)
    with child("tool_servers", "--only", "logs", "--recording", link, "--state", tmp_path / "s") as (url, _):
        async with Client(f"{url}/logs/mcp") as client:
            assert (await client.call_tool("search", {"text": "pool"})).structured_content["total"] == 11
            other = make_recording(tmp_path / "other", id="other")
            (other / "logs.ndjson.gz").unlink()
            (other / "logs.ndjson").write_text("")
            aside.symlink_to(other)
            os.replace(aside, link)
            assert (await client.call_tool("search", {"text": "pool"})).structured_content["total"] == 0


async def test_the_servers_keep_their_own_count_of_calls(recording, tmp_path):
    state = tmp_path / "s"
    with child("tool_servers", "--recording", recording, "--state", state, "--only", "logs,actions") as (
        url,
        _,
    ):
        async with Client(f"{url}/logs/mcp") as client:
            await client.call_tool("search", {"text": "pool"})
            await client.call_tool("search", {"nonsense": 1}, meta=None)
        async with Client(f"{url}/actions/mcp") as client:
            await client.call_tool("status", {})
    lines = [json.loads(line) for line in (state / "access.log").read_text().splitlines()]
    assert [(line["server"], line["tool"]) for line in lines] == [("logs", "search"), ("actions", "status")]
