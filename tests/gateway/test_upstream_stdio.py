"""Tool servers as child processes: told apart, supervised, and gone when the gateway is."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway import upstream_stdio
from gateway.app import App
from tests.gateway.world import (
    LOGS,
    OPERATOR,
    app_with,
    call,
    code,
    gateway,
    pointsman,
    stdio_entry,
    until,
    words,
)

pytestmark = pytest.mark.anyio


def script(directory: Path, text: str, **ours: Any) -> dict[str, Any]:
    """The entry of a server that is a script."""
    path = directory / "sick.py"
    path.write_text(text)
    return {"command": sys.executable, "args": [str(path)], "pointsman": {"pin": "trust", **ours}}


LEGACY = """
import json, sys, time
NONE = {"content": []}
def say(**m): print(json.dumps({"jsonrpc": "2.0", **m}), flush=True)
for line in sys.stdin:
    m = json.loads(line)
    method, number = m.get("method"), m.get("id")
    if number is None: continue
    if method == "initialize":
        say(id=number, result={"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                               "serverInfo": {"name": "s", "version": "1"}})
    elif method == "tools/list":
        say(id=number, result={"tools": [{"name": "go", "inputSchema": {"type": "object"},
                                          "annotations": {"readOnlyHint": True}}]})
    elif method == "tools/call":
        BODY
    else:
        say(id=number, error={"code": -32601, "message": "no"})
"""
OK = 'say(id=number, result={"content": [{"type": "text", "text": "ok"}]})'


async def test_concurrent_calls_of_one_process_get_their_own_answers(tmp_path: Path) -> None:
    async with app_with(tmp_path, {"child": stdio_entry(tmp_path / "child", pin="trust")}) as app:
        calls = [call(app, LOGS, "child__read", {"text": str(n)}) for n in range(50)]
        results = await asyncio.gather(*calls, call(app, LOGS, "child__slow", {"seconds": 0.3}))
        assert [words(r) for r in results] == [*(f"read: {n}" for n in range(50)), "awake"]


async def test_a_process_that_dies_is_named_and_started_again(tmp_path: Path) -> None:
    entry = stdio_entry(tmp_path / "child", pin="trust", tools={"die": {"readOnly": False}})
    async with app_with(tmp_path, {"child": entry}) as app:
        asked = await call(app, LOGS, "child__die")
        approval = asked["_meta"]["pointsman/refusal"]["approval"]
        await call(app, OPERATOR, "gateway__grant_approval", {"id": approval, "reason": "tested"})
        died = await call(app, LOGS, "child__die")
        assert code(died) == "upstream_unavailable"
        assert "may have run" in words(died) and "ended with code 3" in words(died)
        assert words(await call(app, LOGS, "child__read", {"text": "again"})) == "read: again"


SICK = {
    "writes junk": 'print("Traceback: not JSON", flush=True)',
    "answers with another id": "say(id=number + 1, result=NONE); say(id=str(number), result=NONE)",
    "writes a line without end": 'sys.stdout.write("x" * 3_000_000); sys.stdout.flush()',
    "says nothing": "pass",
    "repeats a key": """print('{"jsonrpc":"2.0","id":%d,"result":{"a":[],"a":[]}}' % number, flush=True)""",
    "dies": "sys.exit(4)",
}


# asyncio may leave the pipe of a process that died to the garbage collector, which then warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", SICK)
async def test_a_sick_process_costs_its_own_calls_and_nobody_elses(tmp_path: Path, how: str) -> None:
    sick = script(tmp_path, LEGACY.replace("BODY", SICK[how]), timeout=1.5)
    servers = {"sick": sick, "well": stdio_entry(tmp_path / "well", pin="trust")}
    async with app_with(tmp_path, servers, max_result_bytes=1_000_000, connect_seconds=60) as app:
        waiting = asyncio.create_task(call(app, LOGS, "sick__go"))
        assert words(await call(app, LOGS, "well__read", {"text": "fine"})) == "read: fine"
        assert code(await waiting) in ("upstream_unavailable", "deadline_exceeded")


async def test_a_stderr_flood_does_not_stop_the_process(tmp_path: Path) -> None:
    body = f'sys.stderr.write("noise" * 400_000); sys.stderr.flush(); {OK}'
    async with app_with(tmp_path, {"loud": script(tmp_path, LEGACY.replace("BODY", body))}) as app:
        assert words(await call(app, LOGS, "loud__go")) == "ok"


async def test_a_question_of_a_server_that_is_not_open_is_refused(tmp_path: Path) -> None:
    body = """
        say(id="q", method="elicitation/create", params={"message": "password?", "requestedSchema": {}})
        answer = json.loads(sys.stdin.readline())
        say(id=number, result={"content": [{"type": "text", "text": json.dumps(answer["error"])}]})
"""
    async with app_with(tmp_path, {"nosy": script(tmp_path, LEGACY.replace("BODY", body.strip()))}) as app:
        told = json.loads(words(await call(app, LOGS, "nosy__go")))
        assert told["code"] == -32601 and "not opened" in told["message"]


async def test_a_cancelled_call_is_cancelled_in_the_process(tmp_path: Path) -> None:
    body = """
        other = json.loads(sys.stdin.readline())
        open(sys.argv[0] + ".heard", "w").write(other["method"])
"""
    entry = script(tmp_path, LEGACY.replace("BODY", body.strip()), timeout=0.3)
    async with app_with(tmp_path, {"slow": entry}) as app:
        assert code(await call(app, LOGS, "slow__go")) == "deadline_exceeded"
        heard = tmp_path / "sick.py.heard"
        assert await asyncio.to_thread(until, lambda: heard.exists() and heard.read_text())
        assert heard.read_text() == "notifications/cancelled"


async def pid_of(app: App, name: str) -> int:
    """The process behind a server."""
    return json.loads(words(await call(app, LOGS, f"{name}__whoami")))["pid"]


async def test_processes_end_with_the_gateway_also_when_it_is_killed(tmp_path: Path) -> None:
    async with app_with(tmp_path, {"child": stdio_entry(tmp_path / "child", pin="trust")}) as app:
        pid = await pid_of(app, "child")
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    with gateway(tmp_path, {"child": stdio_entry(tmp_path / "child", pin="trust")}) as running:
        tested = pointsman(running, "servers", "test", "child")
        assert tested.returncode == 0, tested.stderr
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert children
        os.kill(running.process.pid, signal.SIGKILL)
        assert await asyncio.to_thread(until, lambda: not any(c.is_running() for c in children))


async def test_a_server_of_the_new_era_that_starts_slowly_is_not_taken_for_one_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.upstream_stdio.PROBE_SECONDS", 0.05)  # shorter than any start
    async with app_with(tmp_path, {"slow": stdio_entry(tmp_path / "slow", pin="trust")}) as app:
        assert app.catalogue.servers["slow"].upstream.modern is True
        assert words(await call(app, LOGS, "slow__read", {"text": "x"})) == "read: x"


async def test_a_process_that_does_not_read_its_input_is_ended_in_time_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_stdio, "WRITE_SECONDS", 0.5)
    marker = tmp_path / "deaf"
    body = f'open({str(marker)!r}, "x").close(); time.sleep(600)'
    once = (
        f"import os\nif os.path.exists({str(marker)!r}):\n            {OK}\n        else:\n            {body}"
    )
    deaf = script(tmp_path, LEGACY.replace("BODY", once.replace("import os\n", "import os\n        ")))
    async with app_with(tmp_path, {"deaf": deaf}, call_seconds=60) as app:
        first = asyncio.create_task(call(app, LOGS, "deaf__go"))
        assert await asyncio.to_thread(until, marker.exists)
        before = time.monotonic()
        more = await call(app, LOGS, "deaf__go", {"text": "x" * 1_000_000})  # more than a pipe holds
        assert time.monotonic() - before < 30  # ended by the deadline of writing, not by that of the call
        # It may have run, so that only what merely reads is tried again, by the next process.
        assert [words(more), words(await first)] == ["ok", "ok"]
