"""What is counted of calls and of the ledger's writes: plain additions here, shown by `exposition`."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gateway.errors import Refusal
from gateway.types import Call, Decision

if TYPE_CHECKING:
    from gateway.pipeline import Ending

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
WRITES = (1, 2, 5, 10, 20, 50, 100, 500)


class Note:
    """What is noted of one call on its way, for figures and spans."""

    __slots__ = ("decision", "ending", "refusal", "seq", "span", "started", "upstream")

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.decision: Decision | None = None
        self.ending: Ending | None = None
        self.refusal: Refusal | None = None
        self.seq = 0  # of its intent in the ledger
        self.upstream = 0.0  # seconds that the tool server took
        self.span: Any = None  # only when tracing is on

    @property
    def code(self) -> str:
        """The code of the refusal it ended with; empty for none."""
        refusal = self.refusal or (self.ending and self.ending.refusal)
        return refusal.code if refusal else ""

    @property
    def status(self) -> str:
        """How it ended: ok, error, unknown, replayed, refused or cancelled."""
        if self.refusal is not None:
            return "refused"
        if self.ending is None:
            return "cancelled"
        return "replayed" if self.ending.replayed else self.ending.status


class Histogram:
    """How many values fell into each bucket (up to and including its bound), and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take one value in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Meters:
    """The figures of one gateway since it started."""

    def __init__(self) -> None:
        self.calls: defaultdict[tuple[str, str, str], int] = defaultdict(int)  # by server, verb, status
        self.refusals: defaultdict[str, int] = defaultdict(int)  # by code
        self.decisions: defaultdict[str, int] = defaultdict(int)  # by verdict
        self.upstream: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))  # by server
        self.overhead = Histogram(SECONDS)
        self.write_seconds = Histogram(SHORT)
        self.batch_writes = Histogram(WRITES)

    def call(self, note: Note, call: Call | None) -> None:
        """Take one call in, when it has ended."""
        if code := note.code:
            self.refusals[code] += 1
        if note.decision is not None:
            self.decisions[note.decision.verdict] += 1
        if call is None:  # nothing was found that it could be counted under
            return
        server = call.tool.server
        self.calls[server, call.verb, note.status] += 1
        if note.upstream:
            self.upstream[server].observe(note.upstream)
            self.overhead.observe(time.perf_counter() - note.started - note.upstream)

    def write(self, writes: int, seconds: float) -> None:
        """Take one transaction of the ledger in; called in the writer's thread, by nobody else."""
        self.write_seconds.observe(seconds)
        self.batch_writes.observe(writes)
