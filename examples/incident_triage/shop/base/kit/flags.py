"""Feature flags, read from a file that operators change."""

import json
from pathlib import Path


class Flags:
    """The flags as they stand now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0.0
        self._values: dict[str, bool] = {}

    def on(self, name: str) -> bool:
        """Whether a flag is on."""
        changed = self._path.stat().st_mtime
        if changed != self._read_at:
            self._values = json.loads(self._path.read_text(encoding="utf-8"))
            self._read_at = changed
        return self._values.get(name, False)
