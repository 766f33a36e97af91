"""Addresses: what apps are told about where the others are, against where they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.images import alike
from specialists.local.kubernetes.scene import Scene, Service
from specialists.local.kubernetes.settings import Environment, environments
from specialists.local.kubernetes.suspects import Suspect

MOST = 60
VALUE = re.compile(
    r"^(?:[\w+:]+://)?(?:[^@/]+@)?([a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)(?::(\d{1,5}))?(?:[/?].*)?$", re.I
)
DIALED = re.compile(r"\b(?:tcp|unix)\(([^()]+)\)")  # how Go's drivers write an address
KEY = re.compile(
    r"ADDR|ADDRESS|HOST|URL|URI|ENDPOINT|SERVER|SERVICE|BROKER|DSN|UPSTREAM|BACKEND|TARGET", re.I
)
DATABASE = re.compile(r"mysql|mariadb|jdbc", re.I)
ENDINGS = re.compile(r"_?(?:SERVICE)?_?(?:ADDR|ADDRESS|HOST|HOSTNAME|URL|URI|ENDPOINT|NAME|PORT)+$", re.I)


@dataclass(frozen=True)
class Address:
    """Where an app believes another one to be."""

    app: str
    key: str
    host: str
    port: str
    written: str


async def examine(scene: Scene) -> list[Suspect]:
    """Addresses in the environment of apps at which no service answers."""
    apps = scene.apps[:MOST]
    looks = await asyncio.gather(*(scene.cluster.manifest(app) for app in apps))
    found: list[Suspect] = []
    for app, look in zip(apps, looks, strict=True):
        addresses = list(read(app, look))
        for address in addresses:
            found += _judge(scene, address, addresses, look)
    return _routed(await _heard(scene, found))


def _routed(found: list[Suspect]) -> list[Suspect]:
    """An address in a gateway's configuration is one of its routes, too."""
    also: list[Suspect] = []
    for suspect in found:
        sure = "ROUTE" in suspect.because.split()[0].upper()
        if sure or "gateway" in suspect.name:
            confidence = suspect.confidence + 0.02 if sure else suspect.confidence / 2
            also.append(replace(suspect, label="gateway_misroute", confidence=confidence))
    return found + also


def read(app: str, look: Look) -> Iterator[Address]:
    """The addresses in an app's environment."""
    for variables in environments(look):
        for key, setting in variables.items():
            matched = VALUE.match(DIALED.sub(r"\1", setting.value))
            if not matched or not re.search(r"[a-z]", matched[1], re.I):
                continue
            port = matched[2] or ""
            if not port and KEY.search(key):
                port = _port_beside(key, variables)
            if port or KEY.search(key):
                yield Address(app, key, matched[1].lower(), port, setting.written)


def _port_beside(key: str, variables: Environment) -> str:
    """The port that another variable of the same stem gives (DB_HOST, DB_PORT)."""
    stem = re.sub(r"_?(?:HOST|HOSTNAME|ADDR|ADDRESS|SERVER|URL)$", "", key, flags=re.I)
    beside = variables.get(f"{stem}_PORT")
    return beside.value if beside and beside.value.isdigit() else ""


def _judge(scene: Scene, address: Address, all_of_app: list[Address], look: Look) -> list[Suspect]:
    services = {service.name: service for service in scene.services}
    first, *rest = address.host.split(".")
    if rest and rest[0] != scene.cluster.namespace and rest[:1] != ["svc"]:
        return _elsewhere(address, first, rest, services, look)
    service = services.get(first)
    if service is not None:
        return _wrong_port(scene, address, service, look) or _wrong_service(address, services, look)
    return _nobody(scene, address, services, all_of_app, look)


