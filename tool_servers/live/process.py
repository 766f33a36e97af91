"""Running a program without a shell: bounded in time and output, its failure said in words."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tool_servers.errors import NotOffered, Unavailable

SECONDS = 30


def run(command: Sequence[str], install: str) -> str:
    """What the program prints; `install` says what to do when it is missing."""
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise Unavailable(f"{command[0]}: not installed or not on the PATH; {install}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]}: no answer within {SECONDS} s; ask for less, or try again") from None
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise NotOffered(f"{command[0]} refused: {said[:1000]}")
    return done.stdout
