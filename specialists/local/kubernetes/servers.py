"""Database servers: what they are told to allow, and whether their clients know what they were told."""

from __future__ import annotations

import asyncio
import re

from specialists.local.kubernetes import addresses
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.database import SERVERS
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.settings import Environment, environments
from specialists.local.kubernetes.suspects import Suspect

FEW = 15  # connections; servers allow a hundred and more unless somebody said otherwise
REPLICA = re.compile(r"replica|slave|secondary|follower|standby|read", re.I)
READ_ONLY = re.compile(
    r"(?<!replica-)(?<!slave-)\b(?:super[-_])?read[-_]only\s*[=:]\s*[\"']?(?:1|on|true|yes)\b", re.I
)
MOST_CONNECTIONS = re.compile(r"\bmax[-_](?:user[-_])?connections\s*[=:]\s*[\"']?(\d+)", re.I)
OWNER = re.compile(
    r"^(?:MYSQL|MARIADB|POSTGRES(?:QL)?|MONGO_INITDB|DB)_(?:(ROOT)_)?(USER|USERNAME|PASSWORD)$"
)
USER = re.compile(r"^(.*?)_?(?:USER|USERNAME)$", re.I)


async def examine(scene: Scene) -> list[Suspect]:
    """Servers that allow too little, and clients with another password than the server was made with."""
    apps = scene.apps[: addresses.MOST]
    servers = [app for app in apps if SERVERS.search(app)]
    if not servers:
        return []
    looks = dict(zip(apps, await asyncio.gather(*(scene.cluster.manifest(app) for app in apps)), strict=True))
    found: list[Suspect] = []
    for server in servers:
        found += _allows(server, looks[server])
        accounts = _accounts(looks[server])
        for app in apps:
            if accounts and app not in servers:
                found += _stranger(scene, app, server, looks[app], accounts)
    return found


def _allows(server: str, applied: Look) -> list[Suspect]:
    """A server that was told to take no writes, or hardly any connections."""
    found = []
    only = READ_ONLY.search(applied.text)
    if only and not REPLICA.search(server):
        because = f"its configuration says {only[0]}"
        found.append(Suspect("db_read_only", f"app/{server}", 0.86, applied.cite(only[0]), because))
    most = MOST_CONNECTIONS.search(applied.text)
    if most and 0 < int(most[1]) <= FEW:
        because = f"its configuration allows {most[1]} connections in all"
        label = "db_connection_exhaustion"
        found.append(Suspect(label, f"app/{server}", 0.86, applied.cite(most[0]), because))
    return found


def _accounts(applied: Look) -> dict[str, str]:
    """The accounts a server is made with, by user."""
    found: dict[str, str] = {}
    for variables in environments(applied):
        said: dict[tuple[str, str], str] = {}
        for key, setting in variables.items():
            if named := OWNER.match(key):
                said[named[1] or "", "PASSWORD" if named[2] == "PASSWORD" else "USER"] = setting.value
        if said.get(("", "USER")) and said.get(("", "PASSWORD")):
            found[said["", "USER"]] = said["", "PASSWORD"]
        if said.get(("ROOT", "PASSWORD")):
            found["root"] = said["ROOT", "PASSWORD"]
    return found


def _stranger(scene: Scene, app: str, server: str, applied: Look, accounts: dict[str, str]) -> list[Suspect]:
    """A client that names the server, and for one of its users another password; no password is quoted."""
    hosts = {address.host.split(".")[0] for address in addresses.read(app, applied)}
    if not any(scene.app_of(s) == server for s in scene.services if s.name in hosts):
        return []
    for variables in environments(applied):
        for key, setting in variables.items():
            stem = USER.match(key)
            given = _password(variables, stem[1]) if stem else None
            if given is not None and accounts.get(setting.value, given) != given:
                because = f"the password it gives for {setting.value} is not the one {server} was made with"
                evidence = applied.cite(setting.written) or applied.cite(key)
                return [Suspect("mysql_invalid_credentials", f"app/{app}", 0.85, evidence, because)]
    return []


def _password(variables: Environment, stem: str) -> str | None:
    names = [f"{stem}_{end}" if stem else end for end in ("PASSWORD", "PASS", "PWD")]
    return next((variables[name].value for name in names if name in variables), None)
