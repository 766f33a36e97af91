"""What a gateway tells about itself: ready or not and why, figures, spans."""

import sqlite3
from pathlib import Path

import httpx2
import pytest

from gateway.front import Front
from tests.gateway.world import Running, app_with, fake_server, gateway, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def get(running: Running, path: str, token: str = "") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(timeout=30) as http:
        return await http.get(running.url + path, headers=headers)


def status(running: Running) -> int:
    return httpx2.get(running.url + "/readyz", timeout=30).status_code


async def test_it_is_ready_when_one_server_of_several_is(tmp_path: Path) -> None:
    dead = {"type": "http", "url": "http://127.0.0.1:9/very-secret/mcp"}
    with (
        fake_server(tmp_path / "up") as server,
        gateway(tmp_path, {"up": server.entry(), "dead": dead}) as here,
    ):
        assert until(lambda: status(here) == 200)
        about = (await get(here, "/readyz")).json()
        assert about["status"] == "ready" and about["reasons"] == [] and about["ledger"] == "writable"
        assert about["servers"]["ready"] == 1 and about["policy"] == {"rules": 4}


async def test_it_is_not_ready_without_any_server_and_names_none(tmp_path: Path) -> None:
    dead = {"type": "http", "url": "http://127.0.0.1:9/very-secret/mcp"}
    with gateway(tmp_path, {"hidden": dead}) as here:
        answer = await get(here, "/readyz")
        assert answer.status_code == 503 and answer.json()["status"] == "not ready"
        assert answer.json()["reasons"] == ["no tool server is ready: see `pointsman servers list`"]
        assert "hidden" not in answer.text and "very-secret" not in answer.text
        assert (await get(here, "/healthz")).status_code == 200


async def test_it_is_not_ready_while_its_ledger_is_locked_and_is_again_by_itself(tmp_path: Path) -> None:
    with gateway(tmp_path, {}) as here:
        assert status(here) == 200
        other = sqlite3.connect(here.home / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert until(lambda: status(here) == 503, 20)
        about = (await get(here, "/readyz")).json()
        assert about["ledger"] == "not writable" and "ledger" in about["reasons"][0]
        other.execute("ROLLBACK")
        other.close()
        assert until(lambda: status(here) == 200, 20)


async def test_it_is_not_ready_while_it_stops(tmp_path: Path) -> None:
    async with app_with(tmp_path, {}) as app:
        sent: list[dict] = []

        async def send(part: dict) -> None:
            sent.append(part)

        front: Front = app.front
        front.end_streams()
        await front({"type": "http", "path": "/readyz"}, None, send)
        assert sent[0]["status"] == 503 and b"stopping" in sent[1]["body"]
