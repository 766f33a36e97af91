"""What a person's door needs, opened side by side because start-up counts: gateway, roster, runner."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator import private_gateway
from coordinator.settings import CoordinatorSettings, home
from specialists import tracing
from specialists.settings import SpecialistsSettings, config_path, read_table
from specialists.types import Progress

if TYPE_CHECKING:
    from coordinator.cases import CaseRunner

log = logging.getLogger("coordinator.session")
LIVE = ("prometheus", "logs", "git", "kubectl")  # settings of the tool servers that name a live system
HEAVY = ("coordinator.cases", "coordinator.graph", "langgraph.checkpoint.sqlite.aio", "specialists.roster")


@dataclass(frozen=True, slots=True)
class Session:
    """An open door: a runner on a gateway, and what the tool servers stand on."""

    runner: CaseRunner
    found: private_gateway.Found
    recording: Path | None
    home: Path


@asynccontextmanager
async def open_session(
    config: str | None = None,
    recording: Path | None = None,
    tell: Callable[[Progress], None] | None = None,
    heavy: tuple[str, ...] = (),
    own_gateway: bool = True,
) -> AsyncIterator[Session]:
    """A runner on the gateway that the settings, this home or a private child give.

    `heavy` names further modules to load meanwhile; without `own_gateway` none is started.
    """
    settings = CoordinatorSettings.load(config)
    roster_settings = SpecialistsSettings.load(config)
    here = home()
    recording = recording or served_recording(settings, here, config)
    tracing.begin("pointsman-coordinator")
    importing = asyncio.create_task(asyncio.to_thread(_import_heavy, *HEAVY, *heavy))
    async with private_gateway.gateway(
        settings, here, recording, _absolute(config), start=own_gateway
    ) as found:
        await importing
        from coordinator.cases import CaseRunner
        from coordinator.desk import ignore
        from coordinator.workflows.library import Library
        from specialists.roster import Roster

        access = await private_gateway.tokens(found, settings.login)
        await private_gateway.servers_settled(access)
        runner = CaseRunner(
            access,
            Roster.from_settings(roster_settings),
            here,
            seconds=settings.specialist_seconds,
            thresholds=settings.thresholds(),
            tell=tell or ignore,
            deliver_to=settings.deliver_to,
            database=settings.database,
            workflows=Library(settings.workflow_folder(config)),
        )
        renewing = asyncio.create_task(
            private_gateway.renewed(
                found, here, settings.login, lambda fresh: setattr(runner, "access", fresh)
            )
        )
        async with runner, _ended(renewing):
            yield Session(runner=runner, found=found, recording=recording, home=here)


@asynccontextmanager
async def _ended(task: asyncio.Task[None]) -> AsyncIterator[None]:
    """A task that goes on beside the block and ends with it."""
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def served_recording(settings: CoordinatorSettings, here: Path, config: str | None) -> Path | None:
    """The recorded incident that the tool servers show when nobody named one; none when live ones are set."""
    if settings.recording:
        return Path(settings.recording)
    path = config_path(config)
    table, beside = read_table(path, "gateway"), path.absolute().parent if path else Path()
    if table.get("recording"):
        return beside / str(table["recording"])
    if _looks_at_live_systems(config):
        return None
    named = (
        [beside / str(table["servers"])] if table.get("servers") else [Path("mcp.json"), here / "mcp.json"]
    )
    servers = next((each for each in named if each.is_file()), None)
    if servers is not None and "${recording}" not in servers.read_text(encoding="utf-8"):
        return None
    bundled = private_gateway.bundled_recording()
    if bundled and private_gateway.shows_nothing(here):
        log.warning(
            "the gateway that runs in %s shows no recording; for the recorded incident, end it and start "
            "`pointsman gateway --recording %s`",
            *(here, bundled),
        )
        return None
    return bundled


def _looks_at_live_systems(config: str | None) -> bool:
    """Whether the bundled tool servers are pointed at something real."""
    table = read_table(config_path(config), "tool_servers")
    return any(table.get(name) or os.environ.get(f"POINTSMAN_TOOL_SERVERS__{name.upper()}") for name in LIVE)


def _import_heavy(*names: str) -> None:
    """Load what takes seconds while the gateway starts in its own process."""
    for name in names:
        importlib.import_module(name)


def _absolute(config: str | None) -> str | None:
    return str(Path(config).resolve()) if config else None
