"""Finds the gateway a command works with: one set in pointsman.toml, the one running in this home, or a new
private one that lives as long as the command."""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import os
import re
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.errors import CoordinatorError, GatewayNotStarted, GatewayUnreachable
from coordinator.settings import CoordinatorSettings
from specialists.errors import SpecialistsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from coordinator.gateway_client import Access

READY_SECONDS = 30.0
STOP_SECONDS = 5.0
LOG_LINES = 6
SETTLE_SECONDS = 20.0
RETRY_SECONDS = 6.0  # a server that failed at first is tried again by the gateway
POLL_SECONDS = 0.1
PERSON_SECONDS = 12 * 3600
RENEW_SECONDS = 30.0  # until it is tried again
log = logging.getLogger("coordinator.private_gateway")


@dataclass(frozen=True, slots=True)
class Found:
    """A gateway that answers."""

    url: str  # without a path
    operator_token: str = field(default="", repr=False)  # of the gateway in this home
    recording: str | None = None  # that its tool servers show; empty: none; None: it cannot be told
    token: str = field(default="", repr=False)  # given from outside, for a gateway elsewhere
    private: bool = False  # started by this command


@asynccontextmanager
async def gateway(
    settings: CoordinatorSettings,
    home: Path,
    recording: Path | None = None,
    config: str | None = None,
    *,
    start: bool = True,
) -> AsyncIterator[Found]:
    """The gateway to work with; a private one, started unless `start` is false, ends with the block."""
    if settings.gateway_url:
        yield _elsewhere(settings.gateway_url)
        return
    _same_recording(home, recording)
    if running := _running(home):
        yield running
        return
    if not start:
        raise GatewayUnreachable(
            "no gateway to work with: name the one of `pointsman up` as [coordinator] gateway_url, with its "
            "token in POINTSMAN_TOKEN; on the same machine, start it first with the same POINTSMAN_HOME"
        )
    _point_to(home, recording)
    process, found = await _start(home, recording, config)
    try:
        yield found
    finally:
        await _stop(process)


async def tokens(found: Found, login: str = "") -> Access:
    """Tokens for the person and, in the person's name, for the coordinator."""
    from coordinator.gateway_client import Access, GatewayClient

    url, name = f"{found.url}/mcp", login_name(login)
    if found.token:
        return Access(url=url, coordinator=found.token, person=found.token, login=name)
    operator = Access(url=url, coordinator=found.operator_token)
    async with GatewayClient(operator, found.operator_token) as client:
        person = await client.issue_token(f"user:{name}", "oncall", seconds=PERSON_SECONDS)
    async with GatewayClient(operator, person) as client:
        coordinator = await client.issue_token("agent:coordinator", "coordinator", seconds=PERSON_SECONDS)
    return Access(url=url, coordinator=coordinator, person=person, login=name)


async def renewed(found: Found, home: Path, login: str, use: Callable[[Access], None]) -> None:
    """Hand over new tokens halfway through the life of the last; one from outside is not ours to renew."""
    pause = PERSON_SECONDS / 2
    while not found.token:
        await asyncio.sleep(pause)
        try:
            use(await tokens(_running(home) or found, login))
            pause = PERSON_SECONDS / 2
        except (CoordinatorError, SpecialistsError) as error:
            log.warning("no new tokens yet, and tried again: %s", error)
            pause = min(RENEW_SECONDS, PERSON_SECONDS / 10)


async def servers_settled(access: Access) -> None:
    """Wait until every tool server was reached or given up; without a single one there is nothing to ask."""
    from coordinator.gateway_client import GatewayClient

    async with GatewayClient(access, access.person or access.coordinator) as client:
        started = asyncio.get_running_loop().time()
        while True:
            listed = await client.read("gateway__list_servers", {})
            servers, ended = listed.get("servers") or [], listed.get("children") or {}
            none = bool(servers) and all(server.get("state") == "failed" for server in servers)
            waiting = any(_on_its_way(server, bool(ended)) for server in servers)
            patience = SETTLE_SECONDS if waiting else RETRY_SECONDS if none and not ended else 0
            if asyncio.get_running_loop().time() - started >= patience:
                break
            await asyncio.sleep(POLL_SECONDS)
    if none:
        told = [f"child {name}: {why}" for name, why in ended.items()]
        told = told or [f"{s['name']}: {s.get('stage')}: {s.get('error')}" for s in servers[:3]]
        raise GatewayUnreachable(
            f"no tool server can be reached: {'; '.join(told)}; see `pointsman servers list`"
        )


def _on_its_way(server: dict[str, Any], ended: bool) -> bool:
    """Whether a tool server may still become ready: it connects, or its process is still starting."""
    starting = "${child:" in str(server.get("error") or "") and not ended
    return server.get("state") in ("idle", "connecting") or (server.get("state") == "failed" and starting)


