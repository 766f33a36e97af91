"""Perturbations of Cloud-OpsBench cases: the same fault in a cluster that looks otherwise.

`rename` gives applications, nodes, namespace and address variables other names; `ports` moves ports;
`restarted` lets healthy pods have restarted before; `dangling` adds variables that lead nowhere and nobody
uses; `elsewhere` adds an old crash loop in another namespace. `heal` takes the fault out of cases whose
objects are all in order, which makes a healthy snapshot.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from coordinator.errors import TriggerUnreadable
from coordinator.evaluation.cases import NOTHING, BenchCase
from coordinator.evaluation.cloudopsbench import Cache, read_cache

WORDS = (
    "amber", "birch", "cobalt", "delta", "ember", "fjord", "garnet", "heron", "iris", "juniper", "kelp",
    "larch", "mistral", "nectar", "ochre", "pebble", "quill", "raven", "sable", "tundra", "umber", "velvet",
    "willow", "yarrow", "zephyr",
)  # fmt: skip
KEPT_PORTS = frozenset({3306, 5432, 27017, 9092, 5672, 30080})  # the port itself says what listens there
LEAST_PORT, SHIFT = 1025, 1117
RESTARTS = ("3 (2d ago)", "1 (4m ago)", "12 (26h ago)")
OLD_LOOP = (
    "NAME                     READY   STATUS             RESTARTS         AGE\n"
    "report-5d9c8b7f6-abcde   0/1     CrashLoopBackOff   812 (3m ago)     44d\n"
)
HEALABLE = frozenset(
    {"pod_cpu_overload", "pod_network_delay", "node_network_delay", "node_network_packet_loss",
     "kube_proxy_unavailable"}
)  # fmt: skip

Change = Callable[[Cache], Cache]


def rename(cache: Cache) -> Cache:
    """Other names for applications, nodes, the namespace and variables that hold addresses."""
    names = _names(cache)
    cut = {name[:-1]: new[:-1] for name, new in names.items() if len(name) > 9}  # a mistyped name stays so
    table = {**cut, **names}
    longest = sorted(table, key=len, reverse=True)
    pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, longest))})(?![A-Za-z0-9])")

    def text(words: str) -> str:
        named = pattern.sub(lambda m: table[m[0]], words)
        return re.sub(r"\b([A-Z][A-Z0-9_]*)_(SERVICE_ADDR|ADDR|HOST)\b", _variable, named)

    return _everywhere(cache, text)


def _variable(match: re.Match[str]) -> str:
    return f"DEP_{_digest(match[1])[:4].upper()}_{match[2].removeprefix('SERVICE_')}"


def _names(cache: Cache) -> dict[str, str]:
    """Every name to change with its new one; no two get the same."""
    old: list[str] = []
    for kind in ("deployments", "services", "statefulsets", "nodes"):
        old += _column(cache, kind)
    old += [ns for ns in _asked_namespaces(cache) if ns not in {"default", "kube-system"}]
    table: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(old):
        number = int(_digest(name), 16)
        new = next(
            new
            for extra in range(10_000)
            if (new := f"{WORDS[(number + extra) % len(WORDS)]}-{WORDS[(number // 97 + extra) % len(WORDS)]}")
            not in taken
        )
        taken.add(new)
        table[name] = new
    return table


def _asked_namespaces(cache: Cache) -> list[str]:
    found = (json.loads(key.partition(":")[2] or "{}").get("namespace") for key in _calls(cache))
    return list(dict.fromkeys(ns for ns in found if ns))


def _column(cache: Cache, kind: str) -> list[str]:
    """The first column of the listings of a kind."""
    found: list[str] = []
    for key in _calls(cache):
        name, _, written = key.partition(":")
        given = json.loads(written or "{}")
        plain = name == "GetResources" and given.get("resource_type") == kind and not given.get("name")
        if plain and isinstance(cache[key], str) and given.get("namespace") != "kube-system":
            found += [line.split()[0] for line in cache[key].splitlines()[1:] if line.strip()]
    return list(dict.fromkeys(name for name in found if re.fullmatch(r"[a-z0-9.-]{2,}", name)))


def ports(cache: Cache) -> Cache:
    """Other numbers for the ports that manifests name."""
    manifests = "\n".join(str(cache[key]) for key in _calls(cache) if key.startswith("GetAppYAML"))
    found = {int(n) for n in re.findall(r"(?i)port\"?:\s*\"?(\d{4,5})\b", manifests)}
    table = {str(n): str(n + SHIFT) for n in found if LEAST_PORT <= n < 60_000 and n not in KEPT_PORTS}
    if not table:
        return cache
    pattern = re.compile(rf"(?<![\d.])(?:{'|'.join(table)})(?![\d.]*\d)")
    return _everywhere(cache, lambda words: pattern.sub(lambda m: table[m[0]], words))


def restarted(cache: Cache) -> Cache:
    """Two healthy pods that have restarted before and run since."""
    changed = dict(cache)
    for key in _calls(cache):
        if not key.startswith("GetResources") or not isinstance(cache[key], str):
            continue
        given = json.loads(key.partition(":")[2])
        if given.get("resource_type") == "pods" and given.get("output_wide") and not given.get("name"):
            changed[key] = _with_restarts(cache[key])
    return changed


def _with_restarts(listing: str) -> str:
    lines = listing.splitlines()
    steady = [n for n, line in enumerate(lines) if re.search(r"\b(\d+)/\1 +Running +0 ", line)]
    for n in sorted(steady, key=lambda n: _digest(lines[n].split()[0]))[:2]:
        again = RESTARTS[int(_digest(lines[n]), 16) % len(RESTARTS)]
        lines[n] = re.sub(r"( Running +)0 +", rf"\g<1>{again}   ", lines[n], count=1)
    return "\n".join(lines) + "\n"


def dangling(cache: Cache) -> Cache:
    """Variables with addresses of things that do not exist, which nothing depends on."""
    changed = dict(cache)
    for key in _calls(cache):
        if key.startswith("GetAppYAML") and isinstance(cache[key], str):
            changed[key] = re.sub(
                r"(?m)^( +)env:\n( +)- name",
                r'\1env:\n\2- name: TELEMETRY_COLLECTOR_ADDR\n\2  value: "collector-gone:4317"\n'
                r'\2- name: LEGACY_HOST\n\2  value: "oldthing"\n\2- name',
                cache[key],
                count=1,
            )
    return changed


def elsewhere(cache: Cache) -> Cache:
    """An old crash loop in a namespace that has nothing to do with the case."""
    changed = dict(cache)
    for key in _calls(cache):
        if key.startswith('GetResources:{"resource_type":"namespaces","name":""') and isinstance(
            cache[key], str
        ):
            changed[key] = cache[key].rstrip("\n") + "\nbatch-old         Active   300d\n"
    for more in ("", ',"output_wide":true'):
        changed[f'GetResources:{{"resource_type":"pods","name":"","namespace":"batch-old"{more}}}'] = OLD_LOOP
    return changed


def heal(cache: Cache) -> Cache:
    """No alert, every system service running, every connection open."""
    changed = dict(cache)
    for key in _calls(cache):
        value = cache[key]
        if key.startswith("GetAlerts"):
            changed[key] = {}
        elif key.startswith("CheckNode") and isinstance(value, str):
            changed[key] = value.replace("inactive (dead)", "active (running)")
        elif key.startswith("CheckService") and isinstance(value, str) and "Failed" in value:
            changed[key] = "open\nConnection Succeeded"
    return changed


KINDS: dict[str, Change] = {
    "restarted": restarted, "dangling": dangling, "elsewhere": elsewhere, "rename": rename, "ports": ports,
}  # fmt: skip


def chain(names: Iterable[str], healthy: bool = False) -> Change:
    """The named perturbations one after the other, in an order that fits them."""
    wanted = [name.strip() for name in names if name.strip()]
    wanted = list(KINDS) if wanted == ["all"] else wanted
    if lost := [name for name in wanted if name not in KINDS]:
        raise TriggerUnreadable(f"no perturbation {lost[0]!r}: choose from {', '.join(KINDS)}, or say all")
    steps = ([heal] if healthy else []) + [KINDS[name] for name in KINDS if name in wanted]

    def change(cache: Cache) -> Cache:
        for step in steps:
            cache = step(cache)
        return cache

    return change


def perturbed(cases: list[BenchCase], names: Iterable[str]) -> list[BenchCase]:
    """The cases with the truth as it reads after the perturbation."""
    if not {"rename", "all"} & {name.strip() for name in names}:
        return cases
    return [_renamed(case) for case in cases]


def _renamed(case: BenchCase) -> BenchCase:
    table = _names(read_cache(case))
    truth = []
    for answer in case.truth:
        parts = [word.partition("/") for word in answer]
        truth.append(tuple(f"{kind}{slash}{table.get(name, name)}" for kind, slash, name in parts))
    return replace(case, truth=tuple(truth), namespace=table.get(case.namespace, case.namespace))


def healed(cases: list[BenchCase]) -> list[BenchCase]:
    """The cases of which healing leaves a cluster in order, with nothing to be found."""
    return [
        replace(case, truth=(NOTHING,), fault=f"healthy (was {case.fault})")
        for case in cases
        if case.fault in HEALABLE
    ]


def _calls(cache: Cache) -> list[str]:
    return [key for key in cache if ":" in key]


def _everywhere(value: Any, text: Callable[[str], str]) -> Any:
    """A value with every text in it changed; keys too, as they hold arguments."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {
            text(key) if isinstance(key, str) else key: _everywhere(one, text) for key, one in value.items()
        }
    if isinstance(value, list):
        return [_everywhere(one, text) for one in value]
    return value


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:12]
