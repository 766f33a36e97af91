"""Probes: health checks that fail although nothing is wrong with the container they check."""

from __future__ import annotations

import re
from collections.abc import Iterable

from specialists.local.kubernetes.cluster import Look
from specialists.local.kubernetes.reading import Container, Described, Happening, Probe
from specialists.local.kubernetes.scene import Scene
from specialists.local.kubernetes.suspects import Suspect

WRONG_LANGUAGE = re.compile(
    r"malformed HTTP|transport connection broken|server gave HTTP response to HTTPS|tls: first record"
    r"|TLS handshake|error reading server preface|frame too large|http2:|[Uu]nimplemented|does not implement"
    r"|unknown service grpc\.health|HTTP/1\.x|HTTP response to HTTP/2|connection error: desc"
)
MISUNDERSTOOD = re.compile(r"\bEOF\b|connection reset by peer|statuscode: (?:400|405|426|505)")
IMPATIENT = 12.0  # seconds within which few containers are ready to answer


async def examine(scene: Scene) -> list[Suspect]:
    """Containers that are restarted, or kept out of service, by a probe of theirs."""
    found = []
    for app, look in scene.described.items():
        for container in look.pod.containers:
            found += _container(scene, app, look, container)
    return found


def _container(scene: Scene, app: str, look: Look, container: Container) -> list[Suspect]:
    pod = look.pod
    found: list[Suspect] = []
    killed = _killed_by_probe(pod, container)
    for kind in ("Liveness", "Startup", "Readiness"):
        probe, failure = container.probes.get(kind), _failure(pod, kind)
        if probe is None or failure is None or (kind != "Readiness" and not killed):
            continue
        if kind == "Readiness" and (scene.sick[app].ready or (killed and found)):
            continue
        meaning = _meaning(kind, probe, failure, container, pod)
        if meaning is None:
            continue
        label, confidence, because = meaning
        evidence = look.cite(failure.line) + look.cite(f"{kind}:", probe.line[:40])
        evidence += look.cite("Killing") if kind != "Readiness" else ()
        evidence += scene.cite("pods", scene.sick[app].row.line)
        found.append(Suspect(label, f"app/{app}", confidence, evidence, because))
    return found


def _killed_by_probe(pod: Described, container: Container) -> bool:
    """Whether the kubelet ended the container because of a probe."""
    said = (event.message for event in pod.recent("Killing", "Unhealthy"))
    return any("probe" in words and "restart" in words for words in said) or (
        container.restarts > 0
        and container.last_exit in ("143", "137")
        and _failure(pod, "Liveness") is not None
    )


def _failure(pod: Described, kind: str) -> Happening | None:
    said = pod.recent("Unhealthy", "ProbeWarning")
    return next((e for e in said if e.message.startswith(f"{kind} probe")), None)


def _meaning(
    kind: str, probe: Probe, failure: Happening, container: Container, pod: Described
) -> tuple[str, float, str] | None:
    """The fault of the probe itself, or None when it is the container that does not answer."""
    which = "readiness" if kind == "Readiness" else "liveness"
    if WRONG_LANGUAGE.search(failure.message):
        because = f"the {probe.kind} probe got an answer it does not understand"
        return f"{which}_probe_incorrect_protocol", 0.97, because
    if "/app-health/" in probe.path:  # a mesh rewrites probes; what it shows is not what was configured
        return None
    others = [p for k, p in container.probes.items() if k != kind]
    listening = _listening(container, others, pod)
    if probe.port and listening and probe.port not in listening:
        because = f"it asks port {probe.port}, the container has {', '.join(sorted(listening))}"
        return f"{which}_probe_incorrect_port", 0.97, because
    if "statuscode: 404" in failure.message and any(p.kind != probe.kind for p in others):
        because = f"it asks {probe.path or '/'} over HTTP of a container that is checked otherwise elsewhere"
        return f"{which}_probe_incorrect_protocol", 0.7, because
    if MISUNDERSTOOD.search(failure.message) and any(p.kind != probe.kind for p in others):
        because = f"its {probe.kind} probe is cut off, while another probe speaks otherwise to the container"
        return f"{which}_probe_incorrect_protocol", 0.8, because
    if which == "liveness":
        return _timing(probe, container)
    return None


def _listening(container: Container, others: Iterable[Probe], pod: Described) -> set[str]:
    """Ports on which the container is known to listen: declared, configured, or asked by its other probes."""
    ports = {
        port.split("/")[0] for port in container.ports if port[0].isdigit() and not port.startswith("0/")
    }
    ports |= {
        value for key, value in container.env.items() if key in ("PORT", "SERVER_PORT") and value.isdigit()
    }
    if not ports:
        ports = {p.port for p in others if p.port.isdigit()}
    names = {p for c in pod.containers for p in re.findall(r"\(([\w-]+)\)", " ".join(c.ports))}
    return ports | names if ports else set()


def _timing(probe: Probe, container: Container) -> tuple[str, float, str] | None:
    """A probe that gives a starting container hardly any time."""
    if container.last_reason not in ("", "Error", "Completed") or container.last_exit in ("1", "127", "126"):
        return None
    because = (
        f"it allows {probe.patience:g} s from the start (delay {probe.delay:g} s, {probe.failures} failures "
        f"of {probe.period:g} s)"
    )
    if probe.failures <= 1 or probe.patience <= 5:
        return "liveness_probe_incorrect_timing", 0.94, because
    return "liveness_probe_incorrect_timing", 0.85 if probe.patience <= IMPATIENT else 0.55, because