def login_name(given: str = "") -> str:
    """Who the person is in the ledger, in letters that a subject may have."""
    name = given
    if not name:
        with suppress(OSError, KeyError):  # no login name, such as in a container with an unknown user id
            name = getpass.getuser()
    return re.sub(r"[^A-Za-z0-9_.@-]", "-", name) or "person"


def bundled_recording() -> Path | None:
    """The recorded incident that ships with Pointsman: in a checkout, or beside the installed packages."""
    here = Path(__file__).resolve().parent
    places = (here.parent / "examples", here / "examples")
    found = (place / "incident_triage" / "recording" for place in places)
    return next((path for path in found if (path / "recording.json").is_file()), None)


def _elsewhere(url: str) -> Found:
    token = os.environ.get("POINTSMAN_TOKEN", "")
    if not token:
        raise GatewayUnreachable(
            f"no token for the gateway {url}: POINTSMAN_TOKEN is not set; "
            "issue one with `pointsman tokens issue agent:coordinator --role coordinator` and export it"
        )
    return Found(url=url.rstrip("/").removesuffix("/mcp"), token=token)


def _running(home: Path) -> Found | None:
    """The gateway that runs in this home, if its process is alive."""
    path = home / "gateway.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        os.kill(int(about["pid"]), 0)
    except FileNotFoundError:
        return None
    except ProcessLookupError:
        return None  # left behind by one that was killed; a new one replaces it
    except (OSError, ValueError, KeyError) as error:
        raise GatewayUnreachable(
            f"cannot read {path}: {error}; it belongs to the gateway of this home: "
            "run as the same user, or remove the file if no gateway runs"
        ) from error
    return Found(
        url=str(about["url"]).removesuffix("/mcp"),
        operator_token=str(about["operator_token"]),
        recording=about.get("recording"),
    )


async def _start(home: Path, recording: Path | None, config: str | None) -> tuple[Any, Found]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "gateway", "--port", "0", "--ready-fd", str(write_end), "--with-parent"]
    command += ["--recording", str(home / "recording")] if recording else []
    command += ["--config", config] if config else []
    log = home / "gateway.log"
    with log.open("ab") as err:
        start = log.stat().st_size
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=err,
                stderr=err,
                pass_fds=(write_end,),
                env={**os.environ, "POINTSMAN_HOME": str(home)},
                start_new_session=True,  # Ctrl-C is for the person's line, not for the gateway
            )
        finally:
            os.close(write_end)
    line = await _ready_line(read_end)
    if line and (trouble := json.loads(line).get("error")):
        await _stop(process)
        raise GatewayNotStarted(trouble["message"], trouble["exit_code"])
    if not line:
        await _stop(process)
        said = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()[-LOG_LINES:]
        raise GatewayUnreachable(
            f"the private gateway did not start: {' | '.join(said) or 'it said nothing'}; "
            f"see {log}, and check with `pointsman doctor`"
        )
    found = _running(home)
    if found is None:
        raise GatewayUnreachable(f"the private gateway left no {home / 'gateway.json'}: see {log}")
    return process, Found(url=found.url, operator_token=found.operator_token, private=True)


async def _ready_line(fd: int) -> bytes:
    """What the gateway writes when it is ready; nothing when it ended or took too long."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd))
    try:
        async with asyncio.timeout(READY_SECONDS):
            return await reader.readline()
    except TimeoutError:
        return b""
    finally:
        transport.close()


async def _stop(process: Any) -> None:
    """End a private gateway: its stdin closes, then a signal if it does not take the hint."""
    for hint in (lambda: process.stdin.close(), lambda: process.send_signal(signal.SIGTERM), process.kill):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):  # it ended meanwhile
            hint()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()


def _point_to(home: Path, recording: Path | None) -> None:
    """HOME/recording points to what a private gateway serves, so that a second command can tell."""
    link = home / "recording"
    if recording is None:
        link.unlink(missing_ok=True)
        return
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = home / f".recording-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(recording.resolve(), target_is_directory=True)
    fresh.replace(link)


def shows_nothing(home: Path) -> bool:
    """Whether the gateway of this home has no recording for tool servers that are to show one."""
    running = _running(home)
    return running is not None and running.recording == ""


def _same_recording(home: Path, recording: Path | None) -> None:
    """Refuse to join a gateway that serves another recording than the one asked for."""
    running = _running(home) if recording is not None else None
    if recording is None or running is None or running.recording is None:
        return
    wanted = recording.resolve()
    if running.recording != str(wanted):
        raise GatewayUnreachable(
            f"the gateway running in {home} serves {running.recording or 'no recording'}, not {wanted}; "
            "end it (or the chat that started it) first, or set POINTSMAN_HOME to another directory"
        )
