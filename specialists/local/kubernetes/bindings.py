"""Bindings: an app that dies for want of a setting that a secret holds, which nothing binds to it."""

from __future__ import annotations

import re

from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.names import UNRESOLVED
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.settings import name_of, pod_spec
from specialists.local.kubernetes.suspects import Suspect

LABEL = "missing_secret_binding"
UNSET = re.compile(
    r"Could not resolve placeholder '([\w.-]+)'|KeyError: '([A-Z][A-Z0-9_]+)'"
    r"|(?i:environment variable|env var|required variable|variable) [\"'`]?([A-Z][A-Z0-9_]+)[\"'`]?"
    r"(?i:[^.\n]{0,20}(?:not set|unset|missing|required|undefined|empty))"
    r"|(?i:missing required (?:environment variable|env|setting|config(?:uration)?):?) [\"'`]?([\w.-]+)"
)
NOBODY = re.compile(r"Access denied for user ''@|\(using password: NO\)|no password supplied|fe_sendauth")
HIDDEN = re.compile(r"pass|pwd|secret|token|key|user|cred", re.I)


async def read(scene: Scene, app: str, log: Look) -> list[Suspect]:
    """What the log of a crashing app misses, against the secrets its manifest declares and does not use."""
    unset, nobody, lost = UNSET.search(log.text), NOBODY.search(log.text), _unknown_host(scene, log)
    words = unset or nobody or lost
    if words is None:
        return []
    applied = await scene.cluster.manifest(app)
    evidence = log.cite(words[0])
    if idle := _unused(applied):
        because = (
            f"its log misses a setting, and no container takes the secret {idle} that was declared for it"
        )
        return [Suspect(LABEL, f"app/{app}", 0.95, evidence + applied.cite(idle), because)]
    name = next((group for group in unset.groups() if group), "") if unset else ""
    if HIDDEN.search(name):
        because = f"its log misses {name}, which nothing sets"
        return [Suspect(LABEL, f"app/{app}", 0.65, evidence, because)]
    if nobody:
        return [Suspect(LABEL, f"app/{app}", 0.6, evidence, "it presents no password to its database")]
    return []


def _unknown_host(scene: Scene, log: Look) -> re.Match[str] | None:
    """A name that no service has: what a program falls back to when it was not told another."""
    existing = {service.name for service in scene.services}
    for found in UNRESOLVED.finditer(log.text):
        name = next((group for group in found.groups() if group), "")
        if name and name.split(".")[0] not in existing:
            return found
    return None


def _unused(applied: Look) -> str:
    """A secret of the manifest that its workload does not name."""
    secrets = [name_of(d) for d in applied.documents if d.get("kind") == "Secret"]
    used = " ".join(str(pod_spec(document)) for document in applied.documents)
    return (
        next((name for name in secrets if name and f"'{name}'" not in used), "") if used.strip(" {}") else ""
    )
