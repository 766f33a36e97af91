"""Performance: what monitoring measures, and which pod or node would explain all of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from specialists.local.kubernetes import graph
from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.graph import Graph
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect
from specialists.types import Evidence

LOSSY = 3.0  # retransmissions a second from which packets are lost rather than late
THROTTLED = re.compile(r"throttl|cpu_cfs|cpu core|cpu usage|cpu satur|CPU", re.I)
RETRANS = re.compile(r"retrans|packet.?loss|dropped packets", re.I)
_TIME = r"([\d.]+)\s?(ns|us|µs|ms|s|m)\b"
SLOW = re.compile(rf"\b(p\d+|avg|mean|median|max)\w*\W+Normal={_TIME} -> Cur(?:rent)?={_TIME}")
MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
CHANGE = re.compile(r"Normal=([\d.]+)\D*? -> Cur(?:rent)?=([\d.]+)")
TYPICAL = ("p50", "median", "avg", "mean")
GONE = re.compile(r"LATENCY_MISSING|vanished", re.I)


@dataclass
class Reading:
    """What monitoring finds unusual of one service or node."""

    name: str
    node: bool
    words: list[str]
    latency: dict[str, tuple[float, float]] = field(default_factory=dict)  # percentile -> (normal, now)

    @property
    def typical(self) -> bool:
        """Whether even its usual request is slow (not only the slowest ones)."""
        return any(name in self.latency for name in TYPICAL) or any(
            GONE.search(words) for words in self.words
        )

    @property
    def slow(self) -> bool:
        return bool(self.latency) or self.typical

    @property
    def factor(self) -> float:
        """How many times slower it is than normal, at worst."""
        return max((now / max(normal, 0.1) for normal, now in self.latency.values()), default=1.0)


async def examine(scene: Scene) -> list[Suspect]:
    """The pod or node that explains what the alerts measure."""
    look = await scene.cluster.alerts()
    readings = read(look)
    if not readings:
        return []
    owners = {pod.name: pod.app for pod in scene.pods}
    for reading in readings:
        reading.name = owners.get(reading.name, reading.name)
    busy = _busy(look, readings)
    if busy and busy[0].confidence >= 0.9:
        return busy
    lossy = _lossy(look, readings)
    if lossy and lossy[0].confidence >= 0.9:
        return busy + lossy
    slow = {r.name: r for r in readings if r.slow and not r.node}
    if not slow:
        return busy + lossy
    order = sorted(slow, key=lambda name: -max((now for _, now in slow[name].latency.values()), default=0))
    calls = await graph.read(scene.cluster, order)
    return busy + lossy + _explained(scene, look, readings, slow, calls)


def read(look: Look) -> list[Reading]:
    """The readings in the answer to `alerts`."""
    try:
        said = json.loads(look.text or "{}")
    except json.JSONDecodeError:
        return []
    found = []
    for item in _items(said):
        words = [str(words) for words in item.get("evidence") or []]
        reading = Reading(str(item["name"]), str(item.get("type", "")).lower() == "node", words)
        for line in words:
            for percentile, normal, unit, now, unit_now in SLOW.findall(line):
                pair = float(normal) * MILLISECONDS[unit], float(now) * MILLISECONDS[unit_now]
                reading.latency[percentile] = pair
        found.append(reading)
    return found


def _items(said: Any) -> list[dict[str, Any]]:
    listed = said.get("alerts") or [] if isinstance(said, dict) else said
    return [item for item in listed if isinstance(item, dict) and item.get("name")]


def _cite(look: Look, words: str) -> tuple[Evidence, ...]:
    return look.cite(json.dumps(words, ensure_ascii=False)[1:-1]) or look.cite(words)


def _busy(look: Look, readings: list[Reading]) -> list[Suspect]:
    """Services whose CPU is throttled or much more used than normal."""
    found = []
    for reading in readings:
        words = [w for w in reading.words if THROTTLED.search(w) and "SATUR" in w.upper()]
        if reading.node or not words:
            continue
        throttled = any("throttl" in w.lower() for w in words)
        ratios = (float(b) / max(float(a), 0.005) for w in words for a, b in CHANGE.findall(w))
        times = max(ratios, default=1.0)
        evidence = tuple(
            e for w in (words + [w for w in reading.words if SLOW.search(w)])[:4] for e in _cite(look, w)
        )
        because = "it is throttled" if throttled else f"its CPU use is {times:.1f} times normal"
        confidence = (0.95 if throttled else 0.7) + min(times, 100) / 10_000
        found.append(Suspect("pod_cpu_overload", f"app/{reading.name}", confidence, evidence, because))
    return sorted(found, key=lambda s: -s.confidence)


def _retransmitted(reading: Reading) -> float:
    now = [float(b) for w in reading.words if RETRANS.search(w) for _, b in CHANGE.findall(w)]
    return max(now, default=0.0) if reading.node else 0.0


def _lossy(look: Look, readings: list[Reading]) -> list[Suspect]:
    """Nodes that send so much again that packets must be lost."""
    noisy = sorted((r for r in readings if _retransmitted(r) > 0), key=_retransmitted, reverse=True)
    found = []
    for place, reading in enumerate(noisy[:2]):
        words = [w for w in reading.words if RETRANS.search(w)]
        sure = _retransmitted(reading) >= LOSSY and place == 0
        because = f"it sends {_retransmitted(reading):g} segments a second again"
        evidence = _cite(look, words[0])
        label = "node_network_packet_loss"
        found.append(Suspect(label, f"node/{reading.name}", 0.93 if sure else 0.25, evidence, because))
    return found


def _explained(
    scene: Scene, look: Look, readings: list[Reading], slow: dict[str, Reading], calls: Graph
) -> list[Suspect]:
    """Pods and nodes by how well a slow network of theirs would explain what is slow and what is not."""
    noted = {r.name for r in readings if _retransmitted(r) > 0}
    placed = {pod.app: pod.node for pod in scene.pods}
    scores: dict[str, float] = {}
    for name in set(slow) | {callee for one in slow for callee in calls.callees(one)} - set(slow):
        if name in placed or name in slow:
            scores[f"app/{name}"] = _pod_score(name, slow, calls)
    for node in {placed[name] for name in placed if placed[name]}:
        inhabitants = sum(place == node for place in placed.values())
        scores[f"node/{node}"] = _node_score(node, placed, slow, calls) + inhabitants / 1000
        scores[f"node/{node}"] += 2.0 if noted else 0.0
        scores[f"node/{node}"] += 0.01 if node in noted else 0.0
    order = sorted(scores, key=lambda thing: (-scores[thing], thing))
    margin = scores[order[0]] - scores[order[1]] if len(order) > 1 else 1.0
    found = []
    for place, thing in enumerate(order[:3]):
        label = "node_network_delay" if thing.startswith("node/") else "pod_network_delay"
        confidence = (0.8 + min(0.12, margin / 10)) if place == 0 else (0.25, 0.16)[place - 1]
        if place == 0 and label == "node_network_delay":
            confidence = 0.6
        evidence = _measured(look, thing, slow, placed)
        names = ", ".join(sorted(slow))
        because = f"that would explain why these are slow: {names}"
        found.append(Suspect(label, thing, confidence, evidence, because))
    return found


def _measured(
    look: Look, thing: str, slow: dict[str, Reading], placed: dict[str, str]
) -> tuple[Evidence, ...]:
    name = thing.split("/", 1)[1]
    first = [slow[name]] if name in slow else [r for r in slow.values() if placed.get(r.name) == name]
    rest = [r for r in slow.values() if r not in first]
    words = [w for r in [*first, *rest] for w in r.words if SLOW.search(w) or GONE.search(w)]
    return tuple(e for w in words[:3] for e in _cite(look, w))


def _pod_score(name: str, slow: dict[str, Reading], calls: Graph) -> float:
    """Delay at a pod slows it and its callers always, and what it calls for its own requests."""
    callers, callees = calls.callers(name), calls.callees(name)
    score = 1.0 if name in slow else -1.5
    score += sum(0.8 for one in callers if one in slow)
    score -= sum(0.25 for one in callers if one not in slow)
    for one in callees:
        score += 0.0 if one not in slow else (-0.4 if slow[one].typical and one not in callers else 0.6)
        score -= 0.12 if one not in slow else 0.0
    score -= sum(0.9 for one in slow if one not in callers | callees | {name})
    if name in slow:
        score += 0.35 if slow[name].typical else 0.0
        score += min(slow[name].factor, 2000) / 10_000
    return score


def _node_score(node: str, placed: dict[str, str], slow: dict[str, Reading], calls: Graph) -> float:
    """Delay at a node slows every call that crosses it, and all that wait for such a call."""
    late: set[str] = set()
    for caller, callees in calls.calls.items():
        for callee in callees:
            if placed.get(caller) != placed.get(callee) and node in (placed.get(caller), placed.get(callee)):
                late |= {caller, callee} | calls.callers(caller)
    score = sum(0.7 for one in slow if one in late) - sum(0.9 for one in slow if one not in late)
    return score - sum(0.12 for one in late if one not in slow)
