"""A real cluster through the kubectl program: read-only verbs, no shell, arguments checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tool_servers.errors import BadInput, NotOffered
from tool_servers.live.process import run

_NAME = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9._:]*[a-zA-Z0-9])?")
_KIND = re.compile(r"[a-zA-Z][a-zA-Z0-9.,-]*")
_SELECTOR = re.compile(r"[\w./=!, ()-]+")
_ERROR = re.compile(r"error|exception|fatal|panic|fail|refused|timeout|denied|warn", re.IGNORECASE)
_LINES = 500


class Kubectl:
    """The cluster of a kubectl context."""

    def __init__(self, context: str) -> None:
        self._context = ["--context", _checked("context", context, _NAME)] if context else []
        self._commands: dict[str, Callable[..., str]] = {
            "get": self._get,
            "describe": self._describe,
            "manifest": self._manifest,
            "logs": self._logs,
            "events": self._events,
            "cluster": self._cluster,
            "connectivity": self._connectivity,
            "node_service": self._node_service,
        }

    def answer(self, tool: str, arguments: dict[str, Any]) -> str:
        """What kubectl prints for a call."""
        if tool not in self._commands:
            raise NotOffered(f"{tool}: kubectl does not know this; the traces or metrics server may")
        return self._commands[tool](**arguments)

    def _get(
        self, resource_type: str, name: str, namespace: str, wide: bool, labels: bool, selector: str
    ) -> str:
        command = ["get", _checked("resource_type", resource_type, _KIND)]
        command += [_checked("name", name, _NAME)] if name else []
        command += ["-o", "wide"] if wide else []
        command += ["--show-labels"] if labels else []
        command += [f"--selector={_checked('selector', selector, _SELECTOR)}"] if selector else []
        return self._run(*command, *_within(namespace, every=not name))

    def _describe(self, resource_type: str, name: str, namespace: str) -> str:
        kind, name = _checked("resource_type", resource_type, _KIND), _checked("name", name, _NAME)
        return self._run("describe", kind, name, *_within(namespace))

    def _manifest(self, app: str) -> str:
        label = f"--selector=app={_checked('app', app, _NAME)}"
        kinds = "deployments,statefulsets,daemonsets,services"
        return self._run("get", kinds, "--all-namespaces", label, "-o", "yaml")

    def _logs(self, namespace: str, service: str, errors_only: bool) -> str:
        label = f"--selector=app={_checked('service', service, _NAME)}"
        text = self._run(
            "logs", label, "--all-containers", "--prefix", f"--tail={_LINES}", *_within(namespace)
        )
        if not errors_only:
            return text
        return "\n".join(line for line in text.splitlines() if _ERROR.search(line))

    def _events(self, namespace: str) -> str:
        return self._run("get", "events", "--sort-by=.lastTimestamp", *_within(namespace, every=True))

    def _cluster(self) -> str:
        return f"{self._run('version')}\n{self._run('get', 'nodes', '-o', 'wide')}"

    def _connectivity(self, namespace: str, service: str, port: int) -> str:
        name = _checked("service", service, _NAME)
        ports = self._run("get", "service", name, "-o", "wide", *_within(namespace))
        label = f"--selector=kubernetes.io/service-name={name}"
        ends = self._run("get", "endpointslices", label, *_within(namespace))
        return f"No probe was sent to port {port}; this is what the cluster knows.\n{ports}\n{ends}"

    def _node_service(self, node: str, service: str) -> str:
        name, system = _checked("node", node, _NAME), _checked("service", service, _NAME)
        conditions = self._run("describe", "node", name)
        pods = self._run(
            "get", "pods", "--all-namespaces", "-o", "wide", f"--field-selector=spec.nodeName={name}"
        )
        rows = [line for line in pods.splitlines()[1:] if system in line]
        found = "\n".join(rows) or f"no pod named like {system!r} on this node; see the node's conditions"
        return f"{found}\n\n{conditions}"

    def _run(self, *arguments: str) -> str:
        command = ("kubectl", *self._context, "--request-timeout=20s", *arguments)
        return run(command, "install kubectl, or serve a recording with --recording DIR")


def _within(namespace: str, every: bool = False) -> list[str]:
    if namespace:
        return ["--namespace", _checked("namespace", namespace, _NAME)]
    return ["--all-namespaces"] if every else []


def _checked(field: str, value: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(value):
        raise BadInput(field, value, f"text that matches {pattern.pattern}")
    return value
