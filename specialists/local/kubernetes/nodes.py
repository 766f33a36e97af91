"""Nodes and control plane: runtimes, kubelets, proxies and schedulers that stopped."""

from __future__ import annotations

import asyncio
import re

from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.reading import Row
from specialists.local.kubernetes.scene import Node, Scene
from specialists.local.kubernetes.suspects import Suspect
from specialists.types import Evidence

MOST = 3
MOST_PROXIES = 8
DOWN = re.compile(
    r"Active:\s*(?:inactive|failed|deactivating)|\b(?:inactive|not running|stopped|dead)\b", re.I
)
STUCK = ("ContainerCreating", "PodInitializing", "Init:0/", "Unknown", "Terminating", "NodeLost")


async def examine(scene: Scene) -> list[Suspect]:
    """Nodes that are not ready, nodes on which nothing starts, and pods that no scheduler looks at."""
    lists = await asyncio.gather(
        *(_lost(scene, node) for node in scene.lost_nodes[:MOST]), _stuck(scene), _unscheduled(scene)
    )
    return [suspect for found in lists for suspect in found]


def down(look: Look) -> bool | None:
    """Whether a system service is down; None when that cannot be seen."""
    if not look.seen:
        return None
    active = re.search(r"Active:\s*(\w+)", look.text)
    return (
        active[1].lower() not in ("active", "activating", "reloading")
        if active
        else bool(DOWN.search(look.text))
    )


async def _lost(scene: Scene, node: Node) -> list[Suspect]:
    """Why a node is not ready."""
    runtime, kubelet = await asyncio.gather(
        scene.cluster.node_service(node.name, "containerd"), scene.cluster.node_service(node.name, "kubelet")
    )
    touched = [pod for pod in scene.pods if pod.node == node.name]
    waiting = [app for app, pod in scene.sick.items() if pod.pending]
    weight = 1.0 if touched or waiting else 0.6
    evidence = scene.cite("nodes", node.name, "NotReady")
    evidence += scene.cite("pods", touched[0].row.line) if touched else ()
    thing = f"node/{node.name}"
    if down(runtime):
        found = runtime.cite("Active:") + evidence
        because = "its service is not active, and the node is not ready"
        return [Suspect("containerd_unavailable", thing, 0.98 * weight, found, because)]
    if down(kubelet):
        found = kubelet.cite("Active:") + evidence
        because = "its service is not active, and the node is not ready"
        return [Suspect("kubelet_unavailable", thing, 0.98 * weight, found, because)]
    return await _told(scene, node, evidence, weight)


async def _told(scene: Scene, node: Node, evidence: tuple[Evidence, ...], weight: float) -> list[Suspect]:
    """What the node's own conditions say, where its services cannot be seen or are up."""
    look = await scene.cluster.ask("describe", resource_type="nodes", name=node.name)
    thing = f"node/{node.name}"
    ready = re.search(r"(?m)^\s*Ready\s+(\w+).*$", look.text)
    line = ready[0].strip() if ready else ""
    evidence += look.cite(line) if line else ()
    if re.search(r"container runtime|PLEG|CRI|containerd", line):
        because = "the node says that its container runtime is down"
        return [Suspect("containerd_unavailable", thing, 0.85 * weight, evidence, because)]
    confidence = 0.85 if ready and ready[1] == "Unknown" else 0.4
    because = "the kubelet stopped reporting" if confidence > 0.5 else "the node is not ready"
    return [Suspect("kubelet_unavailable", thing, confidence * weight, evidence, because)]


