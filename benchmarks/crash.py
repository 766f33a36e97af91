"""Kills a loaded gateway at moments chosen by chance, and compares its ledger with what really happened.

    python benchmarks/crash.py --times 200 [--database postgres] [--durability async] [--seed 1]

Every round starts a whole gateway in a process of its own on the same home, loads it over HTTP, kills it
with signal 9 (one round in ten while it still starts), and then looks: a call that the tool server ran must
have an intent in the ledger, a result that a client got must have an outcome, the chain and its checkpoints
must verify, and the gateway that starts next must have closed every open intent as `unknown`. Exit code 0
when all of that held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import orjson  # noqa: E402
from load import Client, Tally  # noqa: E402
from upstream import Connection, ToolServer  # noqa: E402

from gateway import process  # noqa: E402
from gateway.checkpoints import Checkpoints  # noqa: E402
from gateway.ledger import Ledger  # noqa: E402
from gateway.redaction import Redactor  # noqa: E402
from gateway.settings import Settings  # noqa: E402
from gateway.store import Store  # noqa: E402

POLICY = '@id("all") @description("All may.") permit (principal, action in Action::"call", resource);'
CONNECTIONS = 16
LONGEST = 0.6  # seconds of load before the kill


@dataclass
class Found:
    """What all rounds together have shown."""

    kills: int = 0
    killed_while_starting: int = 0
    executed: int = 0
    released: int = 0
    records: int = 0
    unknown: int = 0  # intents that were open at a kill and were closed by the next start
    executed_without_intent: int = 0
    released_without_outcome: int = 0
    failed_verifications: int = 0
    still_open: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was lost."""
        return not (
            self.executed_without_intent
            or self.released_without_outcome
            or self.failed_verifications
            or self.still_open
        )


