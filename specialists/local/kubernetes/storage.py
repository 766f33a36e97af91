"""Storage: claims that find no volume, and what keeps the best volume from being theirs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from specialists.local.kubernetes import admission, reading
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.images import alike
from specialists.local.kubernetes.reading import Row
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect
from specialists.types import Evidence

MODES = {
    "ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP",
}  # fmt: skip
SAYS = {
    "pvc_storage_class_mismatch": "the claim asks for a storage class that the volume does not have",
    "pvc_access_mode_mismatch": "the claim asks for an access mode that the volume does not offer",
    "pvc_capacity_mismatch": "the claim asks for more than the volume holds",
    "pvc_selector_mismatch": "the claim selects labels that the volume does not carry",
    "pv_binding_occupied": "the volume that fits already belongs to another claim",
}


@dataclass(frozen=True)
class Wish:
    """What a claim asks for."""

    name: str
    storage: float | None = None
    modes: tuple[str, ...] = ()
    storage_class: str | None = None
    selector: tuple[tuple[str, str], ...] = ()
    volume: str = ""


async def examine(scene: Scene) -> list[Suspect]:
    """Apps whose pods wait for a claim."""
    found: list[Suspect] = []
    for app, pod in scene.sick.items():
        look = scene.described.get(app)
        if look is None or not (pod.pending or "FailedMount" in look.text):
            continue
        refusals = look.pod.recent("FailedScheduling", "FailedMount", "FailedAttachVolume")
        said = next((e for e in refusals if re.search(r"(?i)persistentvolumeclaim", e.message)), None)
        if said is None:
            continue
        evidence = look.cite(said.line)
        if lost := re.search(r'persistentvolumeclaim "([^"]+)" (?:is )?not found', said.message):
            found += await _no_claim(scene, app, lost[1], evidence)
        else:
            found += await _unbound(scene, app, evidence)
    return found


async def _no_claim(scene: Scene, app: str, claim: str, evidence: tuple[Evidence, ...]) -> list[Suspect]:
    """A claim that does not exist: was it refused for want of quota?"""
    cluster = scene.cluster
    quotas, applied = await asyncio.gather(cluster.get("resourcequota"), cluster.manifest(app))
    wish = next((w for w in _wishes(applied) if w.name == claim), Wish(claim))
    line = _too_little(quotas, wish.storage) or admission.full(quotas, "persistentvolumeclaims|storage")
    if not line:
        return []
    because = f"the claim {claim} does not exist, and the quota leaves less storage than it asks for"
    confidence = 0.96 if wish.storage else 0.85
    label = "namespace_storage_quota_exceeded"
    return [Suspect(label, f"namespace/{cluster.namespace}", confidence, evidence + line, because)]


def _too_little(quotas: Look, wanted: float | None) -> tuple[Evidence, ...]:
    for row in quotas.rows:
        for used, hard in re.findall(r"requests\.storage: (\w+)/(\w+)", row.line):
            have, most = reading.quantity(used), reading.quantity(hard)
            if have is not None and most is not None and (wanted is None or have + wanted > most):
                return quotas.cite(row.line)
    return ()


async def _unbound(scene: Scene, app: str, evidence: tuple[Evidence, ...]) -> list[Suspect]:
    cluster = scene.cluster
    claims, volumes, classes, applied = await asyncio.gather(
        cluster.get("persistentvolumeclaims"),
        cluster.get_everywhere("persistentvolumes", labels=True),
        cluster.get_everywhere("storageclasses"),
        cluster.manifest(app),
    )
    pending = [row for row in claims.rows if row["STATUS"] in ("Pending", "Lost")]
    wishes = {wish.name: wish for wish in _wishes(applied)}
    mine = [row for row in pending if row["NAME"] in _used(scene, app, applied)] or pending
    if not mine:
        return []
    row = mine[0]
    wish = wishes.get(row["NAME"], Wish(row["NAME"], storage_class=row["STORAGECLASS"] or None))
    evidence += claims.cite(row.line)
    known = {line["NAME"] for line in classes.rows}
    offered = known | {volume["STORAGECLASS"] for volume in volumes.rows}
    if wish.storage_class and classes.seen and wish.storage_class not in offered:
        because = f"the class {wish.storage_class!r} of the claim {wish.name} does not exist"
        evidence += volumes.cite(volumes.rows[0].line) if volumes.rows else ()
        return [Suspect("pvc_storage_class_mismatch", f"app/{app}", 0.95, evidence, because)]
    return _compare(app, wish, volumes, evidence + applied.cite("storage:", _written(applied, wish)))


def _compare(app: str, wish: Wish, volumes: Look, evidence: tuple[Evidence, ...]) -> list[Suspect]:
    """What stands between the claim and the volume that fits it best, as suspects."""
    tried = sorted(((_obstacles(wish, row), row) for row in volumes.rows), key=lambda pair: _far(wish, *pair))
    if not tried:
        return []
    obstacles, row = tried[0]
    if any(row["CLAIM"].endswith(f"/{wish.name}") for _, row in tried):
        return []
    sure = 0.95 if len(obstacles) == 1 else 0.6
    return [
        Suspect(
            label, f"app/{app}", sure if place == 0 else 0.35, evidence + volumes.cite(row.line),
            f"{SAYS[label]} (claim {wish.name}, volume {row['NAME']})",
        )
        for place, label in enumerate(obstacles)
    ]  # fmt: skip


def _far(wish: Wish, obstacles: list[str], row: Row) -> tuple[bool, int, bool, float]:
    """How far a volume is from being the claim's: the one it names, then by obstacles, a free one first."""
    taken = "pv_binding_occupied" in obstacles
    return wish.volume not in ("", row["NAME"]), len(obstacles), taken, -alike(row["NAME"], wish.name)


