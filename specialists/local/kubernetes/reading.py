"""Reading what kubectl prints: tables, descriptions of pods, events, probes, quantities, ages, manifests."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

_CELL = re.compile(r"\S+(?: \S+)*")
_AGE = re.compile(r"(\d+)([dhms])")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50} | {
    "m": 1e-3, "": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
}  # fmt: skip
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def age(text: str) -> float | None:
    """Seconds of the first age in a text ("4m11s", "2 (29s ago)", "19s (x15 over 101s)"), or None."""
    found = re.search(r"(?:\d+[dhms])+", text)
    return sum(int(n) * _SECONDS[u] for n, u in _AGE.findall(found.group())) if found else None


def quantity(text: str) -> float | None:
    """A Kubernetes quantity as a number ("250m" is 0.25, "1Gi" is 2**30), or None."""
    found = re.fullmatch(r"([\d.]+)(Ki|Mi|Gi|Ti|Pi|[mkKMGTP]?)", str(text).strip())
    return float(found[1]) * _UNITS[found[2]] if found else None


def labels(text: str) -> dict[str, str]:
    """ "a=b,c=d" as a mapping; "<none>" is empty."""
    parts = (part.split("=", 1) for part in re.split(r"[,\s]+", text.strip()) if "=" in part)
    return {key: value for key, value in parts}


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells by column name, and the line itself, to quote."""

    cells: dict[str, str]
    line: str

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


def table(text: str) -> list[Row]:
    """The rows of a kubectl table, also where cells are empty or columns have shifted."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not lines[0].startswith(("NAME", "LAST SEEN")):
        return []
    heads = [(found.start(), found.group()) for found in _CELL.finditer(lines[0])]
    heads = [(start + offset, name) for start, head in heads for offset, name in _split_head(head)]
    return [Row(_cells(line, heads), line.strip()) for line in lines[1:]]


def _split_head(head: str) -> list[tuple[int, str]]:
    """Column names touch when every cell of a column is narrow; only known pairs hold a space."""
    known = ("ACCESS MODES", "LAST SEEN", "NOMINATED NODE", "READINESS GATES", "RECLAIM POLICY", "FIRST SEEN")
    pattern = "|".join(known) + r"|\S+"
    return [(found.start(), found.group()) for found in re.finditer(pattern, head)]


def _cells(line: str, heads: list[tuple[int, str]]) -> dict[str, str]:
    cells = [(found.start(), found.group()) for found in _CELL.finditer(line)]
    if len(cells) == len(heads):
        return {name: cell for (_, name), (_, cell) in zip(heads, cells, strict=True)}
    shift = cells[1][0] - heads[1][0] if len(cells) > 1 and len(heads) > 1 else 0
    row, after = {heads[0][1]: cells[0][1]}, 1
    for start, cell in cells[1:]:
        choices = range(after, len(heads))
        best = min(choices, key=lambda i: abs(heads[i][0] - (start - shift)), default=None)
        if best is None:
            break
        row[heads[best][1]] = cell
        after = best + 1
    return row


@dataclass(frozen=True)
class Happening:
    """One event of an object: how it is written, how long ago it was last seen, how often."""

    type: str
    reason: str
    ago: float
    times: int
    message: str
    line: str


def happenings(text: str) -> list[Happening]:
    """The events at the end of a description, latest first."""
    found = []
    tail = re.split(r"(?m)^Events:", text)[-1] if re.search(r"(?m)^Events:", text) else ""
    for line in tail.splitlines():
        cells = re.split(r"\s{2,}", line.strip(), maxsplit=4)
        if len(cells) < 4 or cells[0] not in ("Normal", "Warning"):
            continue
        seconds = age(cells[2])
        times = re.search(r"\(x(\d+)", cells[2])
        message = cells[4] if len(cells) > 4 else ""
        found.append(
            Happening(
                cells[0], cells[1], 0.0 if seconds is None else seconds,
                int(times[1]) if times else 1, message, line.strip(),
            )
        )  # fmt: skip
    return sorted(found, key=lambda h: h.ago)


@dataclass(frozen=True)
class Probe:
    """A health check as a pod's description prints it."""

    kind: str  # grpc, http-get, tcp-socket, exec
    port: str  # a number or a name; empty for exec
    path: str
    delay: float
    timeout: float
    period: float
    failures: int
    line: str

    @property
    def patience(self) -> float:
        """Seconds a container has, from its start, before this probe gives up."""
        return self.delay + max(0, self.failures - 1) * self.period + self.timeout


