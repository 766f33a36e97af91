"""Whether this gateway can do its work now, and why not; for load balancers, which have no token."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import orjson

from gateway.errors import LedgerError
from gateway.pipeline import Gateway
from gateway.writing import Writing

PROBE_SECONDS = 1.0  # however often it is asked, the ledger is written to at most this often
PATIENCE = 3.0  # a ledger that takes longer to write one row is not writable
WRITTEN = """INSERT INTO facts VALUES ('written', ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
STATES = {"idle": "connecting", "stopped": "connecting"}  # as they are counted here


class Health:
    """Answers `/readyz`: counts and fixed words only, since anybody may ask."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._probe: asyncio.Task[bool] | None = None
        self._probed = 0.0
        self.stopping = False

    async def ready(self) -> tuple[int, bytes]:
        """200 or 503, and the JSON that says why."""
        ledger, policy, servers = (
            await self._writable(),
            len(self._gateway.policy.statements),
            self._servers(),
        )
        reasons = []
        if self.stopping:
            reasons.append("the gateway is stopping")
        if not ledger:
            reasons.append("the ledger cannot be written, so no call runs: see the gateway's log")
        if not policy:
            reasons.append(
                "no policy rules are in force, so every call is denied: see `pointsman policy check`"
            )
        if sum(servers.values()) and not servers["ready"]:
            reasons.append("no tool server is ready: see `pointsman servers list`")
        about: dict[str, Any] = {
            "status": "not ready" if reasons else "ready",
            "reasons": reasons,
            "ledger": "writable" if ledger else "not writable",
            "policy": {"rules": policy},
            "servers": servers,
        }
        return 503 if reasons else 200, orjson.dumps(about)

    def _servers(self) -> dict[str, int]:
        states = Counter(STATES.get(s.state, s.state) for s in self._gateway.catalogue.servers.values())
        return {state: states[state] for state in ("ready", "connecting", "failed")}

    async def _writable(self) -> bool:
        """Whether a row was written just now; those who ask at the same time share one attempt."""
        if self._probe is None or (self._probe.done() and time.monotonic() - self._probed > PROBE_SECONDS):
            self._probed = time.monotonic()
            self._probe = asyncio.create_task(self._write())
        done, _ = await asyncio.wait((self._probe,), timeout=PATIENCE)
        return bool(done) and self._probe.result()

    async def _write(self) -> bool:
        def job(connection: Writing) -> None:
            connection.execute(WRITTEN, (str(round(time.time())),))

        try:
            await self._gateway.ledger.store.write(job)
        except LedgerError:
            return False
        return True
