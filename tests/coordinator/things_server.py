"""A tool server of the tests: `look` and `mend` note every run, and stop at a door that a test closed.

Run as `python things_server.py FOLDER`; it speaks MCP on stdin and stdout.
"""

import sys
import time
from pathlib import Path

from bare_server import NUMBER, TEXT, serve

FOLDER = Path(sys.argv[1])
READS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True}
CHANGES = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False}


def look(n: int) -> str:
    """Look at thing number n."""
    with (FOLDER / "looks.log").open("a") as log:
        log.write(f"{n}\n")
    while (FOLDER / f"door-{n}").exists():
        time.sleep(0.05)  # another process opens it
    return f"thing {n} is broken since 2026-01-31T09:12:00Z"


def mend(n: int) -> str:
    """Mend thing number n."""
    with (FOLDER / "mends.log").open("a") as log:
        log.write(f"{n}\n")
    while (FOLDER / f"door-mend-{n}").exists():
        time.sleep(0.05)  # another process opens it
    return f"thing {n} was mended"


def definition(tool, hints):
    """What is listed of a tool that takes a number and answers in words."""
    return {
        "description": tool.__doc__,
        "inputSchema": NUMBER,
        "outputSchema": TEXT,
        "annotations": hints,
    }


if __name__ == "__main__":
    serve("things", {"look": (definition(look, READS), look), "mend": (definition(mend, CHANGES), mend)})
