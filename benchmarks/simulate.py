"""How long `policy simulate` takes: writes a ledger of recorded calls, and decides them all again.

    python -P benchmarks/simulate.py --calls 100000

Every call has arguments of its own and stands in the ledger as the gateway writes it: an intent with its
arguments and an outcome, each durable. Printed: seconds to write, seconds to simulate (on the clock, and of
CPU), and how many calls would change.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from gateway.canonical import digest
from gateway.ledger import Ledger
from gateway.policy import SHIPPED, Policy
from gateway.redaction import Redactor
from gateway.simulation import simulate
from gateway.store import Store
from gateway.types import Call, Decision, Rule, Subject, Tool

GO = Decision("call", (Rule("specialists-read"),), policy="benchmark")
AT_ONCE = 500
RULE = """
@id("no-orders") forbid (principal, action in [Action::"call", Action::"request"], resource in Server::"s0")
when { context.args has query && context.args.query like "*orders-7*" };
"""


def tools() -> list[Tool]:
    """Twenty tools of four servers."""
    properties = {"query": {"type": "string"}, "limit": {"type": "integer"}, "near": {"type": "number"}}
    made = []
    for n in range(20):
        definition = {"name": f"t{n}", "inputSchema": {"type": "object", "properties": properties}}
        labels = ("private",) if n % 4 else ("private", "untrusted")
        public, server = f"s{n % 4}__t{n}", f"s{n % 4}"
        hints = {"read_only": True, "destructive": False, "labels": labels}
        made.append(Tool(server, f"t{n}", public, definition, digest(definition), **hints))
    return made


async def write(ledger: Ledger, calls: int, known: list[Tool]) -> None:
    """Record calls as the gateway does, many at a time."""

    async def one(n: int) -> None:
        case = f"case-{n // 100}"
        subject = Subject(f"agent:a{n % 5}", ("specialist",), ("user:ana",), case, case)
        arguments = {"query": f"errors of orders-{n}", "limit": n % 50, "near": n / 7}
        call = Call(f"c{n}", "call", subject, known[n % len(known)], arguments, digest(arguments))
        await ledger.intent(call, GO)
        result = {"content": [{"type": "text", "text": f"nothing of note in {n}"}]}
        await ledger.outcome(call, result, status="ok", ms=1.0)

    for start in range(0, calls, AT_ONCE):
        await asyncio.gather(*(one(n) for n in range(start, min(calls, start + AT_ONCE))))


async def main() -> None:
    """Write, simulate, print."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--calls", type=int, default=100_000)
    calls = reader.parse_args().calls
    known = tools()
    with tempfile.TemporaryDirectory() as home:
        new = Path(home) / "new.cedar"
        new.write_text((SHIPPED / "default.cedar").read_text() + RULE)
        async with Store(Path(home) / "ledger.db") as store:
            ledger = await Ledger(store, Redactor()).prepare()
            started = time.perf_counter()
            await write(ledger, calls, known)
            written, cpu = time.perf_counter(), time.process_time()
            found = await simulate(ledger, Policy.load(new, known, "any"))
            done, cpu = time.perf_counter(), time.process_time() - cpu
    print(f"{found.calls} calls written in {written - started:.1f} s")
    print(f"simulated in {done - written:.1f} s, {cpu:.1f} s of CPU")
    print(f"{len(found.changed)} would change, {len(found.indeterminate)} cannot be told")


if __name__ == "__main__":
    asyncio.run(main())
