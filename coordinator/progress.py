"""What a person sees while specialists work: who, which tool, how long."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from specialists.types import Progress

MARKS = {"started": "▸", "tool": "·", "note": "·", "finished": "✓"}


class Lines:
    """Prints each event as one line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._started = time.monotonic()
        self._colour = self._out.isatty()

    def __call__(self, event: Progress) -> None:
        since = time.monotonic() - self._started
        took = f" ({event.seconds:.1f} s)" if event.kind in ("tool", "finished") else ""
        text = " ".join(event.text.split())
        line = f"{since:5.1f} s  {MARKS[event.kind]} {event.specialist}: {text[:150]}{took}"
        if self._colour and event.kind == "tool":
            line = f"\x1b[2m{line}\x1b[0m"
        print(line, file=self._out, flush=True)


def silent(_: Progress) -> None:
    """Prints nothing: somebody reads JSON."""
