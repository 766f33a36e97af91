"""The call graph: who calls whom, who stands above a service, and how deep it stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any


class CallGraph:
    """Edges from callers to callees."""

    def __init__(
        self, edges: Iterable[tuple[str, str]], calls: dict[tuple[str, str], float] | None = None
    ) -> None:
        self.calls = calls or {}
        self.callees: dict[str, set[str]] = defaultdict(set)
        self.callers: dict[str, set[str]] = defaultdict(set)
        for caller, callee in edges:
            if caller and callee and caller != callee:
                self.callees[caller].add(callee)
                self.callers[callee].add(caller)

    @classmethod
    def of(cls, data: dict[str, Any]) -> CallGraph:
        """From the structured answer of `traces__dependencies`."""
        edges = [(e["caller"], e["callee"], float(e.get("calls") or 0)) for e in data.get("edges", ())]
        return cls([(a, b) for a, b, _ in edges], {(a, b): n for a, b, n in edges if n})

    @property
    def services(self) -> set[str]:
        return set(self.callees) | set(self.callers)

    def above(self, service: str) -> list[str]:
        """Everybody who calls a service, directly or not, nearest first."""
        return _reach(self.callers, service)

    def below(self, service: str) -> list[str]:
        """Everybody a service calls, directly or not, nearest first."""
        return _reach(self.callees, service)

    def share(self, caller: str, callee: str) -> float:
        """Which part of the calls to a service one caller makes; all of them where nobody counted."""
        counted = {one: self.calls.get((one, callee), 0.0) for one in self.callers.get(callee, set())}
        total = sum(counted.values())
        return counted.get(caller, 0.0) / total if total and all(counted.values()) else 1.0


def _reach(edges: dict[str, set[str]], start: str) -> list[str]:
    found: list[str] = []
    wave = [start]
    while wave:
        wave = sorted({n for one in wave for n in edges.get(one, set())} - {start, *found})
        found += wave
    return found
