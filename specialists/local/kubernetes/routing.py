"""Routing: services that select nothing, send to a port nobody listens on, or were never created."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from specialists.local.kubernetes import admission
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.reading import labels
from specialists.local.kubernetes.scene import Scene, Service
from specialists.local.kubernetes.suspects import Suspect

MOST = 12


async def examine(scene: Scene) -> list[Suspect]:
    """What services say of themselves against the pods they are for."""
    lists = await asyncio.gather(_selectors(scene), _ports(scene), _never_created(scene))
    return [suspect for found in lists for suspect in found]


async def _selectors(scene: Scene) -> list[Suspect]:
    """Services whose selector finds no pod, or finds another app's pods."""
    ready = {pod.app for pod in scene.pods if pod.ready}
    empty = [s for s in scene.services if s.selector and s.backends == "<none>" and scene.app_of(s) in ready]
    found = _strangers(scene)
    if not empty:
        return found
    look = await scene.cluster.get("pods", labels=True)
    worn = {row["NAME"]: labels(row["LABELS"]) for row in look.rows}
    for service in empty:
        if any(service.selector.items() <= own.items() for own in worn.values()):
            continue
        app = scene.app_of(service)
        pod = next(pod for pod in scene.pods_of(app) if pod.ready)
        evidence = scene.cite("services", service.row.line)
        evidence += scene.cite("endpoints", service.backend_row.line) if service.backend_row else ()
        evidence += look.cite(pod.name)
        wanted = ",".join(f"{k}={v}" for k, v in service.selector.items())
        because = f"it selects {wanted}, which no pod carries, while {pod.name} is ready"
        found.append(Suspect("service_selector_mismatch", f"app/{app}", 0.97, evidence, because))
    return found


def _strangers(scene: Scene) -> list[Suspect]:
    """Services that carry the name of one app and lead to the pods of another."""
    owners = {pod.ip: pod.app for pod in scene.pods if pod.ip and pod.ip[0].isdigit()}
    found = []
    for service in scene.services:
        if service.name not in scene.apps or not service.backends:
            continue
        addresses = re.findall(r"(\d+\.\d+\.\d+\.\d+)", service.backends)
        behind = {owners[address] for address in addresses if address in owners}
        if behind and service.name not in behind and scene.pods_of(service.name):
            evidence = scene.cite("services", service.row.line)
            evidence += scene.cite("endpoints", service.backend_row.line) if service.backend_row else ()
            because = f"it leads to the pods of {', '.join(sorted(behind))}"
            found.append(Suspect("service_selector_mismatch", f"app/{service.name}", 0.85, evidence, because))
    return found


async def _ports(scene: Scene) -> list[Suspect]:
    """Services whose protocol or target port is not one their pods have.

    A service that names a port no container has gets no endpoints, like one that selects nothing.
    """
    ready = {pod.app for pod in scene.pods if pod.ready}
    odd = [s for s in scene.services if s.backends and _odd(s)]
    odd += [s for s in scene.services if s.selector and s.backends == "<none>" and scene.app_of(s) in ready]
    found = await asyncio.gather(*(_port(scene, service) for service in odd[:MOST]))
    return [suspect for some in found for suspect in some]


def _odd(service: Service) -> bool:
    """Whether the list alone leaves a doubt about the service's ports."""
    targets = re.findall(r":(\d+)", service.backends or "")
    named = bool(re.search(r"\d+\.\d+\.\d+\.\d+(?!\.?\d*:)(?:,|$|\s)", service.backends or ""))
    numbers = {str(port.number) for port in service.ports}
    return named or bool(set(targets) - numbers) or any(port.protocol != "TCP" for port in service.ports)


def _selects(service: Service, documents: list[dict[str, Any]], app: str) -> bool:
    """Whether a service selects the pods of an app, as the app's manifest labels them."""
    for document in documents:
        if _name(document) == app and isinstance(document.get("spec"), dict):
            template = document["spec"].get("template") or {}
            worn = (template.get("metadata") or {}).get("labels") or {}
            return service.selector.items() <= {str(k): str(v) for k, v in worn.items()}.items()
    return True


