"""A server nobody here wrote: quarantined, approved, called by one subject and refused to another."""

import shutil
import subprocess
import time
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.journeys.conftest import POINTSMAN

PACKAGE = "@modelcontextprotocol/server-filesystem"


@pytest.fixture(scope="module")
def npx(tmp_path_factory):
    """npx, with the package at hand; without either, the journey says why it is not made."""
    path = shutil.which("npx")
    if path is None:
        pytest.skip("npx (node) is not on PATH: the filesystem server cannot be started")
    cache = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        [path, "-y", "--cache", str(cache), PACKAGE, "--help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    if "ENOTFOUND" in done.stderr or "E404" in done.stderr or "ECONNREFUSED" in done.stderr:
        pytest.skip(f"{PACKAGE} cannot be had from the npm registry here: {done.stderr[-200:]}")
    return ["npx", "-y", "--cache", str(cache), PACKAGE]


@asynccontextmanager
async def session(gateway, token):
    """A client of the official SDK with this token."""
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})
    async with http, Client(streamable_http_client(f"{gateway}/mcp", http_client=http), cache=None) as client:
        yield client


def issue(person, subject, *roles):
    wanted = [word for role in roles for word in ("--role", role)]
    return person.json("tokens", "issue", subject, *wanted)["token"]


def until_ready(person, name):
    """Wait until a registered server was reached; `npx` may take its time."""
    deadline = time.monotonic() + 60
    while True:
        server = next(s for s in person.json("servers", "list")["servers"] if s["name"] == name)
        if server["state"] == "quarantined" or time.monotonic() > deadline:
            return server
        person.run(POINTSMAN, "servers", "test", name)


@pytest.mark.anyio
async def test_a_foreign_server_is_quarantined_then_approved_then_called_or_denied(person, gateway, npx):
    notes = person.directory / "notes"
    notes.mkdir()
    (notes / "hello.txt").write_text("hello from a file")
    reader, stranger = issue(person, "agent:reader", "specialist"), issue(person, "agent:stranger", "visitor")

    person.pointsman("servers", "add", "files", "--", *npx, str(notes))
    assert until_ready(person, "files")["state"] == "quarantined"
    read = {"path": str(notes / "hello.txt")}
    async with session(gateway, reader) as client:
        assert not [
            tool.name for tool in (await client.list_tools()).tools if tool.name.startswith("files__")
        ]
        quarantined = await client.call_tool("files__read_text_file", read)
        assert quarantined.is_error and quarantined.meta["pointsman/refusal"]["code"] == "quarantined"

        person.pointsman("servers", "approve", "files", "--all")
        assert "files__read_text_file" in [tool.name for tool in (await client.list_tools()).tools]
        answered = await client.call_tool("files__read_text_file", read)
        assert not answered.is_error and "hello from a file" in answered.content[0].text
    async with session(gateway, stranger) as client:
        denied = await client.call_tool("files__read_text_file", read)
        assert denied.is_error and denied.meta["pointsman/refusal"]["code"] == "denied"

    told = person.records(server="files") + person.records(tool="files__read_text_file")
    kinds = [(r["kind"], r.get("subject"), r.get("code") or r.get("status")) for r in told]
    assert [r["body"]["change"] for r in told if r["kind"] == "registration"][:2] == ["added", "approved"]
    assert ("refusal", "agent:reader", "quarantined") in kinds
    assert ("outcome", "agent:reader", "ok") in kinds
    assert ("refusal", "agent:stranger", "denied") in kinds
    assert person.json("audit", "verify")["ok"] is True
