"""The kubernetes server: recorded answers of a cluster, or a real cluster through kubectl; read-only."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from mcp.types import CallToolResult
from pydantic import Field

from tool_servers.answers import text_of
from tool_servers.toolkit import READ, TEXT_LIMIT, ToolServer, clip, reply
from tool_servers.world import World

Kind = Annotated[
    str, Field(description="Kind of resource as kubectl names it: pods, services, nodes …", max_length=100)
]
Name = Annotated[str, Field(description="Name of one object; empty = all.", max_length=253)]
ObjectName = Annotated[str, Field(description="Name of the object.", min_length=1, max_length=253)]
Namespace = Annotated[str, Field(description="Namespace; empty = the default or all.", max_length=253)]
InNamespace = Annotated[str, Field(description="Namespace.", min_length=1, max_length=253)]
App = Annotated[str, Field(description="Name of the application.", min_length=1, max_length=253)]
ServiceName = Annotated[str, Field(description="Name of the service.", min_length=1, max_length=253)]
NodeName = Annotated[str, Field(description="Name of the node.", min_length=1, max_length=253)]
Selector = Annotated[str, Field(description="Label selector, such as app=cart.", max_length=500)]
Port = Annotated[int, Field(ge=1, le=65535, description="Port of the service.")]


class Source(Protocol):
    """Where answers come from: a tool's name and its arguments in, text as kubectl prints it out."""

    def answer(self, tool: str, arguments: dict[str, Any]) -> str:
        """The text that answers a call."""
        ...


def build(world: World) -> ToolServer:
    """The kubernetes server for a world."""
    server = ToolServer("kubernetes", "A Kubernetes cluster, read-only; answers are what kubectl prints.")
    source = _source(world)

    def answer(tool: str, **arguments: Any) -> CallToolResult:
        return reply(clip(source.answer(tool, arguments), TEXT_LIMIT))

    @server.tool(annotations=READ)
    def get(
        resource_type: Kind,
        name: Name = "",
        namespace: Namespace = "",
        wide: bool = False,
        labels: bool = False,
        selector: Selector = "",
    ) -> CallToolResult:
        """List resources as `kubectl get` does; `wide` adds columns, `labels` adds labels."""
        return answer(
            "get",
            resource_type=resource_type,
            name=name,
            namespace=namespace,
            wide=wide,
            labels=labels,
            selector=selector,
        )

    @server.tool(annotations=READ)
    def describe(resource_type: Kind, name: ObjectName, namespace: Namespace = "") -> CallToolResult:
        """Describe one object in full, with its events, as `kubectl describe` does."""
        return answer("describe", resource_type=resource_type, name=name, namespace=namespace)

    @server.tool(annotations=READ)
    def manifest(app: App) -> CallToolResult:
        """Show the YAML of an application's workload and service."""
        return answer("manifest", app=app)

    @server.tool(annotations=READ)
    def logs(namespace: InNamespace, service: ServiceName, errors_only: bool = False) -> CallToolResult:
        """Show the recent log lines of a service's pods, or only those that look like errors."""
        return answer("logs", namespace=namespace, service=service, errors_only=errors_only)

    @server.tool(annotations=READ)
    def events(namespace: Namespace = "") -> CallToolResult:
        """List the cluster's events, for one namespace or for all."""
        return answer("events", namespace=namespace)

    @server.tool(annotations=READ)
    def dependencies(service: ServiceName) -> CallToolResult:
        """Show which services a service calls."""
        return answer("dependencies", service=service)

    @server.tool(annotations=READ)
    def alerts() -> CallToolResult:
        """Show the alerts that the cluster's monitoring raises."""
        return answer("alerts")

    @server.tool(annotations=READ)
    def cluster() -> CallToolResult:
        """Show the cluster's nodes and configuration."""
        return answer("cluster")

    @server.tool(annotations=READ)
    def connectivity(namespace: InNamespace, service: ServiceName, port: Port) -> CallToolResult:
        """Check whether a service answers on a port."""
        return answer("connectivity", namespace=namespace, service=service, port=port)

    @server.tool(annotations=READ)
    def node_service(node: NodeName, service: ServiceName) -> CallToolResult:
        """Check a system service (kubelet, containerd, kube-proxy …) on a node."""
        return answer("node_service", node=node, service=service)

    return server


def _source(world: World) -> Source:
    if world.settings.kubectl and not world.recorded:
        from tool_servers.live.kubectl import Kubectl

        return Kubectl(world.settings.kube_context)
    return RecordedAnswers(world)


class RecordedAnswers:
    """Answers of a cluster, as they were recorded."""

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, tool: str, arguments: dict[str, Any]) -> str:
        """The recorded answer to this call."""
        return text_of(self._world, "kubernetes", tool, arguments)


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("kubernetes")
