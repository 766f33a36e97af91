"""A ledger that cannot be written: nothing runs unrecorded, reading goes on, and it comes back by itself."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.app import App
from gateway.errors import LedgerUnavailable
from gateway.postgres import SESSION
from tests.databases import run_name, start_server
from tests.gateway.world import LOGS, FakeServer, app_with, call, code, until, words

pytestmark = pytest.mark.anyio
Fault = Callable[[App], AbstractContextManager[None]]


@contextmanager
def locked(app: App) -> Iterator[None]:
    """Another process holds the database."""
    other = sqlite3.connect(app.home / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def read_only(app: App) -> Iterator[None]:
    """The files may not be written any more, open as they are."""
    files = [str(app.home / name) for name in ("ledger.db", "ledger.db-wal")]
    done = subprocess.run(["chattr", "+i", *files], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs a file system and a user for chattr +i: {done.stderr.strip()}")
    try:
        with open(app.home / "ledger.db", "ab"):
            pytest.skip("this file system does not keep to chattr +i")
    except OSError:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


@contextmanager
def full(app: App) -> Iterator[None]:
    """The disk has no room left."""
    filler = app.home / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs root and tmpfs for a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def settled(app: App) -> bool:
    """Whether calls run again within seconds, and the outcome that was held back has been recorded."""
    for _ in range(100):
        again = await call(app, LOGS, "fake__read", {"text": "after"})
        found = await app.ledger.find_key(LOGS, "under way")
        if words(again) == "read: after" and found is not None and found.status == "ok":
            return True
        await asyncio.sleep(0.1)
    return False


async def through(app: App, fake: FakeServer, fault: Fault, *, readable: bool = True) -> None:
    """Calls before, during and after a fault; what the tool server ran is what the ledger says."""
    await app.store.write(lambda c: None if c.shared else c.execute("PRAGMA busy_timeout=100") and None)
    app.store.database._busy_ms = 100  # pyright: ignore
    assert words(await call(app, LOGS, "fake__read", {"text": "before"})) == "read: before"
    flying = asyncio.create_task(call(app, LOGS, "fake__slow", {"seconds": 0.4}, pointsman__key="under way"))
    assert await asyncio.to_thread(until, lambda: ["slow", {"seconds": 0.4}] in fake.calls)
    with fault(app):
        ran = fake.calls
        tries = [call(app, LOGS, "fake__read", {"text": f"{'x' * 9_000}{n}"}) for n in range(5)]
        assert [code(answer) for answer in await asyncio.gather(*tries)] == ["ledger_unavailable"] * 5
        held = await flying  # it has run, and its result is not released
        assert code(held) == "ledger_unavailable"
        assert fake.calls == ran
        if readable:
            assert (await app.ledger.search(kind="intent"))["records"]
        else:
            with pytest.raises(LedgerUnavailable, match="check that the server runs"):
                await app.ledger.search()
    assert await settled(app)
    repeated = await call(app, LOGS, "fake__slow", {"seconds": 0.4}, pointsman__key="under way")
    assert words(repeated) == "awake" and repeated["_meta"]["pointsman/replayed"]
    assert [name for name, _ in fake.calls].count("slow") == 1
    every = [record async for record in app.ledger.export(bodies=("arguments",))]
    ended = {record["call"] for record in every if record["kind"] == "outcome"}
    intents = {record["call"]: record for record in every if record["kind"] == "intent"}
    assert intents.keys() == ended
    happened = [[record["tool"].removeprefix("fake__"), record["arguments"]] for record in intents.values()]
    assert all(one in happened for one in fake.calls)
    assert (await app.ledger.verify())["ok"]


@pytest.mark.parametrize("fault", [locked, read_only], ids=lambda fault: fault.__name__)
async def test_nothing_runs_unrecorded_and_service_comes_back(
    tmp_path: Path, fake: FakeServer, fault: Fault
) -> None:
    async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}) as app:
        await through(app, fake, fault)


async def test_nothing_runs_unrecorded_on_a_full_disk(small_disk: Path, fake: FakeServer) -> None:
    async with app_with(small_disk, {"fake": fake.entry(pin="trust")}) as app:
        await through(app, fake, full)


async def test_nothing_runs_unrecorded_while_postgres_is_gone(tmp_path: Path, fake: FakeServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server: Any = start_server(f"{run_name()}-gone")

        @contextmanager
        def gone(app: App) -> Iterator[None]:
            server.stop()
            try:
                yield
            finally:
                server.ensure_postgres_running()

        database = {"database": server.get_uri()}
        try:
            async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}, **database) as app:
                await through(app, fake, gone, readable=False)
        finally:
            server.stop()
            shutil.rmtree(server.pgdata)


async def test_calls_are_refused_in_time_while_postgres_hangs(
    tmp_path: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.postgres.PATIENCE", 1.5)
    monkeypatch.setitem(SESSION, "connect_timeout", 2)
    monkeypatch.setattr("gateway.ledger.LONG", 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server: Any = start_server(f"{run_name()}-hangs")
    leader = psutil.Process(int((Path(server.pgdata) / "postmaster.pid").read_text().split()[0]))

    @contextmanager
    def hung(app: App) -> Iterator[None]:
        """The server and all it has started stand still; their sockets stay open."""
        stopped = [leader, *leader.children(recursive=True)]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                process.resume()

    try:
        async with app_with(tmp_path, {"fake": fake.entry(pin="trust")}, database=server.get_uri()) as app:
            began = time.monotonic()
            await through(app, fake, hung, readable=False)
            assert time.monotonic() - began < 60
    finally:
        server.stop()
        shutil.rmtree(server.pgdata)
