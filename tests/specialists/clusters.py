"""A small made-up cluster, in the words of kubectl: healthy as it stands; tests break it and record it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specialists.types import Scope, Task

NAMESPACE = "library"
LINE = "\n"
PORTS = {"web": 8000, "loans": 7001, "catalog": 7002, "members": 7003, "members-mysql": 3306}
CALLS = {"web": ["loans", "catalog"], "loans": ["members"], "members": ["members-mysql"]}


@dataclass
class Pod:
    """A pod, as its line and its description say it."""

    ready: str = "1/1"
    status: str = "Running"
    restarts: str = "0"
    node: str = "alpha"
    events: list[str] = field(default_factory=list)  # "Warning  Failed  2s (x3 over 30s)  kubelet  words"
    state: str = "State:          Running"
    last: str = ""  # "Reason: OOMKilled / Exit Code: 137"
    probes: dict[str, str] = field(default_factory=dict)
    sidecar: str = ""  # the text of a second container
    mounts: str = ""
    selector: str = "<none>"
    labels: str = ""


@dataclass
class Cluster:
    """What is in it, and calls whose answers are not made from that."""

    pods: dict[str, Pod] = field(default_factory=lambda: {app: Pod() for app in PORTS})
    desired: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PORTS, 1))
    services: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {app: {"port": port, "target": port} for app, port in PORTS.items()}
    )
    nodes: dict[str, tuple[str, str, str]] = field(
        default_factory=lambda: {
            "cp-1": ("Ready", "control-plane", ""),
            "alpha": ("Ready", "<none>", "disk=ssd"),
            "beta": ("Ready", "<none>", "disk=ssd"),
        }
    )
    env: dict[str, dict[str, str]] = field(
        default_factory=lambda: {
            app: {
                f"{callee.upper().replace('-', '_')}_ADDR": f"{callee}:{PORTS[callee]}" for callee in callees
            }
            for app, callees in CALLS.items()
        }
    )
    spec: dict[str, str] = field(default_factory=dict)  # lines of a pod's spec, by app
    documents: dict[str, str] = field(default_factory=dict)  # further documents of a manifest, by app
    more: dict[str, str] = field(default_factory=dict)  # further lines of a container in a manifest, by app
    before: dict[str, str] = field(default_factory=dict)  # init containers in a description, by app
    logs: dict[str, str] = field(default_factory=dict)
    stopped: set[tuple[str, str]] = field(default_factory=set)  # (node, service)
    alerts: dict[str, Any] = field(default_factory=dict)
    other: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)

    def write(self, directory: Path) -> Path:
        """The cluster as a recording."""
        (directory / "answers").mkdir(parents=True)
        about = {"format": "pointsman-recording/1", "id": "library", "clock": "2026-05-04T10:00:00Z"}
        (directory / "recording.json").write_text(json.dumps(about))
        lines = [json.dumps({"tool": t, "arguments": a, "text": x}) for t, a, x in self.answers()]
        (directory / "answers" / "kubernetes.ndjson").write_text("\n".join(lines))
        return directory

    def answers(self) -> list[tuple[str, dict[str, Any], str]]:
        """Every call that can be made here, and its answer."""
        taken = [(tool, arguments) for tool, arguments, _ in self.other]
        made = [*self._lists(), *self._details(), ("alerts", {}, json.dumps(self.alerts, indent=1))]
        return self.other + [answer for answer in made if (answer[0], answer[1]) not in taken]

    def _lists(self) -> list[tuple[str, dict[str, Any], str]]:
        pods = [
            (
                self.pod(app),
                p.ready,
                p.status,
                p.restarts,
                "5m",
                self.ip(app) if p.node else "<none>",
                p.node or "<none>",
            )
            for app, p in self.pods.items()
        ]
        worn = [
            (*row[:5], self.pods[app].labels or f"app={app}")
            for app, row in zip(self.pods, pods, strict=True)
        ]
        up = {app: int(p.ready[0] == p.ready[-1] != "0") for app, p in self.pods.items()}
        workloads = [
            (app, f"{up.get(app, 0)}/{want}", str(int(app in self.pods)), str(up.get(app, 0)), "5m")
            for app, want in self.desired.items()
        ]
        services = [
            (
                n,
                "ClusterIP",
                "10.0.0.9",
                "<none>",
                f"{s['port']}/{s.get('protocol', 'TCP')}",
                "5m",
                s.get("selector", f"app={n}"),
            )
            for n, s in self.services.items()
        ]
        behind = [(name, self._behind(name, one, up), "5m") for name, one in self.services.items()]
        nodes = [
            (n, s, roles, "90d", "v1.31.2", labels or "<none>")
            for n, (s, roles, labels) in self.nodes.items()
        ]
        mine = {"namespace": NAMESPACE}
        return [
            (
                "get",
                {"resource_type": "pods", **mine, "wide": True},
                table("NAME READY STATUS RESTARTS AGE IP NODE", pods),
            ),
            (
                "get",
                {"resource_type": "pods", **mine, "labels": True},
                table("NAME READY STATUS RESTARTS AGE LABELS", worn),
            ),
            (
                "get",
                {"resource_type": "deployments", **mine},
                table("NAME READY UP-TO-DATE AVAILABLE AGE", workloads),
            ),
            (
                "get",
                {"resource_type": "services", **mine, "wide": True},
                table("NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR", services),
            ),
            ("get", {"resource_type": "endpoints", **mine}, table("NAME ENDPOINTS AGE", behind)),
            (
                "get",
                {"resource_type": "nodes", "labels": True},
                table("NAME STATUS ROLES AGE VERSION LABELS", nodes),
            ),
        ]

    def _details(self) -> list[tuple[str, dict[str, Any], str]]:
        found: list[tuple[str, dict[str, Any], str]] = []
        mine = {"namespace": NAMESPACE}
        for app in self.pods:
            found.append(
                ("describe", {"resource_type": "pods", "name": self.pod(app), **mine}, self._described(app))
            )
        for app in dict.fromkeys([*PORTS, *self.pods]):
            found.append(("manifest", {"app": app}, self._manifest(app)))
            found.append(("logs", {**mine, "service": app, "errors_only": True}, self.logs.get(app, "")))
            tree = "\n".join(f"├── {callee}" for callee in CALLS.get(app, []))
            callers = ", ".join(c for c, callees in CALLS.items() if app in callees) or "(User Traffic)"
            text = (
                f"[Service]: {app}\n[Upstream (Called By)]: {callers}\n[Downstream (Calls)]:\n{app}\n{tree}"
            )
            found.append(("dependencies", {"service": app}, text))
        for name, one in self.services.items():
            target = f"{one['target']}/{one.get('protocol', 'TCP')}"
            text = f"Name: {name}\nPort:        {one['port']}/TCP\nTargetPort:  {target}\n"
            found.append(("describe", {"resource_type": "services", "name": name, **mine}, text))
            well = (
                "Connection Failed"
                if one["target"] != PORTS.get(name)
                else f"{name} open\nConnection Succeeded"
            )
            found.append(("connectivity", {**mine, "service": name, "port": one["port"]}, well))
        for node in self.nodes:
            for service in ("kubelet", "containerd", "kube-proxy", "kube-scheduler"):
                state = "inactive (dead)" if (node, service) in self.stopped else "active (running)"
                text = f"Service: {service}\nNode: {node}\n     Active: {state} since Mon 2026-05-04\n"
                found.append(("node_service", {"node": node, "service": service}, text))
        return found

    def _behind(self, name: str, service: dict[str, Any], up: dict[str, int]) -> str:
        if service.get("selector", f"app={name}") != f"app={name}" or not isinstance(service["target"], int):
            return "<none>"
        if not self.pods.get(name) or not self.pods[name].node:
            return "<none>"
        return f"{self.ip(name)}:{service['target']}" if up.get(name) else ""

    def _described(self, app: str) -> str:
        pod = self.pods[app]
        probes = "".join(f"    {kind}:  {text}\n" for kind, text in pod.probes.items())
        env = "".join(f"      {key}:  {value}\n" for key, value in self.env.get(app, {}).items())
        last = f"    Last State:  Terminated\n{_under(pod.last)}" if pod.last else ""
        count = pod.restarts.split()[0]
        events = "".join(f"  {line}\n" for line in pod.events)
        return (
            f"Name:  {self.pod(app)}\nNamespace:  {NAMESPACE}\nNode:  {pod.node or '<none>'}\n"
            f"{f'Init Containers:{LINE}{self.before[app]}' if app in self.before else ''}Containers:\n"
            f"  {app}:\n    Image:  registry.example/{app}:1.4\n    Port:  {PORTS.get(app, 9000)}/TCP\n"
            f"    {pod.state}\n{last}    Ready:  {pod.ready == '1/1'}\n    Restart Count:  {count}\n"
            "    Limits:\n      memory:  64Mi\n"
            f"{probes}    Environment:\n{env}    Mounts:\n      {pod.mounts}\n{pod.sidecar}"
            f"Conditions:\n  Type  Status\nNode-Selectors:  {pod.selector}\nTolerations:  <none>\n"
            + (
                f"Events:\n  Type  Reason  Age  From  Message\n  ----  ------  ----  ----  -------\n{events}"
                if events
                else "Events:  <none>\n"
            )
        )

    def _manifest(self, app: str) -> str:
        env = "".join(
            f'        - name: {k}\n          value: "{v}"\n' for k, v in self.env.get(app, {}).items()
        )
        return (
            f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {app}\n"
            f"spec:\n  template:\n    metadata:\n      labels:\n        app: {app}\n"
            f"    spec:\n{self.spec.get(app, '')}      containers:\n"
            f"      - name: {app}\n        image: registry.example/{app}:1.4\n        ports:\n"
            f"        - containerPort: {PORTS.get(app, 9000)}\n{self.more.get(app, '')}"
            f"{'        env:' if env else ''}\n{env}---\n"
            f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {app}\n"
            f"spec:\n  ports:\n  - port: {PORTS.get(app, 9000)}\n"
            + (f"---\n{self.documents[app]}" if app in self.documents else "")
        )

    @staticmethod
    def pod(app: str) -> str:
        """The name of an app's pod."""
        return f"{app}-6c9f7d5b4-k2x{len(app)}z"

    @staticmethod
    def ip(app: str) -> str:
        """The address of an app's pod."""
        return (
            f"10.1.0.{list(PORTS).index(app) + 10}" if app in PORTS else f"10.2.0.{sum(app.encode()) % 250}"
        )


def table(heads: str, rows: list[tuple[str, ...]]) -> str:
    """Rows as kubectl prints them."""
    lines = [tuple(heads.split()), *rows]
    widths = [max(len(line[i]) for line in lines) + 3 for i in range(len(lines[0]))]
    return "\n".join(
        "".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def task(namespace: str = NAMESPACE) -> Task:
    """What the specialist is asked."""
    return Task(
        id="t-1",
        case="c-1",
        specialist="kubernetes",
        question="the library does not work",
        scope=Scope(namespace=namespace),
    )


def _under(text: str) -> str:
    return "".join(f"      {part.strip()}\n" for part in text.split("/"))
