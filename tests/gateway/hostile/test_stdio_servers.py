"""Sick and hostile servers as child processes: each costs its own calls, and none outlives the gateway."""

import asyncio
import json
import os
import signal
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.gateway.hostile.field import HERE, LIMIT, SECONDS, Field, until
from tests.gateway.hostile.modes import LATE, STDIO, STDIO_STANDING
from tests.gateway.world import fake_server, gateway, pointsman
from tests.gateway.world import until as until_true


def entry(mode: str, *, late: bool = False) -> dict[str, Any]:
    command = "no-such-program" if mode == "stdio-missing" else sys.executable
    args = ["-I", str(HERE / "stdio_peer.py"), mode]
    ours = {"pin": "trust", "timeout": SECONDS if late else 30}
    return {"command": command, "args": args, "pointsman": ours}


@contextmanager
def field(directory: Path, modes: dict[str, Any]) -> Iterator[Field]:
    with fake_server(directory / "well") as well:
        servers = {**modes, "well": well.entry(pin="trust")}
        with gateway(directory, servers, max_result_bytes=LIMIT, connect_seconds=1) as running:
            yield Field(running, asyncio.run(running.issue("agent:logs", "specialist")))


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    modes = {mode: entry(mode, late=about.expected == LATE) for mode, about in STDIO.items()}
    modes |= {mode: entry(mode) for mode in STDIO_STANDING}
    with field(tmp_path_factory.mktemp("stdio"), modes) as here:

        async def run() -> None:
            async def ready() -> bool:
                told = await here.servers()
                return all(told[mode]["state"] == "ready" for mode in STDIO)

            await until(ready)
            await here.try_modes({mode: {} for mode in STDIO}, "well__read", at_once=4)

        asyncio.run(run())
        yield here


@pytest.mark.parametrize("mode", STDIO)
def test_a_process_that_turns_hostile_in_a_call(called: Field, mode: str) -> None:
    got, words = called.outcomes[mode]
    assert got == STDIO[mode].expected, words
    assert "poison" not in words


def test_the_well_server_beside_them_answered_every_call_and_as_quickly(called: Field) -> None:
    assert len(called.beside) > 5
    alone, beside = statistics.median(called.alone), statistics.median(called.beside)
    assert beside < max(10 * alone, 0.25), (alone, beside)


def test_a_process_that_asks_what_is_not_opened_is_told_no(called: Field) -> None:
    assert json.loads(called.outcomes["stdio-asks"][1])["code"] == -32601


@pytest.mark.parametrize("mode", STDIO_STANDING)
def test_a_process_that_cannot_be_used_is_named_with_its_stage(called: Field, mode: str) -> None:
    async def failed() -> Any:
        told = (await called.servers())[mode]
        return told if told["state"] == "failed" else None

    told = asyncio.run(until(failed))
    assert told["stage"] == STDIO_STANDING[mode].expected, told["error"]
    if mode == "stdio-dies-at-start":
        assert "no configuration found" in told["error"]


def test_every_call_has_its_outcome_in_the_ledger(called: Field) -> None:
    called.ledger_is_whole()


def test_a_process_that_dies_at_every_call_is_started_less_and_less_often(tmp_path: Path) -> None:
    with field(tmp_path, {"stdio-dies": entry("stdio-dies")}) as here:

        async def run() -> list[str]:
            import httpx2

            async with httpx2.AsyncClient(timeout=60) as http:
                return [(await here.call(http, "stdio-dies__go"))[1] for _ in range(12)]

        words = asyncio.run(run())
    assert any("tried again in" in said for said in words), words


PARENT = """
import subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child])
sys.argv = ["", "stdio-well"]
exec(open({peer!r}).read())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_child_has_started_ends_with_the_gateway_however_that_ends(tmp_path: Path, how: int) -> None:
    script = PARENT.format(peer=str(HERE / "stdio_peer.py"))
    child = {"command": sys.executable, "args": ["-c", script], "pointsman": {"pin": "trust"}}
    with field(tmp_path, {"parent": child}) as here:

        def family() -> list[psutil.Process]:
            found = psutil.Process(here.running.process.pid).children(recursive=True)
            return found if sum("SIG_IGN" in " ".join(p.cmdline()) for p in found) == 2 else []

        assert until_true(family, 60)
        every = family()
        os.kill(here.running.process.pid, how)
        assert until_true(lambda: not [p for p in every if p.is_running() and p.status() != "zombie"], 20)


def test_a_child_knows_nothing_of_our_environment_but_what_is_harmless(tmp_path: Path) -> None:
    show = "import os, sys; sys.exit(' '.join(sorted(os.environ)))"
    child = {"command": sys.executable, "args": ["-I", "-c", show], "env": {"OWN": "1"}}
    with field(tmp_path, {"shown": child}) as here:
        told = pointsman(here.running, "servers", "test", "shown")
    assert "OWN" in told.stdout + told.stderr and "POINTSMAN" not in told.stdout + told.stderr