async def _stuck(scene: Scene) -> list[Suspect]:
    """A node that calls itself ready although nothing starts on it and no event says why."""
    where: dict[str, list[str]] = {}
    for app, pod in scene.sick.items():
        look = scene.described.get(app)
        told = look is None or any(event.type == "Warning" for event in look.pod.events)
        if pod.node and not told and pod.status.startswith(STUCK):
            where.setdefault(pod.node, []).append(app)
    found = []
    for node, apps in list(where.items())[:MOST]:
        services = ("containerd", "kubelet")
        looks = await asyncio.gather(*(scene.cluster.node_service(node, name) for name in services))
        for name, look in zip(services, looks, strict=True):
            if down(look):
                evidence = look.cite("Active:") + scene.cite("pods", scene.sick[apps[0]].row.line)
                because = f"its service is not active, and {apps[0]} does not start there"
                found.append(Suspect(f"{name}_unavailable", f"node/{node}", 0.95, evidence, because))
    return found


async def _unscheduled(scene: Scene) -> list[Suspect]:
    """Pods that are pending without a word from any scheduler."""
    silent = [
        app
        for app, pod in scene.sick.items()
        if pod.pending and app in scene.described and not scene.described[app].pod.events
    ]
    if not silent:
        return []
    row = scene.cite("pods", scene.sick[silent[0]].row.line)
    leaders = [node for node in scene.nodes if node.control_plane] or scene.nodes
    looks = await asyncio.gather(
        *(scene.cluster.node_service(n.name, "kube-scheduler") for n in leaders[:MOST])
    )
    because = f"its service is not active, and {silent[0]} is pending without a word from a scheduler"
    for node, look in zip(leaders, looks, strict=False):
        if down(look):
            evidence = look.cite("Active:") + row
            return [Suspect("kube_scheduler_unavailable", f"node/{node.name}", 0.98, evidence, because)]
    found = await _system_pods(scene, "kube-scheduler", "kube_scheduler_unavailable", row)
    if found or not leaders:
        return found
    because = f"{silent[0]} is pending and no scheduler has said a word about it"
    return [Suspect("kube_scheduler_unavailable", f"node/{leaders[0].name}", 0.6, row, because)]


async def _system_pods(scene: Scene, name: str, label: str, row: tuple[Evidence, ...]) -> list[Suspect]:
    """Pods of a system component (clusters that run it as pods) that do not run."""
    look = await scene.cluster.ask("get", resource_type="pods", namespace="kube-system", wide=True)
    found = []
    for line in look.rows:
        if line["NAME"].startswith(name) and not _serves(line) and line["NODE"]:
            because = f"its pod {line['NAME']} is {line['STATUS']}"
            found.append(Suspect(label, f"node/{line['NODE']}", 0.9, look.cite(line.line) + row, because))
    return found


def _serves(line: Row) -> bool:
    have, _, want = line["READY"].partition("/")
    return line["STATUS"] == "Running" and have == want


async def examine_proxies(scene: Scene) -> list[Suspect]:
    """Nodes whose kube-proxy is down: everything looks well there, and no service can be reached."""
    used = {pod.node for pod in scene.pods}
    nodes = [n for n in scene.nodes if n.name in used and n.ready] or [n for n in scene.nodes if n.ready]
    nodes = nodes[:MOST_PROXIES]
    looks = await asyncio.gather(*(scene.cluster.node_service(node.name, "kube-proxy") for node in nodes))
    found = []
    for node, look in zip(nodes, looks, strict=True):
        if down(look):
            because = "its service is not active"
            evidence = look.cite("Active:") + await _unreached(scene, node)
            found.append(Suspect("kube_proxy_unavailable", f"node/{node.name}", 0.96, evidence, because))
    if not any(look.seen for look in looks):
        found += await _system_pods(scene, "kube-proxy", "kube_proxy_unavailable", ())
    return found


async def _unreached(scene: Scene, node: Node) -> tuple[Evidence, ...]:
    """That a service cannot be reached from the node, if a connection test says so."""
    service = next((s for s in scene.services if s.ports and s.backends not in ("", "<none>", None)), None)
    if service is None:
        return ()
    look = await scene.cluster.connectivity(service.name, service.ports[0].number)
    return look.cite(node.name) if "Failed" in look.text else ()
