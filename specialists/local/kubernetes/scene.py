"""The scene: what a person sees first: nodes, workloads, pods, services, and which of them look sick."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field

from specialists.local.kubernetes import reading
from specialists.local.kubernetes.cluster import Cluster, Look
from specialists.local.kubernetes.reading import Row
from specialists.types import Evidence

FRESH = 900.0  # a restart longer ago than this (seconds) is history unless the pod is sick now
MOST_DESCRIBED = 6
VAGUE = ("Running", "CrashLoopBackOff", "Error", "Unknown")  # states that victims of another fault show too
STORES = re.compile(
    r"mysql|mariadb|postgres|pgsql|percona|mongo|redis|database|kafka|rabbit|queue|(?:^|-)db(?:-|$)", re.I
)
_CONTROL = ("master", "control-plane", "controlplane", "etcd")
_HASHES = re.compile(r"-[a-z0-9]{6,10}-[a-z0-9]{5}$|-[a-z0-9]{5}$|-\d+$")


@dataclass(frozen=True)
class Node:
    """A node, as its line says it."""

    name: str
    ready: bool
    cordoned: bool
    control_plane: bool
    labels: dict[str, str]
    row: Row


@dataclass(frozen=True)
class Pod:
    """A pod, as its line says it."""

    name: str
    app: str
    ready: bool
    status: str
    restarts: int
    restarted: float | None  # seconds since the last restart
    node: str
    ip: str
    row: Row

    @property
    def pending(self) -> bool:
        """Not placed on any node yet."""
        return self.status == "Pending" and not self.node

    @property
    def sick(self) -> bool:
        """Not serving now, or restarted so recently that it may not last."""
        if self.status in ("Completed", "Succeeded"):
            return False
        if not self.ready or self.status != "Running":
            return True
        return self.restarts > 0 and self.restarted is not None and self.restarted < FRESH


@dataclass(frozen=True)
class Workload:
    """A deployment or stateful set, as its line says it."""

    name: str
    kind: str
    available: int
    desired: int
    row: Row


@dataclass(frozen=True)
class Port:
    """A port of a service."""

    number: int
    protocol: str


@dataclass(frozen=True)
class Service:
    """A service, as its line says it, with the addresses behind it."""

    name: str
    ports: tuple[Port, ...]
    selector: dict[str, str]
    row: Row
    backends: str | None  # as the endpoints say; "" = none ready; "<none>" = nothing selected; None = unknown
    backend_row: Row | None


@dataclass
class Scene:
    """What is there, and a closer look at what is sick."""

    cluster: Cluster
    looks: dict[str, Look]
    nodes: list[Node] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    workloads: list[Workload] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    sick: dict[str, Pod] = field(default_factory=dict)  # by app: the pod to look at
    described: dict[str, Look] = field(default_factory=dict)  # by app

    def cite(self, kind: str, *words: str) -> tuple[Evidence, ...]:
        """A line of one of the first lists, as evidence."""
        return self.looks[kind].cite(*words) if kind in self.looks else ()

    @property
    def apps(self) -> list[str]:
        """The names of everything that runs here."""
        return list(dict.fromkeys([w.name for w in self.workloads] + [p.app for p in self.pods]))

    @property
    def lost_nodes(self) -> list[Node]:
        """Nodes that are not ready."""
        return [node for node in self.nodes if not node.ready]

    def pods_of(self, app: str) -> list[Pod]:
        """The pods of an app."""
        return [pod for pod in self.pods if pod.app == app]

    def app_of(self, service: Service) -> str:
        """The app a service means: by its name, else by the value of its selector."""
        apps = self.apps
        near = sorted((a for a in apps if service.name.startswith(f"{a}-")), key=len, reverse=True)
        named = [value for value in service.selector.values() if value in apps]
        return next((a for a in [service.name, *named, *near] if a in apps), service.name)


async def look_around(cluster: Cluster) -> Scene:
    """The first lists, and a description of one sick pod for each app that has any."""
    kinds = {
        "pods": cluster.get("pods", wide=True),
        "deployments": cluster.get("deployments"),
        "services": cluster.get("services", wide=True),
        "endpoints": cluster.get("endpoints"),
        "nodes": cluster.get_everywhere("nodes", labels=True),
    }
    looks = dict(zip(kinds, await asyncio.gather(*kinds.values()), strict=True))
    scene = Scene(cluster, looks)
    roles = Counter(row["ROLES"] for row in looks["nodes"].rows)
    scene.nodes = [_node(row, roles) for row in looks["nodes"].rows]
    scene.workloads = _workloads(looks["deployments"], "deployments")
    if stateful := _stateful(scene, looks):
        looks["statefulsets"] = await cluster.get("statefulsets")
        scene.workloads += _workloads(looks["statefulsets"], "statefulsets")
        scene.cluster.unseen += [] if looks["statefulsets"].seen else [f"stateful sets behind {stateful}"]
    names = sorted((w.name for w in scene.workloads), key=len, reverse=True)
    scene.pods = [_pod(row, names) for row in looks["pods"].rows]
    backends = {row["NAME"]: row for row in looks["endpoints"].rows}
    known = looks["endpoints"].seen
    scene.services = [_service(row, backends, known) for row in looks["services"].rows]
    await _describe(scene)
    return scene


def _stateful(scene: Scene, looks: dict[str, Look]) -> str:
    """A pod that no deployment explains, or a service behind which there is neither; "" if none."""
    names = [w.name for w in scene.workloads]
    pods = [row["NAME"] for row in looks["pods"].rows]
    for pod in pods:
        if re.search(r"-\d+$", pod) and not any(pod.startswith(f"{name}-") for name in names):
            return pod
    for row in looks["services"].rows:
        known = [row["NAME"], *reading.labels(row["SELECTOR"]).values()]
        if row["SELECTOR"] not in ("", "<none>") and not any(
            thing == name or thing.startswith(f"{name}-") for name in known for thing in [*names, *pods]
        ):
            return row["NAME"]
    return ""


async def _describe(scene: Scene) -> None:
    lost = {node.name for node in scene.lost_nodes}
    for pod in sorted(scene.pods, key=lambda p: (p.ready, p.status == "Running", -p.restarts)):
        if pod.sick and pod.node not in lost:
            scene.sick.setdefault(pod.app, pod)
    chosen = sorted(scene.sick.items(), key=lambda pair: _telling(scene, pair[0], pair[1]))[:MOST_DESCRIBED]
    looks = await asyncio.gather(*(scene.cluster.describe("pods", pod.name) for _, pod in chosen))
    scene.described = {app: look for (app, _), look in zip(chosen, looks, strict=True) if look.seen}


def _telling(scene: Scene, app: str, pod: Pod) -> tuple[bool, bool]:
    """Where many are sick, first those whose state names a cause of its own, then what others store with."""
    stores = bool(STORES.search(app)) or any(
        w.name == app and w.kind == "statefulsets" for w in scene.workloads
    )
    return pod.status in VAGUE, not stores


def _node(row: Row, all_roles: Counter[str]) -> Node:
    """A node; one that is cordoned and has a role of its own is taken for the control plane too."""
    named = reading.labels(row["LABELS"])
    roles = row["ROLES"].lower() + " " + " ".join(k for k in named if "node-role" in k)
    roles += " " + named.get("kubernetes.io/role", "")
    states = row["STATUS"].split(",")
    lone = all_roles[row["ROLES"]] == 1 and row["ROLES"] not in ("", "<none>") and len(all_roles) == 2
    return Node(
        name=row["NAME"],
        ready="Ready" in states,
        cordoned="SchedulingDisabled" in states,
        control_plane=any(word in roles for word in _CONTROL) or (lone and "SchedulingDisabled" in states),
        labels={"kubernetes.io/hostname": row["NAME"], **named},
        row=row,
    )


def _pod(row: Row, names: list[str]) -> Pod:
    name = row["NAME"]
    app = next((n for n in names if name.startswith(f"{n}-")), "") or _HASHES.sub("", name) or name
    up, _, total = row["READY"].partition("/")
    restarts = re.match(r"\d+", row["RESTARTS"])
    ago = re.search(r"\((.*)ago\)", row["RESTARTS"])
    node = row["NODE"]
    return Pod(
        name=name,
        app=app,
        ready=up == total and up != "0",
        status=row["STATUS"],
        restarts=int(restarts[0]) if restarts else 0,
        restarted=reading.age(ago[1]) if ago else None,
        node="" if node.startswith("<none") else node,
        ip=row["IP"],
        row=row,
    )


def _workloads(look: Look, kind: str) -> list[Workload]:
    found = []
    for row in look.rows:
        have, _, want = row["READY"].partition("/")
        if want.isdigit():
            found.append(Workload(row["NAME"], kind, int(have or 0), int(want), row))
    return found


def _service(row: Row, backends: dict[str, Row], known: bool) -> Service:
    ports = re.findall(r"(\d+)(?::\d+)?/(TCP|UDP|SCTP)", row["PORT(S)"])
    behind = backends.get(row["NAME"])
    said = behind["ENDPOINTS"] if behind else ("<none>" if known else None)
    return Service(
        name=row["NAME"],
        ports=tuple(Port(int(number), protocol) for number, protocol in ports),
        selector=reading.labels(row["SELECTOR"]),
        row=row,
        backends="" if said and reading.age(said) and ":" not in said and "." not in said else said,
        backend_row=behind,
    )
