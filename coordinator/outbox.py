"""What is still to be sent: deliveries that failed, reminders of checkpoints, and word of their escalation.

One row a message, beside the cases. Whichever process looks first holds a row for a minute; the receiving
tool knows its key, so what a crash cut off arrives once, however many look.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from coordinator import deliveries, reminders
from coordinator.case_index import ENDED
from coordinator.database import Database, marks
from coordinator.errors import CoordinatorError
from coordinator.types import Outgoing, Report
from specialists.errors import SpecialistsError

if TYPE_CHECKING:
    from coordinator.cases import CaseRunner
    from coordinator.gateway_client import GatewayClient

log = logging.getLogger("coordinator.outbox")
LOOK_SECONDS = 1.0
TRIM_SECONDS = 3600.0
KEPT = timedelta(days=7)  # what was sent or given up, of cases that have ended; the ledger keeps its record
HELD = timedelta(seconds=60)
MOST = 20  # messages of one look, which are sent before others may take them
BACK_OFF = tuple(timedelta(minutes=m) for m in (1, 5, 15, 60, 240, 720, 1440))  # before each further attempt
COLUMNS = "key, id, kind, destination, at, attempts, held, body"
State = Literal["waiting", "sent", "failed", "over"]


class Outbox:
    """The rows; the table is the case index's."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, messages: Iterable[Outgoing]) -> None:
        """Have these sent when they are due; one that is known stays as it is."""
        for one in messages:
            self._db.write(
                f"INSERT INTO outbox ({COLUMNS}, state) VALUES (?, ?, ?, ?, ?, ?, '', ?, 'waiting') "
                "ON CONFLICT (key) DO NOTHING",
                *(one.key, one.case, one.kind, one.to, one.at.isoformat(), one.attempts),
                json.dumps(one.body),
            )

    def take(self, now: datetime) -> list[Outgoing]:
        """What is due and nobody holds, held from now on."""
        moment, until = now.isoformat(), (now + HELD).isoformat()
        rows = self._db.rows(
            f"SELECT {COLUMNS} FROM outbox WHERE state = 'waiting' AND at <= ? AND held <= ? "
            f"ORDER BY at LIMIT {MOST}",
            *(moment, moment),
        )
        hold = "UPDATE outbox SET held = ? WHERE key = ? AND state = 'waiting' AND held = ?"
        return [_read(row) for row in rows if self._db.write(hold, until, row["key"], row["held"])]

    def settle(self, key: str, state: State) -> None:
        """What became of a message for good."""
        self._db.write("UPDATE outbox SET state = ?, held = '' WHERE key = ?", state, key)

    def later(self, key: str, at: datetime, attempts: int) -> None:
        """It is tried again."""
        again = "UPDATE outbox SET at = ?, attempts = ?, held = '' WHERE key = ?"
        self._db.write(again, at.isoformat(), attempts, key)

    def trim(self, now: datetime) -> int:
        """Remove what became of messages long ago; nothing of a case that may still send it again."""
        return self._db.write(
            "DELETE FROM outbox WHERE state <> 'waiting' AND at < ? AND id NOT IN "
            f"(SELECT id FROM cases WHERE status NOT IN ({marks(ENDED)}))",
            *((now - KEPT).isoformat(), *ENDED),
        )

    def waiting(self, case: str) -> list[Outgoing]:
        """What of a case is still to be sent."""
        query = f"SELECT {COLUMNS} FROM outbox WHERE id = ? AND state = 'waiting' ORDER BY at"
        return [_read(row) for row in self._db.rows(query, case)]


def _read(row: Any) -> Outgoing:
    return Outgoing(
        key=row["key"],
        case=row["id"],
        kind=row["kind"],
        to=row["destination"],
        at=datetime.fromisoformat(row["at"]),
        attempts=row["attempts"],
        body=json.loads(row["body"]),
    )


async def go_on(runner: CaseRunner) -> None:
    """Go on sending what is due; every process that runs cases may do so."""
    trimmed = float("-inf")
    while True:
        try:
            await send_due(runner, datetime.now(UTC))
            if time.monotonic() - trimmed >= TRIM_SECONDS:
                Outbox(runner.index.db).trim(datetime.now(UTC))
                trimmed = time.monotonic()
        except (CoordinatorError, SpecialistsError) as error:
            log.warning("cannot send what is due, and try again: %s", error)
        await asyncio.sleep(LOOK_SECONDS)


async def send_due(runner: CaseRunner, now: datetime) -> list[tuple[str, State]]:
    """Send what is due; what became of each message."""
    outbox, became = Outbox(runner.index.db), []
    for one in outbox.take(now):
        try:
            async with runner.gateway(one.case) as gateway:
                state = await _send(one, gateway)
        except (CoordinatorError, SpecialistsError) as error:
            log.warning("%s: %s not sent to %s, and tried again: %s", one.case, one.kind, one.to, error)
            continue
        if state == "waiting" and one.attempts < len(BACK_OFF):
            outbox.later(one.key, now + BACK_OFF[one.attempts], one.attempts + 1)
        else:
            outbox.settle(one.key, state := "failed" if state == "waiting" else state)
        became.append((one.key, state))
    return became


async def _send(one: Outgoing, gateway: GatewayClient) -> State:
    """One attempt; `waiting` when it did not arrive."""
    if one.kind == "report":
        report = Report.model_validate(one.body)
        message, about = deliveries.message_of(report), {"report": report.ledger.last}
    elif not await reminders.still_open(one, gateway):
        return "over"
    else:
        message, about = reminders.message_of(one), reminders.about(one)
    named = hashlib.sha256(one.key.encode()).hexdigest()[:16]
    work = f"send/{named}/{one.attempts}"  # an attempt of its own: it is not answered from the past
    told = await deliveries.deliver(message, [one.to], gateway, work)
    kind = "delivery" if one.kind == "report" else one.kind
    await gateway.record_step(kind, {**about, **told[0], "attempt": one.attempts + 1})
    return "sent" if told[0]["status"] == "sent" else "waiting"
