"""What a trigger has to remember over a restart: one JSON value each, in the database of the cases."""

from __future__ import annotations

import json
from typing import Any

from coordinator.case_index import CaseIndex

TABLE = "CREATE TABLE IF NOT EXISTS watches (name TEXT PRIMARY KEY, state TEXT NOT NULL)"


class Kept:
    """The memory of one trigger."""

    def __init__(self, index: CaseIndex, name: str) -> None:
        self._db, self._name = index.db, name
        self._db.script(TABLE)

    def get(self) -> dict[str, Any]:
        """What is remembered; empty at first."""
        rows = self._db.rows("SELECT state FROM watches WHERE name = ?", self._name)
        return json.loads(rows[0]["state"]) if rows else {}

    def change(self, before: dict[str, Any], now: dict[str, Any]) -> bool:
        """Remember this from now on; False if somebody else has changed it meanwhile."""
        old, new = json.dumps(before, sort_keys=True), json.dumps(now, sort_keys=True)
        if not before:
            insert = "INSERT INTO watches VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
            if self._db.write(insert, self._name, new):
                return True
        update = "UPDATE watches SET state = ? WHERE name = ? AND state = ?"
        return bool(self._db.write(update, new, self._name, old))
