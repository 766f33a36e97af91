"""Removes what gateways on one database told each other long ago: the ledger has it, should anybody ask."""

from __future__ import annotations

import asyncio
import logging
import time

from gateway.errors import LedgerError
from gateway.labels import Labels
from gateway.store import Store
from gateway.writing import Writing, before

EVERY_SECONDS = 3600.0
KEPT_SECONDS = 7 * 86_400.0  # far longer than anything is remembered without a look at the ledger
AT_ONCE = 1_000
log = logging.getLogger("gateway.tidying")


async def keep_tidy(store: Store, labels: Labels) -> None:
    """Go on removing what is old."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            await tidy(store, labels, time.time())
        except LedgerError as error:
            log.debug("%s", error)


async def tidy(store: Store, labels: Labels, now: float) -> None:
    """Remove labels told, and budgets of cases that made no call, for a week."""
    labels.forget()  # so that nobody here still counts on being told of them
    while await store.write(lambda connection: _remove(connection, now - KEPT_SECONDS)) >= AT_ONCE:
        pass


def _remove(connection: Writing, moment: float) -> int:
    """How many rows were removed; what a run without a case has spent counts for a day in any event."""
    seen = connection.execute(
        "DELETE FROM seen WHERE (scope, label) IN (SELECT scope, label FROM seen WHERE moment < ? LIMIT ?)",
        (moment, AT_ONCE),
    )
    budgets = connection.execute(
        "DELETE FROM budgets WHERE name IN (SELECT name FROM budgets WHERE NOT EXISTS "
        "(SELECT 1 FROM records WHERE case_id = substr(name, 6) AND case_id <> '' AND seq > ?) LIMIT ?)",
        (before(connection, moment), AT_ONCE),
    )
    return max(seen.rowcount, budgets.rowcount)