def _elsewhere(
    address: Address, first: str, rest: list[str], services: dict[str, Service], look: Look
) -> list[Suspect]:
    """A name outside the namespace; doubtful if it is a cluster name of a service that is here."""
    if "svc" not in rest or first not in services:
        return []
    because = f"{address.key} looks for {first} under {'.'.join(rest)}, and it is in this namespace"
    evidence = _written(look, address)
    return [
        Suspect("service_env_var_address_mismatch", f"app/{address.app}", 0.6, evidence, because),
        Suspect("service_dns_resolution_failure", f"app/{address.app}", 0.4, evidence, because),
    ]


def _wrong_port(scene: Scene, address: Address, service: Service, look: Look) -> list[Suspect]:
    numbers = {str(port.number) for port in service.ports}
    if not address.port or not numbers or address.port in numbers or _headless(service, address.port):
        return []
    mysql = DATABASE.search(f"{address.key} {address.host}") or "3306" in numbers
    label = "mysql_invalid_port" if mysql else "service_env_var_address_mismatch"
    evidence = _written(look, address) + scene.cite("services", service.row.line)
    because = (
        f"{address.key} says {address.host}:{address.port}, the service has {', '.join(sorted(numbers))}"
    )
    return [Suspect(label, f"app/{address.app}", 0.95, evidence, because)]


def _headless(service: Service, port: str) -> bool:
    """A headless service leads to the pods themselves, whatever ports it lists."""
    return service.row["CLUSTER-IP"] == "None" and f":{port}" in (service.backends or "")


def _wrong_service(address: Address, services: dict[str, Service], look: Look) -> list[Suspect]:
    """A variable that is named after one service and holds another."""
    meant = plain(ENDINGS.sub("", address.key))
    names = {plain(name): name for name in services}
    whole = plain(ENDINGS.sub("", address.key) + "SERVICE")
    other = names.get(meant) or names.get(whole)
    if len(meant) < 4 or not other or other == address.host.split(".")[0] or meant in plain(address.host):
        return []
    because = f"{address.key} holds the address of {address.host} instead of {other}"
    evidence = _written(look, address)
    return [Suspect("service_env_var_address_mismatch", f"app/{address.app}", 0.8, evidence, because)]


def _nobody(
    scene: Scene, address: Address, services: dict[str, Service], others: list[Address], look: Look
) -> list[Suspect]:
    """An address of no service: a slip of the pen if it looks like a service nobody else names here."""
    if address.host in ("localhost", "0.0.0.0", "true", "false") or not (
        address.port or KEY.search(address.key)
    ):
        return []
    named = {one.host.split(".")[0] for one in others}
    near = [name for name in services if name not in named and slip(address.host, name)]
    evidence = _written(look, address) + (scene.cite("services", services[near[0]].row.line) if near else ())
    because = f"{address.key} names {address.host}, and there is no such service"
    because += f" (there is {near[0]})" if near else ""
    confidence = 0.94 if near else 0.2
    return [Suspect("service_env_var_address_mismatch", f"app/{address.app}", confidence, evidence, because)]


def slip(written: str, name: str) -> bool:
    """Whether one name is another with an addition, or with a letter or two changed."""
    longer, shorter = sorted((written, name), key=len, reverse=True)
    return (longer.startswith(shorter) and len(shorter) >= 4) or alike(written, name) >= 0.86


async def _heard(scene: Scene, found: list[Suspect]) -> list[Suspect]:
    """Addresses of nobody count only if the app complains, unless they are plainly a slip."""
    doubtful = [s for s in found if s.confidence < 0.5]
    sure = [s for s in found if s.confidence >= 0.5]
    if sure or not doubtful:
        return sure
    looks = await asyncio.gather(*(scene.cluster.logs(s.name) for s in doubtful))
    heard = []
    for suspect, look in zip(doubtful, looks, strict=True):
        host = re.search(r"names (\S+),", suspect.because)
        if host and host[1] in look.text:
            evidence = suspect.evidence + look.cite(host[1])
            heard.append(Suspect(suspect.label, suspect.object, 0.7, evidence, suspect.because))
    return heard


def _written(look: Look, address: Address) -> tuple:
    return look.cite(address.written) or look.cite(address.host)


def plain(name: str) -> str:
    """A name's letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
