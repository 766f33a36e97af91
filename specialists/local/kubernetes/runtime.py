"""Runtime: containers that start and die, or run and never serve, and what their logs say of it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace

from specialists.local.kubernetes import bindings, database
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.reading import Container
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect
from specialists.types import Evidence

DENIED = re.compile(r"(?i)permission denied|operation not permitted|EACCES|access denied.*(?:file|dir|/)")
RECOVERED = 0.45  # how much words in a log weigh when the pod serves again
SPENT = re.compile(
    r"java\.lang\.OutOfMemoryError|JavaScript heap out of memory|std::bad_alloc|Cannot allocate memory"
)
KILLED = "137"  # the exit code of a process that was killed (128 + SIGKILL)
TAKEN = re.compile(r"(?i)address already in use|EADDRINUSE|port \S+ (?:is|was) already (?:in use|allocated)")


async def examine(scene: Scene) -> list[Suspect]:
    """Apps whose containers crash, or do not become ready without a failing pull, mount or placement."""
    found: list[Suspect] = []
    ailing = []
    for app, look in scene.described.items():
        if killed := _out_of_memory(scene, app, look):
            found.append(killed)
        elif _ran(look):
            ailing.append(app)
    for some in await asyncio.gather(*(_logs(scene, app) for app in ailing)):
        found += some
    return found


def _ran(look: Look) -> bool:
    """Whether a container of the pod ran and ended, or runs without being ready."""
    return any(
        c.restarts > 0 or c.reason in ("CrashLoopBackOff", "Error") or c.state == "Running"
        for c in look.pod.containers
    )


def _out_of_memory(scene: Scene, app: str, look: Look) -> Suspect | None:
    for container in look.pod.containers:
        if "OOMKilled" in (container.reason, container.last_reason):
            evidence = look.cite("OOMKilled") + look.cite("memory:")
            evidence += scene.cite("pods", scene.sick[app].row.line)
            limit = container.limits.get("memory", "its limit")
            because = f"the container {container.name} went beyond {limit}"
            return Suspect("oom_killed", f"app/{app}", 0.97, evidence, because)
    return None


async def _logs(scene: Scene, app: str) -> list[Suspect]:
    """What the log of an ailing app says, and its pod's shape."""
    look, pod = scene.described[app], scene.sick[app]
    row = scene.cite("pods", pod.row.line)
    if killed_by_probe(look) and (found := _conflict(app, look, None, row)):
        return found
    log = await scene.cluster.logs(app)
    if killed_by_probe(look):  # what does not answer its probe may be waiting for a database
        return await database.read(scene, app, log, crashing=True)
    found = _conflict(app, look, log, row)
    if (line := _line(log, DENIED)) and _mounts(look):
        because = "its log says so, and it mounts a volume"
        evidence = log.cite(line) + look.cite(_mounts(look)[0]) + row
        found.append(Suspect("volume_mount_permission_denied", f"app/{app}", 0.93, evidence, because))
    found += await database.read(scene, app, log, crashing=True)
    found += await bindings.read(scene, app, log)
    found += _spent(app, look, log, row)
    if not found and (pod.restarts or "CrashLoop" in pod.status):
        evidence = look.cite("Exit Code:") + row
        found.append(Suspect("crash_loop", f"app/{app}", 0.3, evidence))
    return found if not pod.ready else [replace(s, confidence=s.confidence * RECOVERED) for s in found]


def _spent(app: str, look: Look, log: Look, row: tuple[Evidence, ...]) -> list[Suspect]:
    """Memory that ran out without the kubelet saying so: the log says it, or something killed the process."""
    if said := SPENT.search(log.text):
        return [Suspect("oom_killed", f"app/{app}", 0.8, log.cite(said[0]) + row, "its log says so")]
    probed = any("Liveness" in event.message for event in look.pod.recent("Unhealthy"))
    if any(c.last_exit == KILLED for c in look.pod.containers) and not probed:
        because = "it was killed (exit code 137), and no probe of it failed"
        return [Suspect("oom_killed", f"app/{app}", 0.7, look.cite("Exit Code:", KILLED) + row, because)]
    return []


def killed_by_probe(look: Look) -> bool:
    """Whether it is the kubelet that ends the container, for a failing probe."""
    return any("liveness probe" in event.message for event in look.pod.recent("Killing"))


def _conflict(app: str, look: Look, log: Look | None, row: tuple[Evidence, ...]) -> list[Suspect]:
    """Two containers of a pod that want one port."""
    declared: Counter[str] = Counter()
    for container in look.pod.containers:
        declared.update({p for p in (*container.ports, *_bound(container)) if _stays(container)})
    twice = [port for port, times in declared.items() if times > 1 and not port.startswith("0/")]
    line = (_line(log, TAKEN) if log else "") or _line(look, TAKEN)
    running = [c for c in look.pod.containers if _stays(c)]
    if not (line or twice) or len(running) < 2:
        return []
    evidence = (log.cite(line) if log and line and line in log.text else ()) + row
    evidence += look.cite(twice[0].split("/")[0]) if twice else look.cite("Restart Count")
    because = f"its containers {', '.join(c.name for c in running)} share the pod's ports"
    confidence = 0.95 if line else 0.82
    return [Suspect("service_sidecar_port_conflict", f"app/{app}", confidence, evidence, because)]


def _stays(container: Container) -> bool:
    """Whether a container runs beside the others; a sidecar may be declared among the init containers."""
    return not container.init or container.state == "Running"


def _bound(container: Container) -> set[str]:
    ports = {value for key, value in container.env.items() if key.endswith("PORT") and value.isdigit()}
    named = {port.split("/")[0] for port in container.ports}
    return {f"{port}/TCP" for port in ports if port not in named and container.env.get("PORT") == port}


def _mounts(look: Look) -> list[str]:
    """Volumes that containers mount, those of the service account aside."""
    mounts = [mount for container in look.pod.containers for mount in container.mounts]
    return [mount for mount in mounts if "serviceaccount" not in mount]


def _line(look: Look, pattern: re.Pattern[str]) -> str:
    return next((line.strip() for line in look.text.splitlines() if pattern.search(line)), "")
