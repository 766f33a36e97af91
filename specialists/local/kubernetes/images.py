"""Images: why a container's image does not arrive: no such registry, no such image, or no right to it."""

from __future__ import annotations

import asyncio
import re
from difflib import SequenceMatcher

from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect

WAITING = re.compile(r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|RegistryUnavailable")
UNRESOLVED = re.compile(
    r"no such host|temporary failure in name resolution|server misbehaving|name or service not known"
    r"|lookup \S+.*(?:i/o timeout|NXDOMAIN)",
    re.I,
)
NO_RIGHT = re.compile(
    r"unauthorized|authentication required|no basic auth credentials|failed to authorize"
    r"|failed to fetch (?:anonymous|oauth) token|authorization failed|invalid username/password|401",
    re.I,
)
NO_IMAGE = re.compile(
    r"not found|manifest unknown|does not exist|name unknown|invalid reference|couldn't parse image"
    r"|InvalidImageName|repository name must be",
    re.I,
)
REFUSED = re.compile(r"denied|forbidden|403", re.I)
PUBLIC = (
    "docker.io/",
    "registry-1.docker.io",
    "quay.io/",
    "registry.k8s.io/",
    "gcr.io/",
    "mcr.microsoft.com/",
)


async def examine(scene: Scene) -> list[Suspect]:
    """Apps that wait for an image."""
    waiting = [app for app, look in scene.described.items() if _waits(scene, app, look)]
    found = await asyncio.gather(*(_unpulled(scene, app, scene.described[app]) for app in waiting))
    return [suspect for some in found for suspect in some]


def _waits(scene: Scene, app: str, look: Look) -> bool:
    reasons = " ".join(container.reason for container in look.pod.containers)
    return bool(WAITING.search(f"{scene.sick[app].status} {reasons}"))


async def _unpulled(scene: Scene, app: str, look: Look) -> list[Suspect]:
    failures = [
        e for e in look.pod.recent("Failed", "InspectFailed", "ErrImageNeverPull") if _tells(e.message)
    ]
    if not failures:
        return []
    said = failures[0].message
    evidence = look.cite(failures[0].line) + scene.cite("pods", scene.sick[app].row.line)
    for other in ("FailedToRetrieveImagePullSecret",):
        if look.pod.recent(other):
            evidence += look.cite(other)
            because = "the pull secret it names could not be read"
            return [Suspect("missing_image_pull_secret", f"app/{app}", 0.96, evidence, because)]
    label, confidence, because = await _meaning(scene, app, look, said)
    rivals = {"incorrect_image_reference", "missing_image_pull_secret"} - {label}
    found = [Suspect(label, f"app/{app}", confidence, evidence, because)]
    if confidence < 0.95:
        found += [Suspect(r, f"app/{app}", round(1 - confidence, 2), evidence, because) for r in rivals]
    return found


def _tells(message: str) -> bool:
    return bool(re.search(r"(?i)pull|image|manifest|registry", message)) and not re.fullmatch(
        r"Error: (?:ErrImagePull|ImagePullBackOff|InvalidImageName)", message.strip()
    )


async def _meaning(scene: Scene, app: str, look: Look, said: str) -> tuple[str, float, str]:
    """The fault that the kubelet's words mean."""
    reason = re.sub(r'image "[^"]*"|reference "[^"]*"|(?:Head|Get) "[^"]*"', "", said)
    if UNRESOLVED.search(reason):
        return "image_registry_dns_failure", 0.97, "its registry's name could not be resolved"
    if NO_RIGHT.search(reason):
        return "missing_image_pull_secret", 0.96, "the registry asks for credentials it was not given"
    if NO_IMAGE.search(reason) and not REFUSED.search(reason):
        return "incorrect_image_reference", 0.97, "the registry does not know this image"
    if REFUSED.search(reason):
        return await _refused(scene, app, look, reason)
    return "incorrect_image_reference", 0.4, "its image could not be pulled"


async def _refused(scene: Scene, app: str, look: Look, reason: str) -> tuple[str, float, str]:
    """A registry that refuses tells no difference between a private and a missing image; the names do."""
    applied = await scene.cluster.manifest(app)
    if "imagePullSecrets" in applied.text:
        return (
            "missing_image_pull_secret",
            0.85,
            "the registry refused it in spite of the pull secret it names",
        )
    images = [c.image for c in look.pod.containers if WAITING.search(c.reason)] or [""]
    if "/manifests/" in reason or _public(images[0]):
        return "incorrect_image_reference", 0.88, "a public registry refuses names that do not exist"
    return "missing_image_pull_secret", 0.7, "a private registry refused it, and it names no pull secret"


def _public(image: str) -> bool:
    """Whether the image would come from a registry that anybody may read."""
    host = image.split("/", 1)[0]
    return "/" not in image or not ("." in host or ":" in host) or image.startswith(PUBLIC)


def alike(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1."""
    return SequenceMatcher(None, one, other).ratio()
