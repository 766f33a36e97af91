"""How long `audit verify` takes, and what it holds in memory.

    python benchmarks/verify.py --records 1000000 [--database postgres]

The records are written by the ledger's own code, as calls with an intent and an outcome each (durability is
`async` for that, which changes nothing in what is written). `audit verify` then runs in a process of its own,
whose seconds and peak memory are told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from gateway.canonical import digest  # noqa: E402
from gateway.checkpoints import Checkpoints  # noqa: E402
from gateway.ledger import Ledger  # noqa: E402
from gateway.redaction import Redactor  # noqa: E402
from gateway.store import Store  # noqa: E402
from gateway.types import Call, Decision, Rule, Subject, Tool  # noqa: E402

WHO = Subject("agent:logs", ("specialist",), ("user:ana", "agent:coordinator"), "case-1", "run-1", "task-1")
TOOL = Tool("logs", "search", "logs__search", {}, "0" * 64, read_only=True)
GO = Decision("call", (Rule("specialists-read"),), policy="1" * 64)
TOGETHER = 500


async def write(ledger: Ledger, records: int) -> None:
    """So many records, half of them intents and half outcomes."""
    made = 0

    async def one(number: int) -> None:
        arguments = {"query": f"error {number}", "service": "orders", "limit": 50}
        call = Call(f"c_{number:012x}", "call", WHO, TOOL, arguments, digest(arguments))
        await ledger.intent(call, GO)
        # every hundredth result is a large one, which lies among the blobs
        text = f"line {number} " + "lorem ipsum " * (400 if number % 100 == 0 else 20)
        await ledger.outcome(call, {"content": [{"type": "text", "text": text}]}, status="ok", ms=1.5)

    while made < records // 2:
        await asyncio.gather(*(one(made + n) for n in range(min(TOGETHER, records // 2 - made))))
        made += TOGETHER
        if sys.stderr.isatty() and made % 50_000 == 0:
            print(f"{2 * made} records", file=sys.stderr)


async def fill(directory: Path, database: str, records: int) -> None:
    """A ledger of so many records with its checkpoints."""
    place = database or directory / "home" / "ledger.db"
    async with Store(place, durability="async") as store:
        checkpoints = Checkpoints.beside(place, directory / "second-place")
        await write(await Ledger(store, Redactor(), checkpoints).prepare(), records)


def main() -> None:
    """Write, verify, tell."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--database", default="sqlite", help="sqlite, postgres (one of our own), or a URL")
    given = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="pointsman-verify-"))
    database = {"sqlite": ""}.get(given.database, given.database)
    if database == "postgres":
        from tests.databases import own_schema, start_server

        database = own_schema(start_server(directory.name).get_uri())
    try:
        started = time.monotonic()
        asyncio.run(fill(directory, database, given.records))
        writing = time.monotonic() - started
        env = {**os.environ, "POINTSMAN_HOME": str(directory / "home")}
        env["POINTSMAN_GATEWAY__DATABASE"] = database
        env["POINTSMAN_GATEWAY__CHECKPOINTS"] = str(directory / "second-place")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [
            sys.executable,
            "-c",
            "from coordinator.cli import main; main()",
            "audit",
            "verify",
            "--json",
        ]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = json.loads(done.stdout)
        told = {"database": given.database, "ok": answer["ok"], "records": answer["records"]}
        told |= {"writing_seconds": round(writing, 1), "verify_seconds": answer["seconds"]}
        told |= {
            "verify_cpu_seconds": round(
                after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
            )
        }
        told |= {"verify_peak_mb": round(after.ru_maxrss / 1024)}
        print(json.dumps(told))
    finally:
        shutil.rmtree(directory)
    sys.exit(0 if answer["ok"] else 1)


if __name__ == "__main__":
    main()
