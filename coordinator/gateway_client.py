"""The gateway as the coordinator and a person see it: its admin tools, called like any other tool."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from coordinator.errors import GatewayRefused
from specialists.errors import GatewayLost
from specialists.link import Pool
from specialists.toolbox import Listener, Toolbox, ToolResult

SPECIALIST_TOKEN_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Access:
    """Where the gateway is, and the tokens to act with."""

    url: str  # of the MCP endpoint
    coordinator: str = field(repr=False)  # token of agent:coordinator
    person: str = field(default="", repr=False)  # token of user:NAME; only a person's doors have it
    login: str = ""


@dataclass
class GatewayClient:
    """One subject's use of the gateway's own tools.

    Writes go under a stable task, so that a resumed run replays them; reads go under a fresh one, so that
    they are never answered from the past.
    """

    access: Access
    token: str
    case: str = ""
    pool: Pool | None = None
    on_progress: Listener | None = None
    renewed: Callable[[], str] | None = None  # the token to go on with once `token` is refused
    _writes: Toolbox = field(init=False)
    _reads: Toolbox = field(init=False)

    def __post_init__(self) -> None:
        self._writes = self._toolbox(f"{self.case or 'none'}/steps")
        self._reads = self._toolbox(f"read-{uuid.uuid4().hex}")

    def _toolbox(self, task: str) -> Toolbox:
        return Toolbox(
            self.access.url,
            token=self.token,
            case=self.case,
            run=self.case,
            task=task,
            on_progress=self.on_progress,
            pool=self.pool,
            renewed=self.renewed,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._writes.__aexit__(), self._reads.__aexit__())

    async def issue_token(
        self,
        subject: str,
        role: str,
        *,
        run: str = "",
        task: str = "",
        seconds: int = SPECIALIST_TOKEN_SECONDS,
    ) -> str:
        """A short-lived token for a subject, fixed to this case, run and task."""
        token, _ = await self.issue_until(subject, role, run=run, task=task, seconds=seconds)
        return token

    async def issue_until(
        self, subject: str, role: str, *, run: str, task: str, seconds: int
    ) -> tuple[str, datetime]:
        """The same, and when it ends: sooner than asked for where our own token does."""
        fixed = {"case": self.case, "run": run, "task": task}
        answer = await self.read(
            "gateway__issue_token",
            {
                "subject": subject,
                "roles": [role],
                "expires_seconds": seconds,
                **{name: value for name, value in fixed.items() if value},
            },
        )
        return str(answer["token"]), datetime.fromisoformat(answer["expires"])

    async def record_step(self, kind: str, body: dict[str, Any], about: str = "") -> int:
        """Write a step of the case into the ledger, once however often it is told; its sequence number.

        What it is `about` finds it again over many cases.
        """
        told = {"kind": kind, "case": self.case, "body": body} | ({"about": about} if about else {})
        return int((await self._ask(self._writes, "gateway__record_step", told))["seq"])

    async def past(self, about: str, most: int) -> list[dict[str, Any]]:
        """The latest steps about something, of all cases, newest first: `seq`, `case`, `time` and `body`."""
        found: list[dict[str, Any]] = []
        wanted: dict[str, Any] = {"kind": "step", "about": about, "newest": True}
        page = await self.read("gateway__search_ledger", {**wanted, "limit": min(most, 1000)})
        found += page["records"]
        return sorted(found, key=lambda record: -int(record["seq"]))[:most]

    async def show_call(self, call: str) -> dict[str, Any]:
        """What the ledger holds of one call: records, arguments, released result and its text."""
        return await self.read("gateway__show_call", {"call": call})

    async def approval(self, id_: str) -> dict[str, Any]:
        """One approval as it stands now."""
        answer = await self.read("gateway__show_approval", {"id": id_})
        return answer.get("approval", answer)

    async def read(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call one of the gateway's tools now; its structured answer."""
        return await self._ask(self._reads, tool, arguments)

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Call any tool now, as this subject; a refusal is a result."""
        return await self._reads.call(tool, arguments)

    async def _ask(self, toolbox: Toolbox, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = await toolbox.call(tool, arguments)
        if result.refusal and result.refusal.code in ("upstream_unavailable", "deadline_exceeded"):
            raise GatewayLost(f"{tool}: {result.refusal.message}")
        if result.refusal or result.is_error or not isinstance(result.data, dict):
            said = result.refusal.message if result.refusal else result.text
            raise GatewayRefused(
                f"the gateway did not do {tool}: {said[:400]}; "
                "see `pointsman policy explain` for the rule, and that the token has the role it needs"
            )
        return result.data
