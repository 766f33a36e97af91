"""The Kubernetes specialist: look at what is sick, suspect, ask for what separates, stop when it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from specialists.local.kubernetes import (
    addresses,
    admission,
    database,
    gateways,
    images,
    names,
    nodes,
    performance,
    probes,
    routing,
    runtime,
    scheduling,
    servers,
    startup,
    storage,
)
from specialists.local.kubernetes.cluster import Cluster
from specialists.local.kubernetes.reading import Row, age
from specialists.local.kubernetes.report import finding
from specialists.local.kubernetes.scene import Scene, look_around
from specialists.local.kubernetes.suspects import ENOUGH, Suspect, ranked
from specialists.types import Card, Event, Progress, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox

Analyzer = Callable[[Scene], Awaitable[list[Suspect]]]

# Each stage costs more calls than the one before; the search ends with the first that convinces.
STAGES: tuple[tuple[str, tuple[Analyzer, ...]], ...] = (
    (
        "what does not run",
        (
            admission.examine, nodes.examine, scheduling.examine, storage.examine, images.examine,
            startup.examine, probes.examine, runtime.examine,
        ),
    ),
    ("what monitoring measures", (performance.examine,)),
    ("routes and node services", (routing.examine, nodes.examine_proxies)),
    ("addresses and routes in the configuration", (addresses.examine, servers.examine, gateways.examine)),
    ("logs and name resolution", (database.examine, names.examine)),
)  # fmt: skip
CHRONIC = 86_400.0  # seconds after which what is ill is no news
SYSTEM = (
    "kube-",
    "default",
    "istio-",
    "monitoring",
    "cert-manager",
    "local-path",
    "ingress",
    "calico",
    "cattle",
)


class KubernetesSpecialist:
    """Finds what is broken in a namespace and on the nodes under it."""

    card = Card(
        name="kubernetes",
        description="Pods, workloads, services, volumes, nodes and control plane: what is broken, and why.",
        tools=("kubernetes__*",),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Look, suspect, separate; the last event is the finding."""
        began, before = time.monotonic(), toolbox.calls
        namespace, unseen = await _namespace(task, toolbox)
        cluster = Cluster(toolbox, namespace)
        cluster.unseen += unseen
        yield _note(f"looking at {namespace or 'the cluster'}")
        scene = await look_around(cluster)
        suspects: list[Suspect] = []
        for name, analyzers in STAGES:
            if not scene.pods and not scene.workloads:
                break
            yield _note(name)
            for found in await asyncio.gather(*(examine(scene) for examine in analyzers)):
                suspects += found
            if any(suspect.confidence >= ENOUGH for suspect in suspects if suspect.evidence):
                break
        yield finding(task, scene, ranked(suspects), toolbox.calls - before, time.monotonic() - began)


def _note(words: str) -> Progress:
    return Progress(specialist=KubernetesSpecialist.card.name, kind="note", text=words)


async def _namespace(task: Task, toolbox: Toolbox) -> tuple[str, list[str]]:
    """The namespace of the case; where nobody said, the one with the most trouble, else the most pods."""
    labels = task.scope.alert.get("labels") or task.scope.alert.get("commonLabels") or {}
    named = task.scope.namespace or str(labels.get("namespace") or "")
    if named:
        return named, []
    look = await Cluster(toolbox, "").ask("get", resource_type="namespaces")
    spaces = [row["NAME"] for row in look.rows if not row["NAME"].startswith(SYSTEM)] or ["default"]
    if len(spaces) == 1:
        return spaces[0], []
    looks = await asyncio.gather(*(Cluster(toolbox, space).get("pods") for space in spaces[:10]))
    trouble = {
        space: (sum(map(_newly_ill, seen.rows)), len(seen.rows))
        for space, seen in zip(spaces, looks, strict=False)
    }
    best = max(trouble, key=lambda space: trouble[space])
    return best, [] if any(trouble[best]) else ["a namespace with pods in it"]


def _newly_ill(row: Row) -> bool:
    """Whether a pod is ill, and not for so long that it is no news."""
    have, _, want = row["READY"].partition("/")
    well = row["STATUS"] in ("Completed", "Succeeded") or (have == want and row["STATUS"] == "Running")
    return not well and (age(row["AGE"]) or 0) < CHRONIC
