"""A gateway among hostile servers: how they are started, called, and what the ledger says afterwards."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.gateway.world import Running, ended, line_of, pointsman

HERE = Path(__file__).parent
LIMIT = 1_000_000  # the largest answer that may pass here
SECONDS = 1.5  # the deadline of a call here
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
}
TEMPTING = {"text": "a" * 5_000 + "!"}  # what makes a back-tracking pattern go on for ever


@contextmanager
def http_peer() -> Iterator[str]:
    """The hostile program over HTTP; the address its modes stand below."""
    command = [sys.executable, "-I", str(HERE / "http_peer.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with ended(process):
        yield json.loads(line_of(process, process.stdout))["url"]


@dataclass
class Field:
    """A running gateway and a subject that may call everything."""

    running: Running
    token: str
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)  # mode → (outcome, words)
    alone: list[float] = field(default_factory=list)  # seconds of the well server's calls before
    beside: list[float] = field(default_factory=list)  # and during everything else

    def headers(self, method: str, name: str = "") -> dict[str, str]:
        """The headers of a request of the new era."""
        return {
            "authorization": f"Bearer {self.token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
            **({"mcp-name": name} if name else {}),
        }

    async def call(self, http: httpx2.AsyncClient, name: str, arguments: Any = None) -> tuple[str, str]:
        """One tools/call: a refusal code, `ok`, or `error N`; and what was said."""
        params = {"name": name, "arguments": arguments or {}, "_meta": META}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        url = self.running.url + "/mcp"
        answer = await http.post(url, json=body, headers=self.headers("tools/call", name))
        assert answer.status_code < 500, answer.text
        return outcome(answer)

    async def try_modes(self, modes: dict[str, Any], well: str, at_once: int = 8) -> None:
        """Call every mode, some at once, and the well server all the while."""
        slots = asyncio.Semaphore(at_once)
        async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=64)) as http:

            async def one(mode: str) -> None:
                async with slots:
                    self.outcomes[mode] = await self.call(http, f"{mode}__go", modes[mode])

            await self.call_well(http, well, self.alone, 20)
            running = [asyncio.ensure_future(one(mode)) for mode in modes]
            while not all(task.done() for task in running):
                await self.call_well(http, well, self.beside, 1)
                await asyncio.sleep(0.02)
            await asyncio.gather(*running)

    async def call_well(self, http: httpx2.AsyncClient, well: str, times: list[float], often: int) -> None:
        """Call the well server; every answer has to be the right one."""
        for n in range(often):
            before = time.monotonic()
            got = await self.call(http, well, {"text": f"{n}"})
            assert got == ("ok", f"read: {n}"), got
            times.append(time.monotonic() - before)

    async def servers(self) -> dict[str, dict[str, Any]]:
        """Every server as `servers list` shows it."""
        async with self.running.client() as operator:
            told = (await operator.call_tool("gateway__list_servers", {})).structured_content
        assert told is not None
        return {server["name"]: server for server in told["servers"]}

    def ledger_is_whole(self) -> None:
        """Every call that went out has exactly one outcome, and the chain holds."""
        lines = pointsman(self.running, "audit", "export", "--jsonl").stdout.splitlines()
        records = [json.loads(line) for line in lines]
        intents = [r["call"] for r in records if r["kind"] == "intent"]
        outcomes = [r["call"] for r in records if r["kind"] == "outcome"]
        assert intents and sorted(intents) == sorted(outcomes)
        assert pointsman(self.running, "audit", "verify").returncode == 0


def outcome(answer: httpx2.Response) -> tuple[str, str]:
    """What an answer amounts to."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        datas = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        message = json.loads(datas[-1])
    else:
        message = answer.json()
    assert message["id"] == 1
    if "error" in message:
        return f"error {message['error']['code']}", message["error"]["message"]
    result = message["result"]
    refusal = result.get("_meta", {}).get("pointsman/refusal")
    texts = [part.get("text", "") for part in result.get("content") or [] if isinstance(part, dict)]
    return refusal["code"] if refusal else "ok", "".join(texts)


async def until(condition: Any, seconds: float = 60) -> Any:
    """What the condition comes to, once it is true; fails when that takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := await condition():
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")
