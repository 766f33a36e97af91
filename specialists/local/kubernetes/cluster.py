"""The cluster as one case may see it: every look is one gateway call, made once and kept."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any

from specialists.local.casework import quote
from specialists.local.kubernetes import reading
from specialists.local.kubernetes.reading import Described, Row
from specialists.types import Evidence

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox, ToolResult

_UNSEEN = ("error from server", "error:", "not recorded", "unable to", "no resources found")
_NOT_ALLOWED = ("not recorded", "forbidden", "denied")


class Look:
    """The answer to one call; an answer that could not be had reads as empty."""

    def __init__(self, result: ToolResult) -> None:
        self.result = result
        said = result.text.strip().lower()
        self.seen = not result.is_error and not said.startswith(_UNSEEN)
        self.absent = "notfound" in said or "not found" in said[:200]

    @property
    def text(self) -> str:
        return self.result.text if self.seen else ""

    @cached_property
    def rows(self) -> list[Row]:
        """The rows, if the answer is a table."""
        return reading.table(self.text)

    @cached_property
    def pod(self) -> Described:
        """The pod, if the answer is the description of one."""
        return reading.described(self.text)

    @cached_property
    def documents(self) -> list[dict[str, Any]]:
        """The documents, if the answer is a manifest."""
        return reading.manifests(self.text)

    def cite(self, *words: str) -> tuple[Evidence, ...]:
        """The first line that holds all these words, as evidence; none if there is no such line."""
        found = quote(self.result, *words) if self.result.call and not self.result.refusal else None
        return (found,) if found else ()


class Cluster:
    """A namespace of a cluster, seen through the toolbox; it remembers what it has asked."""

    def __init__(self, toolbox: Toolbox, namespace: str) -> None:
        self.namespace = namespace
        self.unseen: list[str] = []
        self._toolbox = toolbox
        self._looks: dict[str, asyncio.Task[Look]] = {}

    @property
    def calls(self) -> int:
        """How many different calls were made."""
        return len(self._looks)

    async def ask(self, tool: str, **arguments: Any) -> Look:
        """The answer to a call of the kubernetes server, made once."""
        given = {key: value for key, value in arguments.items() if value not in ("", None, False)}
        key = f"{tool} {sorted(given.items())}"
        if key not in self._looks:
            self._looks[key] = asyncio.ensure_future(self._look(tool, given))
        return await self._looks[key]

    async def _look(self, tool: str, given: dict[str, Any]) -> Look:
        look = Look(await self._toolbox.call(f"kubernetes__{tool}", given))
        said = look.result.text.strip().splitlines()
        if not look.seen and said and any(word in said[0].lower() for word in _NOT_ALLOWED):
            what = " ".join(str(value) for value in given.values())
            self.unseen.append(f"kubernetes {tool} {what}: {said[0][:160]}")
        return look

    async def get(self, kind: str, **options: Any) -> Look:
        """A list of a namespaced kind."""
        return await self.ask("get", resource_type=kind, namespace=self.namespace, **options)

    async def get_everywhere(self, kind: str, **options: Any) -> Look:
        """A list of a kind that belongs to the cluster, not to a namespace."""
        return await self.ask("get", resource_type=kind, **options)

    async def describe(self, kind: str, name: str) -> Look:
        """The description of one object of the namespace."""
        return await self.ask("describe", resource_type=kind, name=name, namespace=self.namespace)

    async def manifest(self, app: str) -> Look:
        """What was applied for an app."""
        return await self.ask("manifest", app=app)

    async def logs(self, app: str) -> Look:
        """The errors in an app's logs; its recent lines where the errors cannot be had."""
        look = await self.ask("logs", namespace=self.namespace, service=app, errors_only=True)
        if look.seen:
            return look
        return await self.ask("logs", namespace=self.namespace, service=app)

    async def connectivity(self, service: str, port: int) -> Look:
        """Whether a service answers on a port."""
        return await self.ask("connectivity", namespace=self.namespace, service=service, port=port)

    async def node_service(self, node: str, service: str) -> Look:
        """The state of a system service on a node."""
        return await self.ask("node_service", node=node, service=service)

    async def dependencies(self, service: str) -> Look:
        """Who calls a service and whom it calls."""
        return await self.ask("dependencies", service=service)

    async def alerts(self) -> Look:
        """What monitoring finds unusual."""
        return await self.ask("alerts")
