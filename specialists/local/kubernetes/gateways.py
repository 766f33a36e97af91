"""Gateways: routes that lead to backends which do not exist or are not the ones their paths name."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specialists.local.kubernetes.addresses import MOST, plain, slip
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.reading import parsed
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.settings import Environment, environments
from specialists.local.kubernetes.suspects import Suspect
from specialists.types import Evidence

ROUTING_KINDS = ("Ingress", "VirtualService", "HTTPRoute", "GRPCRoute", "ConfigMap", "IngressRoute")
TARGET = re.compile(
    r"(?:https?|lb|grpc|dubbo)://([a-z0-9][-a-z0-9.]*)(?::(\d+))?|proxy_pass\s+https?://([-\w.]+)"
)
ROUTE_URI = re.compile(r"^(.*ROUTES?_?\[?\d+\]?_)URI$", re.I)  # how an environment spells a list of routes
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
        known = list(routes(look))
        if known:
            names = Names([service.name for service in scene.services], known)
            found += [suspect for route in known for suspect in _judge(scene, app, route, look, names)]
    return found


class Names:
    """The names of services as paths write them: without what all of them share."""

    def __init__(self, services: list[str], known: list[Route]) -> None:
        heads = Counter(name.split("-")[0] for name in services if "-" in name)
        head, times = heads.most_common(1)[0] if heads else ("", 0)
        self._shared = f"{head}-" if times >= 4 and times >= len(services) / 3 else ""
        self.services = services
        self.led_to = {route.host.split(".")[0] for route in known}
        named = [self.words(route) & {self.bare(route.host.split(".")[0])} for route in known]
        self.strict = sum(map(bool, named)) >= max(2, 0.6 * len(known))  # paths carry their service's name

    def bare(self, name: str) -> str:
        """A service's name, or a word of a path, without prefix and endings."""
        short = name.strip("*").lower().removeprefix(self._shared)
        whole = plain(re.sub(r"-?(?:service|svc|server|api)$", "", short))
        return re.sub(r"(?:service|svc)$", "", whole)

    def words(self, route: Route) -> set[str]:
        """The parts of a route's path that are long enough to be names."""
        return {self.bare(word) for word in route.path.split("/") if len(self.bare(word)) >= 4}


def routes(look: Look) -> Iterator[Route]:
    """The routes that a manifest spells out."""
    for variables in environments(look):
        yield from _spelled(variables)
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


def _spelled(variables: Environment) -> Iterator[Route]:
    """Routes in an environment: a target, and the predicates of the same number."""
    for key, setting in variables.items():
        numbered = ROUTE_URI.match(key)
        target = TARGET.search(setting.value) if numbered else None
        if numbered is None or target is None:
            continue
        beside = " ".join(s.value for k, s in variables.items() if k.startswith(f"{numbered[1]}PRED"))
        path = PATH.search(beside)
        yield Route(path[1] if path else "", target[1].lower(), target[2] or "", setting.written)


def _textual(text: str) -> Iterator[Route]:
    """Routes in configuration text: as its lists say, else a target and the path nearest to it."""
    listed = [route for document in parsed(text) for route in _listed(document)]
    if listed:
        yield from listed
        return
    paths = [(found.start(), found[1]) for found in PATH.finditer(text)]
    for found in TARGET.finditer(text):
        above = [pair for pair in paths if pair[0] < found.start()] if "proxy_pass" in text else paths
        near = min(above, key=lambda pair: abs(pair[0] - found.start()), default=(0, ""))
        yield Route(near[1], (found[1] or found[3] or "").lower(), found[2] or "", found[0])


def _listed(node: Any) -> Iterator[Route]:
    """Routes in a list of targets with predicates, as gateways of Spring Cloud are told them."""
    if isinstance(node, list):
        for item in node:
            yield from _listed(item)
    if not isinstance(node, dict):
        return
    target = TARGET.search(str(node.get("uri", "")))
    if target and node.get("predicates"):
        path = re.search(r"(/[^\s\"',;{\]]*)", str(node["predicates"]))
        yield Route(path[1] if path else "", target[1].lower(), target[2] or "", target[0])
        return
    for value in node.values():
        yield from _listed(value)


def _judge(scene: Scene, app: str, route: Route, look: Look, known: Names) -> list[Suspect]:
    services = {service.name: service for service in scene.services}
    host = route.host.split(".")[0]
    evidence = look.cite(route.written) + (look.cite(route.path) if len(route.path) > 3 else ())
    if "." in route.host and host not in services and scene.cluster.namespace not in route.host:
        return []
    if host not in services:
        near = [name for name in services if slip(host, name)]
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
    return _other(app, route, host, known, evidence)


def _other(app: str, route: Route, host: str, known: Names, evidence: tuple[Evidence, ...]) -> list[Suspect]:
    """A path that carries the name of another service than the one it leads to."""
    words, own = known.words(route), known.bare(host)
    named = [name for name in known.services if known.bare(name) in words]
    if not named or host in named or set(named) & known.led_to:  # what has a route of its own lost none
        return []
    if not known.strict and any(word in own or own in word for word in words):
        return []
    because = f"{route.path} names {named[0]} and leads to {host}"
    return [Suspect("gateway_misroute", f"app/{app}", 0.85, evidence, because)]
