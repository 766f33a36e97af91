"""Who calls whom, read from dependency trees, asking no more than the question needs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from specialists.local.kubernetes.cluster import Cluster

MOST = 4
_BRANCH = re.compile(r"^([│\s]*)[├└]── ([\w.-]+)")


class Graph:
    """The edges of a call graph."""

    def __init__(self) -> None:
        self.calls: dict[str, set[str]] = {}

    def add(self, text: str) -> None:
        """Add what one dependency tree tells."""
        root = re.search(r"\[Service\]:\s*(\S+)", text)
        if not root:
            return
        self.calls.setdefault(root[1], set())
        above = re.search(r"\[Upstream[^\]]*\]:\s*(.*)", text)
        for caller in re.findall(r"[\w.-]+", above[1]) if above and "(" not in above[1] else ():
            self.calls.setdefault(caller, set()).add(root[1])
        path = [(-1, root[1])]
        for line in text.splitlines():
            if found := _BRANCH.match(line):
                depth = len(found[1])
                while path[-1][0] >= depth:
                    path.pop()
                self.calls.setdefault(path[-1][1], set()).add(found[2])
                self.calls.setdefault(found[2], set())
                path.append((depth, found[2]))

    def callers(self, service: str) -> set[str]:
        """All that call a service, directly or through others."""
        found: set[str] = set()
        queue = [service]
        while queue:
            here = queue.pop()
            for caller, callees in self.calls.items():
                if here in callees and caller not in found:
                    found.add(caller)
                    queue.append(caller)
        return found - {service}

    def callees(self, service: str) -> set[str]:
        """What a service calls itself."""
        return self.calls.get(service, set())


async def read(cluster: Cluster, services: Iterable[str]) -> Graph:
    """The graph around these services; a tree that already shows a service spares the call for it."""
    graph = Graph()
    asked = 0
    for service in services:
        if asked == MOST or (service in graph.calls and graph.callers(service)):
            continue
        asked += 1
        graph.add((await cluster.dependencies(service)).text)
    return graph
