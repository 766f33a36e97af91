"""Names: apps that cannot resolve services which exist."""

from __future__ import annotations

import asyncio
import re

from specialists.local.kubernetes.addresses import MOST
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.settings import pod_spec
from specialists.local.kubernetes.suspects import Suspect

UNRESOLVED = re.compile(
    r"lookup ([\w.-]+)(?: on \S+)?: (?:no such host|server misbehaving|i/o timeout|Temporary failure)"
    r"|getaddrinfo (?:ENOTFOUND|EAI_AGAIN) ([\w.-]+)|UnknownHostException:? ([\w.-]+)"
    r"|([\w.-]+): (?:Temporary failure in name resolution|Name or service not known)"
    r"|[Cc]ould not resolve host:? ([\w.-]+)|Failed to resolve '([\w.-]+)'"
)


async def examine(scene: Scene) -> list[Suspect]:
    """A cluster DNS that is down, and apps whose own DNS settings or network policies cut them off."""
    system, policies, applied = await asyncio.gather(
        scene.cluster.ask("get", resource_type="pods", namespace="kube-system", wide=True),
        scene.cluster.get("networkpolicies"),
        asyncio.gather(*(scene.cluster.manifest(app) for app in scene.apps[:MOST])),
    )
    found = []
    for app, look in zip(scene.apps, applied, strict=False):
        found += await _settings(scene, app, look)
        found += _aliases(scene, app, look)
    for row in policies.rows[:5]:
        found += await _policy(scene, row["NAME"])
    if not found:
        found = await _server(scene, system)
    return found


async def _settings(scene: Scene, app: str, look: Look) -> list[Suspect]:
    """DNS settings that keep an app from the cluster's names."""
    for document in look.documents:
        inner = pod_spec(document)
        policy, config = inner.get("dnsPolicy"), inner.get("dnsConfig") or {}
        alone = policy in ("Default", "None") and not inner.get("hostNetwork")
        if not alone:
            continue
        log = await scene.cluster.logs(app)
        complaint = _complaint(scene, log)
        evidence = look.cite("dnsPolicy") + (look.cite("nameservers") if config.get("nameservers") else ())
        evidence += log.cite(complaint) if complaint else ()
        because = f"its dnsPolicy is {policy}, so it does not ask the cluster's DNS"
        label = "service_dns_resolution_failure"
        return [Suspect(label, f"app/{app}", 0.95 if complaint else 0.85, evidence, because)]
    return []


def _aliases(scene: Scene, app: str, look: Look) -> list[Suspect]:
    """Host aliases that answer for a service of the cluster with an address of their own."""
    existing = {service.name: service.row["CLUSTER-IP"] for service in scene.services}
    for document in look.documents:
        for alias in pod_spec(document).get("hostAliases") or []:
            for host in alias.get("hostnames") or []:
                name = str(host).split(".")[0]
                if name in existing and existing[name] != str(alias.get("ip")):
                    because = f"a host alias of it says that {host} is {alias.get('ip')}"
                    evidence = look.cite("hostAliases") + look.cite(str(alias.get("ip")))
                    return [Suspect("service_dns_resolution_failure", f"app/{app}", 0.88, evidence, because)]
    return []


def _complaint(scene: Scene, log: Look) -> str:
    """Words of a log about a service that exists and could not be resolved."""
    existing = {service.name for service in scene.services}
    for found in UNRESOLVED.finditer(log.text):
        name = next((group for group in found.groups() if group), "").split(".")[0]
        if name in existing:
            return found[0]
    return ""


async def _policy(scene: Scene, name: str) -> list[Suspect]:
    """A network policy that lets an app send, but not to the DNS."""
    look = await scene.cluster.describe("networkpolicies", name)
    egress = re.search(r"(?s)Allowing egress traffic:(.*?)(?:Not affecting|Policy Types|$)", look.text)
    chosen = re.search(r"PodSelector:\s+(\S+)", look.text)
    if not egress or not chosen or "53" in egress[1] or "To Port: <any>" in egress[1]:
        return []
    apps = [value for value in re.findall(r"=([\w.-]+)", chosen[1]) if value in scene.apps]
    because = f"the network policy {name} does not let it ask the DNS"
    label = "service_dns_resolution_failure"
    return [Suspect(label, f"app/{app}", 0.8, look.cite("egress"), because) for app in apps]


async def _server(scene: Scene, system: Look) -> list[Suspect]:
    """The DNS pods of the cluster do not run: who suffers, as its log says."""
    rows = [r for r in system.rows if re.match(r"coredns|kube-dns", r["NAME"])]
    ill = [r for r in rows if r["STATUS"] != "Running" or r["READY"].split("/")[0] == "0"]
    if len(ill) < len(rows) or not system.rows:
        return []
    logs = await asyncio.gather(*(scene.cluster.logs(app) for app in scene.apps[:MOST]))
    heard = [(a, w, log) for a, log in zip(scene.apps, logs, strict=False) if (w := _complaint(scene, log))]
    because = f"the cluster's DNS pod {ill[0]['NAME']} is {ill[0]['STATUS']}" if ill else "no DNS pod runs"
    row = system.cite(ill[0].line) if ill else ()
    label, sure = "service_dns_resolution_failure", 0.8 if ill else 0.6
    return [Suspect(label, f"app/{app}", sure, row + log.cite(said), because) for app, said, log in heard[:3]]