class Executed(ToolServer):
    """A tool server that remembers what it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    def _text(self, name: str, arguments: dict[str, Any]) -> str:
        self.ran.append(arguments["text"])
        return arguments["text"]


class Caller(Client):
    """A client that remembers what it got, and goes on whatever it gets."""

    released: list[str]

    def _check(self, head: bytes, body: bytes) -> None:
        answer = orjson.loads(body or b"null")
        result = answer.get("result") or {}
        if result.get("isError") is not True and result.get("content"):
            self.released.append(result["content"][0]["text"])
        self.call()


class Rounds:
    """A gateway that is killed again and again."""

    def __init__(self, directory: Path, database: str, durability: str) -> None:
        self.home = directory / "home"
        self.place = database or self.home / "ledger.db"
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.listening.setblocking(False)
        url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/mcp"
        entry = {"type": "http", "url": url, "pointsman": {"pin": "trust"}}
        (directory / "policy").mkdir()
        (directory / "policy" / "all.cedar").write_text(POLICY)
        (directory / "mcp.json").write_text(json.dumps({"mcpServers": {"up": entry}}))
        self.settings = Settings(
            servers=str(directory / "mcp.json"),
            policy=str(directory / "policy"),
            checkpoints=str(directory / "second-place"),
            database=database,
            durability=durability,
            port=0,
        )
        self.upstream = Executed()
        self.released: list[str] = []
        self.found = Found()
        self.seen = 0  # the last record looked at
        self.open: set[str] = set()  # calls that were open at the last kill

    def start(self) -> tuple[int, int]:
        """A gateway in a process of its own, and where it tells that it is ready."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            self.listening.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with process.Ready(writing) as ready:
                asyncio.run(process.serve(self.settings, self.home, ready))
            os._exit(0)
        os.close(writing)
        return child, reading

    def round(self, chance: random.Random) -> None:
        """Start, load, kill, look."""
        child, reading = self.start()
        try:
            if chance.random() < 0.1:
                select.select([reading], [], [], chance.uniform(0, 0.4))
                self.found.killed_while_starting += 1
            else:
                asyncio.run(self._load(reading, chance.uniform(0, LONGEST), child))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
        self.found.kills += 1
        asyncio.run(self._look())

    async def _load(self, reading: int, seconds: float, child: int) -> None:
        loop = asyncio.get_running_loop()
        upstream = await loop.create_server(lambda: Connection(self.upstream), sock=self.listening.dup())
        line = await asyncio.to_thread(lambda: os.read(reading, 4096))
        url = json.loads(line)["url"]
        await self._closed()
        token = json.loads((self.home / "gateway.json").read_text())["operator_token"]
        headers = {"Authorization": f"Bearer {token}"}
        Caller.released = self.released
        callers = [
            await Caller(f"{url}/mcp", "modern", "echo", "up__", headers, Tally()).open()
            for _ in range(CONNECTIONS)
        ]
        for caller in callers:
            caller.call()
        await asyncio.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        await asyncio.gather(*(caller.done for caller in callers))  # what was on its way still arrives
        upstream.close()

    async def _closed(self) -> None:
        """The gateway that has started must have closed what the last one left open."""
        if not self.open:
            return
        async with Store(self.place, readonly=True) as store:
            end = time.monotonic() + 20
            while left := self.open & await store.read(_open):
                if time.monotonic() > end:
                    self.found.still_open += len(left)
                    break
                await asyncio.sleep(0.1)
            ledger = Ledger(store, Redactor())
            for call in self.open - left:
                last = (await ledger.search(call=call))["records"][-1]
                self.found.unknown += last.get("status") == "unknown"
        self.open = set()

    async def _look(self) -> None:
        """Compare the ledger with what the tool server ran and what the clients got."""
        ran, self.upstream.ran = set(self.upstream.ran), []
        got, self.released[:] = set(self.released), []
        async with Store(self.place, readonly=True) as store:
            ledger = Ledger(store, Redactor(), Checkpoints.beside(self.place, self.settings.checkpoints))
            intents: dict[str, str] = {}
            done: set[str] = set()
            async for record in ledger.export(after=self.seen, bodies=("arguments",)):
                self.seen = record["seq"]
                if record["kind"] == "intent":
                    intents[record["call"]] = (record["arguments"] or {}).get("text", "")
                elif record["kind"] == "outcome" and record["status"] == "ok":
                    done.add(intents.get(record["call"], ""))
            self.open |= await store.read(_open)
            answer = await ledger.verify()
        found = self.found
        found.executed += len(ran)
        found.released += len(got)
        found.records = answer["records"]
        found.executed_without_intent += len(ran - set(intents.values()))
        found.released_without_outcome += len(got - done)
        if not answer["ok"]:
            found.failed_verifications += 1
            print(json.dumps(answer["problems"][:3]), file=sys.stderr)


def _open(connection: Any) -> set[str]:
    return {call for (call,) in connection.execute("SELECT call FROM open_calls").fetchall()}


def _postgres(directory: Path) -> str:
    from tests.databases import own_schema, start_server

    return own_schema(start_server(directory.name).get_uri())


def main() -> None:
    """Run the rounds and say what was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--times", type=int, default=200)
    options.add_argument("--database", default="sqlite", help="sqlite, postgres (one of our own), or a URL")
    options.add_argument("--durability", choices=("full", "async"), default="full")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="pointsman-crash-"))
    database = {"sqlite": ""}.get(given.database, given.database)
    if database == "postgres":
        database = _postgres(directory)
    chance, started = random.Random(given.seed), time.monotonic()
    rounds = Rounds(directory, database, given.durability)
    try:
        for _ in range(given.times):
            rounds.round(chance)
            if rounds.found.kills % 10 == 0 and sys.stderr.isatty():
                print(f"{rounds.found.kills} of {given.times}", file=sys.stderr)
        child, reading = rounds.start()  # once more, to close what the last kill left open
        try:
            asyncio.run(rounds._load(reading, 0, child))
        finally:
            os.waitpid(child, 0)
    finally:
        shutil.rmtree(directory)
    found = asdict(rounds.found) | {"seconds": round(time.monotonic() - started, 1)}
    found |= {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    print(json.dumps({"database": given.database, "durability": given.durability, **found}))
    sys.exit(0 if rounds.found.ok and rounds.found.executed else 1)


if __name__ == "__main__":
    main()