def probe(text: str) -> Probe | None:
    """Read "grpc <pod>:9555  delay=5s timeout=1s period=10s #success=1 #failure=3"."""
    text = text.strip()
    kind = text.split(" ", 1)[0]
    if kind not in ("grpc", "http-get", "tcp-socket", "exec"):
        return None
    target = text[len(kind) :].split(" delay=")[0]
    where = re.search(r":([\w-]+)(/\S*)?\s*(?:\S*)$", target.strip()) if kind != "exec" else None

    def setting(name: str, default: float) -> float:
        found = re.search(rf"{name}=(\d+)", text)
        return float(found[1]) if found else default

    return Probe(
        kind=kind,
        port=where[1] if where else "",
        path=(where[2] or "") if where else "",
        delay=setting("delay", 0),
        timeout=setting("timeout", 1),
        period=setting("period", 10),
        failures=int(setting("#failure", 3)),
        line=text,
    )


@dataclass(frozen=True)
class Container:
    """One container of a described pod."""

    name: str
    init: bool
    image: str
    ports: tuple[str, ...]  # "9555/TCP"
    state: str
    reason: str
    last_reason: str
    last_exit: str
    restarts: int
    probes: dict[str, Probe]  # Liveness, Readiness, Startup
    env: dict[str, str]
    mounts: tuple[str, ...]  # "/data from data (rw)"
    limits: dict[str, str]
    text: str


@dataclass(frozen=True)
class Described:
    """A pod as `describe` prints it."""

    text: str
    node: str
    containers: tuple[Container, ...]
    node_selector: dict[str, str]
    events: list[Happening] = field(default_factory=list)

    def recent(self, *reasons: str) -> list[Happening]:
        """Its events of these reasons, latest first."""
        return [event for event in self.events if event.reason in reasons]


def described(text: str) -> Described:
    """Read the description of a pod."""
    node = re.search(r"(?m)^Node:\s+(\S+)", text)
    chosen = re.search(r"(?m)^Node-Selectors:\s+(.*(?:\n {4,}\S+=\S*)*)", text)
    return Described(
        text=text,
        node="" if not node or node[1].startswith("<none") else node[1].split("/")[0],
        containers=tuple(_containers(text, "Init Containers", True) + _containers(text, "Containers", False)),
        node_selector=labels(chosen[1]) if chosen else {},
        events=happenings(text),
    )


def _containers(text: str, section: str, init: bool) -> list[Container]:
    body = re.search(rf"(?m)^{section}:\n((?:[ ].*\n?|\n)*)", text)
    if not body:
        return []
    parts = re.split(r"(?m)^  (\S[^\n]*?):[ \t]*\n", body[1])
    return [_container(name, init, block) for name, block in zip(parts[1::2], parts[2::2], strict=False)]


def _container(name: str, init: bool, block: str) -> Container:
    def one(key: str) -> str:
        found = re.search(rf"(?m)^    {key}:[ \t]+(\S.*)$", block)
        return found[1].strip() if found else ""

    def section(key: str) -> str:
        found = re.search(rf"(?m)^    {key}:[ \t]*(\S.*)?\n((?:      .*\n?)*)", block)
        return found[2] if found else ""

    pairs = (line.strip().split(":", 1) for line in section("Environment").splitlines() if ":" in line)
    ports = one("Ports") or one("Port")
    last = section("Last State")
    probes = {kind: probe(one(kind)) for kind in ("Liveness", "Readiness", "Startup")}
    return Container(
        name=name,
        init=init,
        image=one("Image"),
        ports=tuple(port.strip() for port in ports.split(",") if "/" in port),
        state=one("State"),
        reason=_under(section("State"), "Reason"),
        last_reason=_under(last, "Reason"),
        last_exit=_under(last, "Exit Code"),
        restarts=int(one("Restart Count") or 0),
        probes={kind: found for kind, found in probes.items() if found},
        env={key.strip(): value.strip() for key, value in pairs},
        mounts=tuple(line.strip() for line in section("Mounts").splitlines() if line.strip()),
        limits={
            k.strip(): v.strip() for k, v in re.findall(r"(?m)^\s+(\w[\w-]*):\s+(\S+)$", section("Limits"))
        },
        text=block,
    )


def _under(block: str, key: str) -> str:
    found = re.search(rf"(?m)^\s+{key}:[ \t]+(\S.*)$", block)
    return found[1].strip() if found else ""


def manifests(text: str) -> list[dict[str, Any]]:
    """The documents of a manifest; what is not YAML is nothing."""
    return [document for document in parsed(text) if isinstance(document, dict)]


def parsed(text: str) -> list[Any]:
    """The documents of a YAML text, whatever they are; what is not YAML is nothing."""
    try:
        return list(yaml.load_all(text, Loader=_LOADER))
    except yaml.YAMLError:
        return []
