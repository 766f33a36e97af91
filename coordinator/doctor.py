"""`pointsman doctor`: looks at everything Pointsman needs, and says what to do about what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def run_doctor(as_json: bool, config: str | None) -> int:
    """Look at everything, print each thing once it was looked at, and return 5 when something is missing."""
    checks: list[Check] = []

    def tell(check: Check) -> None:
        checks.append(check)
        if not as_json:
            print(f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}: {check.found}", flush=True)
            if check.advice:
                print(f"         → {check.advice}", flush=True)

    for check in _here(config):
        tell(check)
    if all(check.ok for check in checks):
        asyncio.run(_gateway(config, tell))
    if as_json:
        print(json.dumps({"ok": all(c.ok for c in checks), "checks": [asdict(c) for c in checks]}, indent=2))
    return 0 if all(c.ok for c in checks) else DOWN


def _here(config: str | None) -> Iterator[Check]:
    """What can be seen without a gateway."""
    from coordinator.settings import CoordinatorSettings, home
    from specialists.errors import SpecialistsError
    from specialists.settings import SpecialistsSettings

    version = ".".join(str(n) for n in sys.version_info[:3])
    yield Check(
        "python",
        sys.version_info >= (3, 11),
        version,
        "" if sys.version_info >= (3, 11) else "use 3.11 or newer",
    )
    yield _writable(home())
    try:
        CoordinatorSettings.load(config)
        specialists = SpecialistsSettings.load(config)
    except SpecialistsError as error:
        yield Check("settings", False, str(error), "correct the file or the variable it names")
        return
    yield Check("settings", True, str(specialists.source or "no pointsman.toml; the defaults are in force"))
    yield from _specialists(specialists)
    yield _port()


def _writable(home: Path) -> Check:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=home):
            return Check("home", True, str(home))
    except OSError as error:
        return Check(
            "home", False, f"{home}: {error.strerror}", "set POINTSMAN_HOME to a directory you may write"
        )


def _specialists(settings: Any) -> Iterator[Check]:
    """Whether every specialist can be loaded, and a model's key is there where one is needed."""
    from specialists.errors import SpecialistsError
    from specialists.roster import Roster

    try:
        roster = Roster.from_settings(settings)
    except SpecialistsError as error:
        yield Check("specialists", False, str(error), "correct pointsman.toml")
        return
    for name in roster.names():
        try:
            roster.card(name)
        except SpecialistsError as error:
            yield Check(f"specialist {name}", False, str(error), "correct its class in pointsman.toml")
            continue
        key = getattr(settings.of(name), "api_key_env", "")
        missing = bool(key) and not os.environ.get(key)
        advice = f"{key} is not set: export it, unless the endpoint needs none" if missing else ""
        yield Check(f"specialist {name}", True, f"{roster.mode(name)}, {roster.where(name)}", advice)


def _port() -> Check:
    """Whether a local port can be opened, which a private gateway needs."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
        return Check("ports", True, "a free port on 127.0.0.1 can be opened")
    except OSError as error:
        return Check("ports", False, str(error), "allow this user to listen on 127.0.0.1")


async def _gateway(config: str | None, tell: Callable[[Check], None]) -> None:
    """The gateway (the running one, or a private one for this look) and its tool servers."""
    from coordinator import private_gateway
    from coordinator.errors import CoordinatorError
    from coordinator.gateway_client import GatewayClient
    from coordinator.session import served_recording
    from coordinator.settings import CoordinatorSettings, home
    from specialists.errors import SpecialistsError

    settings = CoordinatorSettings.load(config)
    recording = served_recording(settings, home(), config)
    try:
        async with private_gateway.gateway(settings, home(), recording, config) as found:
            kind = "started for this look" if found.private else "running"
            tell(Check("gateway", True, f"{found.url}, {kind}"))
            access = await private_gateway.tokens(found, settings.login)
            await private_gateway.servers_settled(access)
            async with GatewayClient(access, access.person) as client:
                listed = await client.read("gateway__list_servers", {})
            for server in listed.get("servers", []):
                tell(_server(server))
    except (CoordinatorError, SpecialistsError) as error:
        tell(Check("gateway", False, str(error), "see the gateway's log, or correct pointsman.toml"))


def _server(server: dict[str, Any]) -> Check:
    name, state = str(server.get("name")), str(server.get("state") or server.get("status") or "unknown")
    ok = state not in ("failed", "stopped")
    why = server.get("error") or ""
    advice = "" if ok else f"see `pointsman servers test {name}` for the stage that fails"
    return Check(f"tool server {name}", ok, f"{state}{f': {why}' if why else ''}", advice)
