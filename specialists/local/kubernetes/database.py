"""Databases: what clients and servers write into their logs when a database turns them away."""

from __future__ import annotations

import asyncio
import re

from specialists.local.kubernetes import addresses
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect

SERVERS = re.compile(r"mysql|mariadb|postgres|pgsql|percona|mongo|redis|database|(?:^|-)db(?:-|$)", re.I)
RULES = (
    ("mysql_invalid_credentials", "client", 0.94,
     r"Access denied for user|password authentication failed|authentication failed for user"
     r"|ER_ACCESS_DENIED|SASL authentication failed"),
    ("db_read_only", "server", 0.93,
     r"--read-only option|read[- ]only transaction|READONLY You can't write|super-read-only"
     r"|server is in read[- ]only mode|read_only=1|database is read[- ]only"),
    ("db_connection_exhaustion", "server", 0.93,
     r"Too many connections|max_user_connections|remaining connection slots|too many clients already"
     r"|ER_CON_COUNT_ERROR|max number of clients reached"),
    ("db_connection_exhaustion", "client", 0.85,
     r"Connection is not available, request timed out|[Cc]onnection pool (?:is )?exhausted"
     r"|QueuePool limit|Unable to acquire JDBC Connection|Timeout: Pool empty"),
)  # fmt: skip
UNREACHED = re.compile(
    r"Communications link failure|Can't connect to (?:MySQL|MariaDB|local MySQL)"
    r"|Could not connect to address=|dial tcp \S+:33\d\d: connect|ECONNREFUSED \S+:33\d\d"
    r"|could not connect to server",
    re.I,
)
MOST_LOGS = 60


async def examine(scene: Scene) -> list[Suspect]:
    """Read the errors in the logs of everything that runs."""
    apps = scene.apps[:MOST_LOGS]
    logs = await asyncio.gather(*(scene.cluster.logs(app) for app in apps))
    lists = await asyncio.gather(*(read(scene, app, log) for app, log in zip(apps, logs, strict=True)))
    return [suspect for found in lists for suspect in found]


async def read(scene: Scene, app: str, log: Look, crashing: bool = False) -> list[Suspect]:
    """The faults of a database that the log of an app tells of."""
    found = []
    for label, whose, confidence, pattern in RULES:
        line = next((line.strip() for line in log.text.splitlines() if re.search(pattern, line)), "")
        if not line:
            continue
        owner = await server_of(scene, app, line) if whose == "server" else app
        words = re.search(pattern, line)
        evidence = log.cite(words[0]) if words else ()
        evidence += _row(scene, app) if crashing else ()
        because = f"the log of {app} says so"
        found.append(Suspect(label, f"app/{owner}", confidence, evidence, because))
        if owner != app:
            found.append(Suspect(label, f"app/{app}", 0.3, evidence, because))
    line = next((line.strip() for line in log.text.splitlines() if UNREACHED.search(line)), "")
    if line and not found and not SERVERS.search(app):
        evidence = log.cite(UNREACHED.search(line)[0])  # type: ignore[index]
        because = f"{app} cannot reach its database"
        found.append(Suspect("mysql_invalid_port", f"app/{app}", 0.45, evidence, because))
    return found


async def server_of(scene: Scene, app: str, words: str) -> str:
    """The database that an app uses: the one its words name, else the only one, else that of its settings."""
    if SERVERS.search(app):
        return app
    servers = [name for name in scene.apps if SERVERS.search(name)]
    named = [name for name in servers if name in words]
    own = [name for name in servers if app.split("-service")[0] in name]
    if sure := named + own + (servers if len(servers) == 1 else []):
        return sure[0]
    applied = await scene.cluster.manifest(app) if servers else None
    hosts = {one.host.split(".")[0] for one in addresses.read(app, applied)} if applied else set()
    told = [scene.app_of(service) for service in scene.services if service.name in hosts]
    return next((name for name in told if name in servers), app)


def _row(scene: Scene, app: str) -> tuple:
    return scene.cite("pods", scene.sick[app].row.line) if app in scene.sick else ()
