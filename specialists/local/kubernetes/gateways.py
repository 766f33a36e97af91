"""Gateways: routes that lead to backends which do not exist or are not the ones their paths name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specialists.local.kubernetes.addresses import MOST, _plain, _slip
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect

ROUTING_KINDS = ("Ingress", "VirtualService", "HTTPRoute", "GRPCRoute", "ConfigMap", "IngressRoute")
TARGET = re.compile(
    r"(?:https?|lb|grpc|dubbo)://([a-z0-9][-a-z0-9.]*)(?::(\d+))?|proxy_pass\s+https?://([-\w.]+)"
)
PATH = re.compile(r"(?:Path=|path:\s*|location\s+(?:\^?~\*?\s+)?|prefix:\s*)[\"']?(/[^\s\"',;{]*)")


@dataclass(frozen=True)
class Route:
    """A path and the backend it leads to."""

    path: str
    host: str
    port: str
    written: str


async def examine(scene: Scene) -> list[Suspect]:
    """Routes in the manifests of apps, against the services there are."""
    apps = scene.apps[:MOST]
    looks = await asyncio.gather(*(scene.cluster.manifest(app) for app in apps))
    found = []
    for app, look in zip(apps, looks, strict=True):
        for route in routes(look):
            found += _judge(scene, app, route, look)
    return found


def routes(look: Look) -> Iterator[Route]:
    """The routes that a manifest spells out."""
    for document in look.documents:
        if document.get("kind") not in ROUTING_KINDS:
            continue
        for path, host, port in _structured(document.get("spec")):
            yield Route(path, host, port, host)
        for text in (document.get("data") or {}).values() if isinstance(document.get("data"), dict) else ():
            yield from _textual(str(text))


def _structured(node: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Backends in an Ingress, a VirtualService or an HTTPRoute."""
    if isinstance(node, list):
        for item in node:
            yield from _structured(item, path)
    if not isinstance(node, dict):
        return
    matches = re.search(
        r"'(?:path|prefix|exact|value)': '(/[^']*)'", str(node.get("match") or node.get("matches"))
    )
    path = str(node["path"]) if isinstance(node.get("path"), str) else matches[1] if matches else path
    backend = node.get("service") or node.get("destination")
    if isinstance(backend, dict) and (backend.get("name") or backend.get("host")):
        port = backend.get("port") or {}
        number = port.get("number", "") if isinstance(port, dict) else port
        yield path, str(backend.get("name") or backend.get("host")), str(number)
    for ref in node.get("backendRefs") or []:
        yield path, str(ref.get("name")), str(ref.get("port", ""))
    for key, value in node.items():
        if key != "backendRefs":
            yield from _structured(value, path)


def _textual(text: str) -> Iterator[Route]:
    """Routes in configuration text: a target and the nearest path before or after it."""
    paths = [(found.start(), found[1]) for found in PATH.finditer(text)]
    for found in TARGET.finditer(text):
        near = min(paths, key=lambda pair: abs(pair[0] - found.start()), default=(0, ""))
        yield Route(near[1], (found[1] or found[3] or "").lower(), found[2] or "", found[0])


def _judge(scene: Scene, app: str, route: Route, look: Look) -> list[Suspect]:
    services = {service.name: service for service in scene.services}
    host = route.host.split(".")[0]
    evidence = look.cite(route.written) + (look.cite(route.path) if len(route.path) > 3 else ())
    if "." in route.host and host not in services and scene.cluster.namespace not in route.host:
        return []
    if host not in services:
        near = [name for name in services if _slip(host, name)]
        because = f"{route.path or 'a route'} leads to {host}, and there is no such service"
        confidence = 0.85 if near else 0.5
        return [Suspect("gateway_misroute", f"app/{app}", confidence, evidence, because)]
    numbers = {str(port.number) for port in services[host].ports}
    if route.port and route.port.isdigit() and numbers and route.port not in numbers:
        because = (
            f"{route.path or 'a route'} leads to port {route.port} of {host}, which has {', '.join(numbers)}"
        )
        evidence += scene.cite("services", services[host].row.line)
        return [Suspect("gateway_misroute", f"app/{app}", 0.88, evidence, because)]
    return _other(app, route, host, list(services), evidence)


def _other(app: str, route: Route, host: str, names: list[str], evidence: tuple) -> list[Suspect]:
    """A path that carries the name of another service than the one it leads to."""
    words = {_bare(word) for word in route.path.split("/") if len(_bare(word)) >= 4}
    named = [name for name in names if _bare(name) in words]
    if not named or host in named or any(word in _bare(host) or _bare(host) in word for word in words):
        return []
    because = f"{route.path} names {named[0]} and leads to {host}"
    return [Suspect("gateway_misroute", f"app/{app}", 0.85, evidence, because)]


def _bare(name: str) -> str:
    """A service's name without the parts that all of them share."""
    plain = _plain(re.sub(r"^ts-|-?(?:service|svc|server|api)$", "", name.strip("*").lower()))
    return re.sub(r"(?:service|svc)$", "", plain)
