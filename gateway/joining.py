"""A gateway for another process of ours: the one of this home, joined or started, and a token there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError, GatewayRunning, GatewayUnreachable, UsageError
from gateway.remote import call_admin, error_told, running

READY_SECONDS = 30.0
STOP_SECONDS = 5.0
TOKEN_SECONDS = 30 * 24 * 3600.0  # revoked at the end; this is for the client that is killed


class Elsewhere:
    """A gateway at an address, with a token somebody was given for it."""

    def __init__(self, url: str, token: str) -> None:
        self._told = url.rstrip("/").removesuffix("/mcp"), token

    async def open(self) -> tuple[str, str]:
        """Its address without a path, and the token."""
        return self._told

    async def close(self) -> None:
        """It goes on without us."""


class Joined:
    """The gateway of a home; one that was started here ends with us."""

    def __init__(
        self,
        home: Path,
        config: str | None,
        *,
        token: str = "",
        subject: str = "",
        roles: tuple[str, ...] = (),
    ) -> None:
        self._home = home
        self._config = config
        self._given = token
        self._wanted = {"subject": subject, "roles": list(roles), "expires_seconds": TOKEN_SECONDS}
        self._issued: dict[str, Any] | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def open(self) -> tuple[str, str]:
        """Its address without a path, and a token; asked again, the address it has by now."""
        about = await self._found()
        if self._given:
            return about["url"], self._given
        self._issued = await call_admin(self._home, "issue_token", self._wanted)
        if self._issued is None:
            raise GatewayUnreachable(f"the gateway in {self._home} ended just now: try again")
        return about["url"], self._issued["token"]

    async def close(self) -> None:
        """Give the token back, and end the gateway if it was started here."""
        if self._issued is not None:
            with suppress(GatewayError):  # it is gone, or has ended the token itself
                await call_admin(self._home, "revoke_token", {"id": self._issued["id"]})
        if self._process is not None:
            await _stop(self._process)

    async def _found(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        until = loop.time() + READY_SECONDS
        while True:
            try:
                if (about := running(self._home)) is not None:
                    return about
                await self._start()
            except (GatewayUnreachable, GatewayRunning):  # another one is just starting, or ending
                if loop.time() > until:
                    raise
                await asyncio.sleep(0.1)

    async def _start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        reading, writing = os.pipe()
        command = [
            sys.executable,
            "-m",
            "gateway",
            "--port",
            "0",
            "--ready-fd",
            str(writing),
            "--with-parent",
        ]
        command += ["--config", self._config] if self._config else []
        try:
            with (self._home / "gateway.log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writing,),
                    env={**os.environ, "POINTSMAN_HOME": str(self._home)},
                    start_new_session=True,
                )
        finally:
            os.close(writing)
        told = await _told(reading)
        if "error" in told:
            raise error_told(told["error"]["code"], told["error"]["message"])
        if not told:
            raise GatewayError(f"the gateway did not start: see {self._home / 'gateway.log'}")


def door(
    home: Path, config: str | None, url: str, token: str, subject: str, roles: tuple[str, ...]
) -> Elsewhere | Joined:
    """The gateway meant by the options of a command."""
    if bool(token) == bool(subject):
        raise UsageError(
            "say once who calls: --as agent:NAME with --role, or a token of `pointsman tokens issue` in "
            "POINTSMAN_TOKEN"
        )
    if roles and not subject:
        raise UsageError("--role goes with --as: a token has its roles already")
    if url:
        if not token:
            raise UsageError(f"the gateway at {url} has issued no token: put one in POINTSMAN_TOKEN")
        return Elsewhere(url, token)
    return Joined(home, config, token=token, subject=subject, roles=roles)


async def _told(reading: int) -> dict[str, Any]:
    """What the gateway says when it is ready or will not be; nothing when it ended without a word."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
    )
    try:
        async with asyncio.timeout(READY_SECONDS):
            line = await reader.readline()
    except TimeoutError:
        line = b""
    finally:
        transport.close()
    return json.loads(line) if line else {}


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Its stdin closes, then a signal if it does not take the hint."""
    assert process.stdin is not None
    process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        if process.returncode is not None:
            return
        process.send_signal(number)
    await process.wait()
