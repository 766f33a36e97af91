"""Start-up: containers that never begin to run: secrets, mounts, memory too small even to start."""

from __future__ import annotations

import re

from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.reading import Happening
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect

RULES = (
    (
        r"OOM-killed|OOMKilled|memory limit too low|OOM killed",
        "oom_killed",
        0.97,
        "the container was killed for want of memory before it could start",
    ),
    (
        r"(?i)secrets? \"[^\"]+\" not found|couldn't find key \S+ in Secret|secret \S+ not found"
        r"|references non-existent secret",
        "missing_secret_binding",
        0.96,
        "the secret it refers to was not found",
    ),
    (
        r"(?i)(?:mount|mkdir|volume|chown|chmod|rootfs).*"
        r"(?:permission denied|operation not permitted|access denied)",
        "volume_mount_permission_denied",
        0.95,
        "mounting its volume was not permitted",
    ),
)
REASONS = (
    "Failed", "FailedMount", "FailedCreatePodSandBox", "FailedPostStartHook", "FailedSync", "BackOff",
    "CreateContainerConfigError", "FailedAttachVolume",
)  # fmt: skip


async def examine(scene: Scene) -> list[Suspect]:
    """What the events of sick pods say about why their containers do not begin."""
    found = []
    for app, look in scene.described.items():
        if scene.sick[app].ready:
            continue
        found += _events(scene, app, look) or _states(scene, app, look)
    return found


def _events(scene: Scene, app: str, look: Look) -> list[Suspect]:
    for event in look.pod.recent(*REASONS):
        for pattern, label, confidence, because in RULES:
            if re.search(pattern, event.message):
                return [_suspect(scene, app, look, event, label, confidence, because)]
    return []


def _suspect(
    scene: Scene, app: str, look: Look, event: Happening, label: str, confidence: float, because: str
) -> Suspect:
    evidence = look.cite(event.line) + scene.cite("pods", scene.sick[app].row.line)
    if label == "oom_killed":
        evidence += look.cite("memory:")
    return Suspect(label, f"app/{app}", confidence, evidence, because)


def _states(scene: Scene, app: str, look: Look) -> list[Suspect]:
    """A container that says itself that its configuration lacks a secret."""
    if not re.search(r"CreateContainerConfigError", look.text):
        return []
    message = re.search(r"(?im)^\s*Message:\s+(.*secret.*)$", look.text)
    if not message:
        return []
    evidence = look.cite(message[1].strip())
    because = "the secret it refers to was not found"
    return [Suspect("missing_secret_binding", f"app/{app}", 0.93, evidence, because)]
