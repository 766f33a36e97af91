"""Scheduling: pods that no node takes, and which of the scheduler's reasons decides."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.scene import Node, Scene
from specialists.local.kubernetes.suspects import Suspect

KINDS = (
    ("cordon", r"were unschedulable|\{node\.kubernetes\.io/unschedulable"),
    ("lost", r"taint \{node\.kubernetes\.io/(?:unreachable|not-ready|network-unavailable)"),
    ("control", r"taint \{node-role\.kubernetes\.io/"),
    ("taint", r"taint"),
    ("choice", r"node affinity|node selector|selector"),
    ("cpu", r"Insufficient cpu"),
    ("memory", r"Insufficient memory"),
    ("neighbours", r"affinity rules|anti-affinity|topology spread"),
    ("volume", r"volume|persistentvolumeclaim"),
)
LABELS = {
    "cordon": "node_cordon_mismatch",
    "taint": "taint_toleration_mismatch",
    "cpu": "cpu_capacity_mismatch",
    "memory": "memory_capacity_mismatch",
    "neighbours": "pod_anti_affinity_conflict",
}
SAYS = {
    "cordon": "the nodes it could use are cordoned",
    "taint": "the nodes it could use carry a taint it does not tolerate",
    "cpu": "no node it could use has the CPU free that it requests",
    "memory": "no node it could use has the memory free that it requests",
    "neighbours": "the nodes it could use already run pods it must not be with",
}


async def examine(scene: Scene) -> list[Suspect]:
    """One suspect (and its rivals) for each app that the scheduler could not place."""
    waiting = [app for app, pod in scene.sick.items() if pod.pending and app in scene.described]
    found = await asyncio.gather(*(_unplaced(scene, app) for app in waiting))
    return [suspect for some in found for suspect in some]


def reasons(message: str) -> dict[str, int]:
    """How many nodes were ruled out by each kind of reason, as the scheduler counts them."""
    body = message.split("preemption:")[0].split("nodes are available:")[-1]
    counts: dict[str, int] = {}
    for number, said in re.findall(r"(\d+) ((?:[^,{]|\{[^}]*\})+)", body):
        kind = next((kind for kind, pattern in KINDS if re.search(pattern, said)), "")
        if kind:
            counts[kind] = counts.get(kind, 0) + int(number)
    return counts


async def _unplaced(scene: Scene, app: str) -> list[Suspect]:
    look = scene.described[app]
    refusals = [e for e in look.pod.recent("FailedScheduling") if "nodes are available" in e.message]
    if not refusals or "PersistentVolumeClaim" in refusals[0].message:
        return []
    counts = reasons(refusals[0].message)
    counts.pop("control", None)
    standing = sum(node.cordoned and node.control_plane for node in scene.nodes)
    counts["cordon"] = counts.get("cordon", 0) - standing
    counts = {kind: count for kind, count in counts.items() if count > 0 and kind != "lost"}
    evidence = look.cite(refusals[0].line) + scene.cite("pods", scene.sick[app].row.line)
    if "choice" in counts and (chosen := await _choice(scene, app, look, counts)):
        said, confidence = chosen
        if said == "node_selector_mismatch":
            evidence += look.cite("Node-Selectors:")
        because = "no node carries the labels it asks for"
        return [Suspect(said, f"app/{app}", confidence, evidence, because)]
    rivals = sorted((k for k in counts if k in LABELS), key=lambda k: -counts[k])
    evidence += _cordoned(scene) if rivals[:1] == ["cordon"] else ()
    return [
        Suspect(LABELS[kind], f"app/{app}", 0.97 if place == 0 else 0.3, evidence, SAYS[kind])
        for place, kind in enumerate(rivals)
    ]


def _cordoned(scene: Scene) -> tuple[Any, ...]:
    rows = [node.row.line for node in scene.nodes if node.cordoned and not node.control_plane]
    return scene.cite("nodes", rows[0][:80].rstrip()) if rows else ()


async def _choice(scene: Scene, app: str, look: Look, counts: dict[str, int]) -> tuple[str, float] | None:
    """The fault of the pod's own choice of nodes, or None when some node satisfies it."""
    workers = [node for node in scene.nodes if not node.control_plane] or scene.nodes
    selector = look.pod.node_selector
    others = {kind for kind in counts if kind != "choice"}
    if selector and not any(_carries(node, selector) for node in workers):
        return "node_selector_mismatch", 0.97
    if not others and not selector:
        return "node_affinity_mismatch", 0.97
    affinity = await _affinity(scene, app)
    if not others:
        return "node_affinity_mismatch" if affinity else "node_selector_mismatch", 0.85
    if affinity and not any(_satisfies(node, affinity) for node in workers):
        return "node_affinity_mismatch", 0.95
    return None


async def _affinity(scene: Scene, app: str) -> list[dict[str, Any]]:
    """The required node selector terms in the manifest of an app."""
    look = await scene.cluster.manifest(app)
    for document in look.documents:
        template = ((document.get("spec") or {}).get("template") or {}).get("spec") or {}
        node = (template.get("affinity") or {}).get("nodeAffinity") or {}
        required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        if required.get("nodeSelectorTerms"):
            return list(required["nodeSelectorTerms"])
    return []


def _carries(node: Node, wanted: dict[str, str]) -> bool:
    return all(node.labels.get(key) == value for key, value in wanted.items())


def _satisfies(node: Node, terms: list[dict[str, Any]]) -> bool:
    return any(all(_holds(node, e) for e in term.get("matchExpressions") or []) for term in terms)


def _holds(node: Node, expression: dict[str, Any]) -> bool:
    value = node.labels.get(str(expression.get("key")))
    values = [str(v) for v in expression.get("values") or []]
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and value.isdigit() and int(value) > int(values[0])
        case "Lt":
            return value is not None and value.isdigit() and int(value) < int(values[0])
    return True
