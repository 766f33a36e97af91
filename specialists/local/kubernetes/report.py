"""From suspects to a finding: causes with calibrated confidence, symptoms, and what was ruled out."""

from __future__ import annotations

from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect
from specialists.types import Cause, Claim, Finding, Task

MOST_CAUSES = 3
MOST_SYMPTOMS = 8
LEAST = 0.15


def finding(task: Task, scene: Scene, suspects: list[Suspect], calls: int, seconds: float) -> Finding:
    """What the specialist has to say."""
    causes = _causes(suspects)
    symptoms = _symptoms(scene)
    claims = (*symptoms, *_ruled_out(scene, causes))
    worth = bool(causes) or any(claim.kind == "symptom" for claim in claims)
    return Finding(
        task=task.id,
        specialist="kubernetes",
        status="found" if worth else "abstained",
        summary=_summary(scene, causes, symptoms),
        claims=claims,
        causes=causes,
        missing=tuple(scene.cluster.unseen[:10]),
        calls=calls,
        seconds=round(seconds, 3),
    )


def _causes(suspects: list[Suspect]) -> tuple[Cause, ...]:
    """The best suspects; rivals of one that is sure keep only what it leaves them."""
    chosen = [s for s in suspects if s.confidence >= LEAST][:MOST_CAUSES]
    if not chosen:
        return ()
    best = chosen[0].confidence
    left = [best] + [
        min(s.confidence, max(0.05, 1 - best) if best >= 0.9 else s.confidence) for s in chosen[1:]
    ]
    return tuple(suspect.cause(confidence) for suspect, confidence in zip(chosen, left, strict=True))


def _summary(scene: Scene, causes: tuple[Cause, ...], symptoms: tuple[Claim, ...]) -> str:
    where = f" in {scene.cluster.namespace}" if scene.cluster.namespace else ""
    if causes:
        return causes[0].statement
    if symptoms:
        return f"Something is wrong{where}, and its cause does not show: {symptoms[0].text}"
    if not scene.pods and not scene.workloads:
        return f"Nothing to look at{where}: no pods or workloads could be seen."
    return f"Nothing wrong found{where}: {len(scene.pods)} pods run, services lead to them, nodes are well."


def _symptoms(scene: Scene) -> tuple[Claim, ...]:
    """What is plainly not as it should be."""
    found: list[Claim] = []
    for node in scene.lost_nodes:
        evidence = scene.cite("nodes", node.name, "NotReady")
        found.append(
            _claim("symptom", f"Node {node.name} is not ready.", 0.99, evidence, f"node/{node.name}")
        )
    for app, pod in scene.sick.items():
        if pod.ready and app in scene.described and not scene.described[app].pod.recent("Killing", "BackOff"):
            continue
        state = pod.status if not pod.ready or pod.status != "Running" else f"restarted {pod.restarts} times"
        state = "running but not ready" if state == "Running" else state
        found.append(
            _claim("symptom", f"Pod {pod.name} is {state}.", 0.98, scene.cite("pods", pod.row.line), app)
        )
    for workload in scene.workloads:
        if workload.available < workload.desired and workload.name not in scene.sick:
            words = f"{workload.name} has {workload.available} of {workload.desired} replicas available."
            evidence = scene.cite(workload.kind, workload.row.line)
            found.append(_claim("symptom", words, 0.98, evidence, workload.name))
    for service in scene.services:
        if service.selector and service.backends == "<none>" and service.backend_row:
            evidence = scene.cite("endpoints", service.backend_row.line)
            words = f"The service {service.name} has no endpoints."
            found.append(_claim("symptom", words, 0.98, evidence, service.name))
    return tuple(claim for claim in found if claim.evidence)[:MOST_SYMPTOMS]


def _ruled_out(scene: Scene, causes: tuple[Cause, ...]) -> tuple[Claim, ...]:
    """What looks suspicious, or would be suspected first, and is not it."""
    found: list[Claim] = []
    blamed = {cause.object for cause in causes}
    well = [node for node in scene.nodes if node.ready]
    if well and len(well) == len(scene.nodes) and not any(thing.startswith("node/") for thing in blamed):
        evidence = scene.cite("nodes", well[-1].name, "Ready")
        words = f"A lost node: all {len(well)} nodes are ready."
        found.append(_claim("ruled_out", words, 0.9, evidence, f"node/{well[-1].name}"))
    for pod in scene.pods:
        if pod.restarts and not pod.sick and f"app/{pod.app}" not in blamed:
            words = f"The restarts of {pod.name}: they are over, and it is ready."
            found.append(_claim("ruled_out", words, 0.85, scene.cite("pods", pod.row.line), pod.app))
    return tuple(claim for claim in found if claim.evidence)[:4]


def _claim(kind: str, text: str, confidence: float, evidence: tuple, component: str) -> Claim:
    return Claim.model_validate(
        {"kind": kind, "text": text, "confidence": confidence, "evidence": evidence, "component": component}
    )