async def _port(scene: Scene, service: Service) -> list[Suspect]:
    app = scene.app_of(service)
    applied, look = await asyncio.gather(
        scene.cluster.manifest(app), scene.cluster.describe("services", service.name)
    )
    listening = listens(applied, app)
    if not listening or not _selects(service, applied.documents, app):
        return []
    rows = scene.cite("services", service.row.line)
    rows += scene.cite("endpoints", service.backend_row.line) if service.backend_row else ()
    for port, protocol in re.findall(r"(?m)^TargetPort:\s+([\w-]+)/(\w+)", look.text):
        spoken = {proto for number, proto in listening if port in (number, "")} or {p for _, p in listening}
        if port in {number for number, _ in listening} and protocol not in spoken:
            because = f"it offers {port}/{protocol}, its pods speak {'/'.join(sorted(spoken))}"
            evidence = look.cite("TargetPort:", protocol) + applied.cite("containerPort") + rows
            return [Suspect("service_protocol_mismatch", f"app/{app}", 0.96, evidence, because)]
        if port not in {number for number, _ in listening}:
            because = f"it sends to {port}, its pods have {', '.join(sorted(n for n, _ in listening))}"
            evidence = look.cite("TargetPort:", port) + applied.cite("containerPort") + rows
            return await _confirmed(scene, service, app, evidence, because)
    return []


async def _confirmed(
    scene: Scene, service: Service, app: str, evidence: tuple, because: str
) -> list[Suspect]:
    """Containers may listen on ports they do not declare, so try the service."""
    tried = await scene.cluster.connectivity(service.name, service.ports[0].number) if service.ports else None
    if tried and tried.seen and "Connection Succeeded" in tried.text and "Failed" not in tried.text:
        return []
    confidence = 0.97 if tried and "Failed" in tried.text else 0.85
    evidence += tried.cite("Failed") if tried else ()
    return [Suspect("service_port_mapping_mismatch", f"app/{app}", confidence, evidence, because)]


def listens(applied: Look, app: str) -> set[tuple[str, str]]:
    """Ports (by number and by name, with protocol) that an app's containers have, as their manifest says."""
    found: set[tuple[str, str]] = set()
    for document in applied.documents:
        if str((document.get("metadata") or {}).get("name")) != app:
            continue
        for container in _containers(document):
            for port in container.get("ports") or []:
                protocol = str(port.get("protocol") or "TCP")
                found |= {(str(port[key]), protocol) for key in ("containerPort", "name") if port.get(key)}
            for variable in container.get("env") or []:
                value = str(variable.get("value", ""))
                if variable.get("name") in ("PORT", "SERVER_PORT") and value.isdigit():
                    found.add((value, "TCP"))
    return found


def _containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        return []
    inner = (spec.get("template") or {}).get("spec") or {}
    return [c for c in inner.get("containers") or [] if isinstance(c, dict)]


async def _never_created(scene: Scene) -> list[Suspect]:
    """Apps that declare a service which does not exist."""
    served = {scene.app_of(service) for service in scene.services}
    unserved = [app for app in scene.apps if app not in served and any(p.ready for p in scene.pods_of(app))]
    if not unserved or not scene.looks["services"].seen:
        return []
    applied = await asyncio.gather(*(scene.cluster.manifest(app) for app in unserved[:MOST]))
    found = []
    existing = {service.name for service in scene.services}
    for app, look in zip(unserved, applied, strict=False):
        declared = [_name(doc) for doc in look.documents if doc.get("kind") == "Service"]
        missing = [name for name in declared if name and name not in existing]
        if missing:
            found += await _refused_service(scene, app, missing[0], look)
    return found


async def _refused_service(scene: Scene, app: str, name: str, applied: Look) -> list[Suspect]:
    quotas = await scene.cluster.get("resourcequota")
    if line := admission.full(quotas, r"services"):
        because = f"the service {name} was declared and does not exist, and the quota for services is used up"
        label, space = "namespace_service_quota_exceeded", f"namespace/{scene.cluster.namespace}"
        return [Suspect(label, space, 0.96, line + applied.cite("kind: Service"), because)]
    because = f"the service {name} was declared for {app} and does not exist"
    evidence = applied.cite("kind: Service")
    return [Suspect("service_dns_resolution_failure", f"app/{app}", 0.6, evidence, because)]


def _name(document: dict[str, Any]) -> str:
    return str((document.get("metadata") or {}).get("name", ""))