def _obstacles(wish: Wish, row: Row) -> list[str]:
    found = []
    offered = set(row["ACCESS MODES"].split(","))
    holds = reading.quantity(row["CAPACITY"])
    carried = reading.labels(row["LABELS"])
    if wish.storage_class is not None and wish.storage_class != row["STORAGECLASS"].replace("<unset>", ""):
        found.append("pvc_storage_class_mismatch")
    if wish.modes and not set(wish.modes) <= offered:
        found.append("pvc_access_mode_mismatch")
    if wish.storage is not None and holds is not None and wish.storage > holds:
        found.append("pvc_capacity_mismatch")
    if any(carried.get(key) != value for key, value in wish.selector):
        found.append("pvc_selector_mismatch")
    if row["STATUS"] in ("Bound", "Released", "Failed"):
        found.append("pv_binding_occupied")
    return found


def _wishes(applied: Look) -> list[Wish]:
    """The claims in a manifest, those of stateful sets included."""
    found = []
    for document in applied.documents:
        if document.get("kind") == "PersistentVolumeClaim":
            found.append(_wish(document))
        spec = document.get("spec") or {}
        for template in spec.get("volumeClaimTemplates") or []:
            wish = _wish(template)
            owner = (document.get("metadata") or {}).get("name", "")
            found.append(Wish(**{**wish.__dict__, "name": f"{wish.name}-{owner}-0"}))
    return found


def _wish(document: dict[str, Any]) -> Wish:
    spec = document.get("spec") or {}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    return Wish(
        name=str((document.get("metadata") or {}).get("name", "")),
        storage=reading.quantity(str(asked)) if asked is not None else None,
        modes=tuple(MODES.get(str(mode), str(mode)) for mode in spec.get("accessModes") or []),
        storage_class=spec.get("storageClassName"),
        selector=tuple((str(k), str(v)) for k, v in labels.items()),
        volume=str(spec.get("volumeName") or ""),
    )


def _used(scene: Scene, app: str, applied: Look) -> set[str]:
    """The names of the claims that an app's pods use."""
    described = scene.described.get(app)
    named = set(re.findall(r"ClaimName:\s+(\S+)", described.text)) if described else set()
    return named | set(re.findall(r"claimName:\s*(\S+)", applied.text))


def _written(applied: Look, wish: Wish) -> str:
    """How the request is written in the manifest, to quote it."""
    if wish.storage is None:
        return "storage"
    written = re.findall(r"storage:\s*\"?([\w.]+)", applied.text)
    return next((text for text in reversed(written) if reading.quantity(text) == wish.storage), "storage")
