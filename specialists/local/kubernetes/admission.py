"""Admission: pods and claims that the API server refuses to create, and workloads scaled to nothing."""

from __future__ import annotations

import asyncio
import re

from specialists.local.kubernetes import reading
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.scene import Scene, Workload
from specialists.local.kubernetes.suspects import Suspect
from specialists.types import Evidence

MOST = 3
RESOURCES = (
    (r"services", "namespace_service_quota_exceeded"),
    (r"storage|persistentvolumeclaims", "namespace_storage_quota_exceeded"),
    (r"pods", "namespace_pod_quota_exceeded"),
    (r"memory", "namespace_memory_quota_exceeded"),
    (r"cpu", "namespace_cpu_quota_exceeded"),
)


async def examine(scene: Scene) -> list[Suspect]:
    """Workloads that want pods and have none, or that want none."""
    suspects = _scaled_to_zero(scene)
    short = [w for w in scene.workloads if w.desired and not scene.pods_of(w.name)]
    short += [w for w in scene.workloads if w.desired > len(scene.pods_of(w.name)) > 0]
    for found in await asyncio.gather(*(_refused(scene, w) for w in short[:MOST])):
        suspects += found
    return suspects


def _scaled_to_zero(scene: Scene) -> list[Suspect]:
    found = []
    for workload in scene.workloads:
        if workload.desired or scene.pods_of(workload.name):
            continue
        service = next((s for s in scene.services if scene.app_of(s) == workload.name), None)
        row = service.backend_row if service else None
        waits = service is not None and service.backends in ("<none>", "")
        evidence = scene.cite(workload.kind, workload.row.line)
        evidence += scene.cite("endpoints", row.line) if row and waits else ()
        because = "its workload wants 0 replicas" + (
            f", and the service {service.name} has nothing behind it" if service and waits else ""
        )
        confidence = 0.93 if waits else 0.4
        found.append(
            Suspect("deployment_zero_replicas", f"app/{workload.name}", confidence, evidence, because)
        )
    return found


async def _refused(scene: Scene, workload: Workload) -> list[Suspect]:
    """Why no pod could be created: the newest refusal that its controller reports."""
    look = await scene.cluster.describe(workload.kind, workload.name)
    if workload.kind == "deployments":
        named = re.search(r"(?m)^NewReplicaSet:\s+(\S+)", look.text)
        if named and not named[1].startswith("<none"):
            look = await scene.cluster.describe("replicasets", named[1])
    refusals = [event for event in reading.happenings(look.text) if event.reason == "FailedCreate"]
    later = [e.ago for e in reading.happenings(look.text) if e.reason == "SuccessfulCreate"]
    refusals = [event for event in refusals if not later or event.ago <= min(later)]
    if not refusals:
        return []
    newest = refusals[0]
    evidence = look.cite(newest.line) + scene.cite(workload.kind, workload.row.line)
    return _read_refusal(scene, workload.name, newest.message, evidence)


def _read_refusal(scene: Scene, app: str, said: str, evidence: tuple[Evidence, ...]) -> list[Suspect]:
    if found := re.search(r'serviceaccount "([^"]+)" not found', said):
        because = f"the service account {found[1]!r} was not found when its pods were to be created"
        return [Suspect("missing_service_account", f"app/{app}", 0.97, evidence, because)]
    if found := re.search(r"exceeded quota: ([^,]+), requested: (.*?), used: (.*?), limited: (\S+)", said):
        label = over(found[2])
        if label:
            because = f"the quota {found[1]} refused a pod of {app} (requested {found[2]}, used {found[3]})"
            return [Suspect(label, f"namespace/{scene.cluster.namespace}", 0.97, evidence, because)]
    if found := re.search(r"must specify (?:limits|requests)\.(cpu|memory)", said):
        because = f"the quota demands that {app} states its {found[1]}"
        return [
            Suspect(over(found[1]), f"namespace/{scene.cluster.namespace}", 0.55, evidence, because)
        ]  # fmt: skip
    return []


def over(resources: str) -> str:
    """The fault of a quota on these resources ("requests.cpu=1"), or ""."""
    names = re.sub(r"=\S+", "", resources)
    return next((label for pattern, label in RESOURCES if re.search(pattern, names)), "")


def full(quotas: Look, resource: str) -> tuple[Evidence, ...]:
    """The line of a quota that has none of a resource left ("services: 11/11"), as evidence."""
    for row in quotas.rows:
        for name, used, hard in re.findall(r"([\w./-]+): ([\w.]+)/([\w.]+)", row.line):
            have, most = reading.quantity(used), reading.quantity(hard)
            if re.search(resource, name) and have is not None and most is not None and have >= most:
                return quotas.cite(row.line)
    return ()
