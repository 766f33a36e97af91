"""What a run works with but does not keep: the gateway, the roster, settings, and who listens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from coordinator.case_index import CaseIndex
from coordinator.gates import Thresholds
from coordinator.gateway_client import SPECIALIST_TOKEN_SECONDS, Access, GatewayClient
from specialists.link import Pool
from specialists.toolbox import Toolbox
from specialists.types import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from specialists.roster import Roster

ROLE = "specialist"
BEGINNING = datetime.fromtimestamp(0, UTC)


def ignore(_: Progress) -> None:
    """Nobody listens."""


@dataclass
class Desk:
    """The context of one run; the checkpoint never sees it, so tokens are never stored."""

    case: str
    run: str  # what calls are known by: the case, or an attempt of it
    access: Access
    roster: Roster
    index: CaseIndex
    pool: Pool
    gateway: GatewayClient  # as agent:coordinator, fixed to this case
    workflow: str = "incident-triage"  # its id
    seconds: float = 60.0  # deadline of one specialist
    thresholds: Thresholds = field(default_factory=Thresholds)
    tell: Callable[[Progress], None] = ignore
    _own: tuple[str, datetime] = field(default=("", BEGINNING), init=False, repr=False)  # a token, until when
    _issuing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    @asynccontextmanager
    async def hand(self, step: str, seconds: float) -> AsyncIterator[Toolbox]:
        """The toolbox of a step that calls a tool and may take so long: as the workflow's own agent."""
        toolbox = Toolbox(
            self.access.url,
            token=await self._workflow_token(seconds),
            case=self.case,
            run=self.run,
            task=f"{self.case}/{step}",
            specialist=self.workflow,
            pool=self.pool,
        )
        async with toolbox:
            yield toolbox

    async def _workflow_token(self, seconds: float) -> str:
        """The token of the workflow's agent, for this case and run; one serves all steps while it lasts."""
        async with self._issuing:
            token, until = self._own
            if datetime.now(UTC) + timedelta(seconds=seconds) > until:
                agent, task = f"agent:{self.workflow}", f"{self.case}/{self.workflow}"
                lives = _lives(seconds)
                self._own = await self.gateway.issue_until(
                    agent, "workflow", run=self.run, task=task, seconds=lives
                )
                token, _ = self._own
            return token

    @asynccontextmanager
    async def toolbox(self, specialist: str, task: str, seconds: float = 0.0) -> AsyncIterator[Toolbox]:
        """A toolbox for one specialist and one task, with a token that serves nothing else."""
        lives = _lives(seconds or self.seconds)
        token = await self.gateway.issue_token(
            f"agent:{specialist}", ROLE, run=self.run, task=task, seconds=lives
        )
        toolbox = Toolbox(
            self.access.url,
            token=token,
            case=self.case,
            run=self.run,
            task=task,
            specialist=specialist,
            pool=self.pool,
        )
        async with toolbox:
            yield toolbox


def _lives(seconds: float) -> int:
    """The life of a token, which must not end before the deadline; the gateway gives an hour at most."""
    return max(SPECIALIST_TOKEN_SECONDS, math.ceil(seconds) + 60)


def words(value: Any, limit: int = 120) -> str:
    """Words short enough for one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
