"""What a tool server saw: one line of JSON a call, to hold beside somebody else's account of it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

BYTES = 5_000_000  # of the file and of the one older file that is kept

_log = logging.getLogger("tool_servers.access")
_log.propagate = False


def write_to(path: Path) -> None:
    """Write a line to `path` for every call from now on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)


def note(server: str, tool: str) -> None:
    """A call of `tool` of `server` is about to run."""
    if _log.handlers:
        _log.info(json.dumps({"time": datetime.now(UTC).isoformat(), "server": server, "tool": tool}))
