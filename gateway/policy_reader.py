"""Reads the policies again when their files change; those in force stay where the new ones do not fit."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Any

from gateway.catalogue import OURSELVES
from gateway.errors import LedgerError
from gateway.pipeline import Gateway
from gateway.policy import Policy

log = logging.getLogger("gateway.policy")
POLL_SECONDS = 1.0
PROBLEM = 4_000  # characters of what is wrong that the ledger keeps


class PolicyReader:
    """Keeps a gateway's policies those of a directory, and writes into the ledger which are in force."""

    def __init__(self, place: Path, gateway: Gateway) -> None:
        self._place = place
        self._gateway = gateway
        self._seen = _stamp(place)

    async def read(self) -> None:
        """Put the policies in force if they are not as they were and fit the tools; else say why not."""
        stamp = _stamp(self._place)
        if stamp == self._seen:
            return
        catalogue, before = self._gateway.catalogue, self._gateway.policy
        told = (self._place, catalogue.approved(), catalogue.labels())
        fresh, problem = await asyncio.to_thread(before.reloaded, *told)
        if problem is not None:
            log.error("policy not taken over: %s; the one before stays in force", problem)
            await self.note("rejected", before, problem=str(problem)[:PROBLEM])
        elif fresh.digest != self._gateway.policy.digest:
            await self.note("changed", fresh)  # before the first decision by it
            self._gateway.policy = fresh
            log.info(
                "policy %s is in force: %d rules of %s", fresh.digest, len(fresh.statements), self._place
            )
            for listener in self._gateway.catalogue.changed:  # lists may be others now; and tools, meanwhile
                listener("tools", "")
        self._seen = stamp

    async def note(self, status: str, policy: Policy, **more: str) -> None:
        """Write down which policies are in force (`policy`: the digest that intents carry) and what was read.

        `loaded` and `changed` took the files over, `rejected` did not and says why.
        """
        files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(self._place)}
        rules = [statement.rule.id for statement in policy.statements]
        body: dict[str, Any] = {"files": files, "rules_in_force": rules, **more}
        await self._gateway.ledger.append("policy", OURSELVES, status=status, policy=policy.digest, body=body)

    async def watch(self) -> None:
        """Go on reading them."""
        noted = False
        while True:
            try:
                if not noted:
                    await self.note("loaded", self._gateway.policy)
                noted = True
                await self.read()
            except (OSError, LedgerError) as error:
                log.error("cannot look after the policies: %s; those before stay in force", error)
            await asyncio.sleep(POLL_SECONDS)


def _files(place: Path) -> list[Path]:
    return sorted(place.glob("*.cedar"))


def _stamp(place: Path) -> list[tuple[str, int, int]]:
    found = [(file.name, file.stat()) for file in _files(place)]
    return [(name, about.st_mtime_ns, about.st_size) for name, about in found]
