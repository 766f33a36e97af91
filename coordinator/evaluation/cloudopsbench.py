"""Cloud-OpsBench cases: where they are, what they ask, what is true, and their answers as a recording."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordinator.errors import TriggerUnreadable

CLUSTER_WIDE = frozenset({"nodes", "persistentvolumes", "storageclasses", "namespaces"})
TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "DescribeResource": (
        "describe",
        {"resource_type": "resource_type", "name": "name", "namespace": "namespace"},
    ),
    "GetAppYAML": ("manifest", {"app_name": "app"}),
    "GetErrorLogs": ("logs", {"namespace": "namespace", "service_name": "service"}),
    "GetRecentLogs": ("logs", {"namespace": "namespace", "service_name": "service"}),
    "GetServiceDependencies": ("dependencies", {"service_name": "service"}),
    "GetAlerts": ("alerts", {}),
    "GetClusterConfiguration": ("cluster", {}),
    "CheckServiceConnectivity": (
        "connectivity",
        {"namespace": "namespace", "service_name": "service", "port": "port"},
    ),
    "CheckNodeServiceStatus": ("node_service", {"node_name": "node", "service_name": "service"}),
    "GetResources": (
        "get",
        {
            "resource_type": "resource_type",
            "name": "name",
            "namespace": "namespace",
            "output_wide": "wide",
            "show_labels": "labels",
            "label_selector": "selector",
        },
    ),
}


@dataclass(frozen=True)
class BenchCase:
    """One case: its name, its files, the question an operator would ask, and (for the scorer) the truth."""

    name: str
    directory: Path
    namespace: str
    question: str
    truth: tuple[str, str, str]  # (taxonomy, object, root cause)


def find(directory: Path) -> list[BenchCase]:
    """All cases under a directory, in a natural order."""
    found = [
        path.parent
        for path in directory.glob("**/metadata.json")
        if (path.parent / "tool_cache.json").is_file()
    ]
    if not found:
        raise TriggerUnreadable(
            f"no cases in {str(directory)!r}: expected CATEGORY/N/metadata.json beside tool_cache.json; "
            "unpack the data and name its directory"
        )
    systems = {path.parents[1] for path in found}
    cases = [_case(path, path.parents[1].name if len(systems) > 1 else "") for path in found]
    return sorted(
        cases, key=lambda case: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", case.name)]
    )


def chosen(cases: list[BenchCase], names: list[str], limit: int) -> list[BenchCase]:
    """The named cases, or so many spread evenly over all of them."""
    if names:
        known = {case.name: case for case in cases}
        if lost := [name for name in names if name not in known]:
            raise TriggerUnreadable(
                f"no case {lost[0]!r}: cases are named like {cases[0].name!r}; look into the directory"
            )
        return [known[name] for name in names]
    if not limit or limit >= len(cases):
        return cases
    return [cases[i * len(cases) // limit] for i in range(limit)]


def write_recording(case: BenchCase, directory: Path) -> Path:
    """The case's answers as a recording that the tool servers serve; the truth stays behind."""
    cache = json.loads((case.directory / "tool_cache.json").read_text(encoding="utf-8"))
    (directory / "answers").mkdir(parents=True, exist_ok=True)
    clock = _clock(str(cache.get("collection_timestamp", "")))
    about = {
        "format": "pointsman-recording/1",
        "id": case.name,
        "title": case.question.rstrip("."),
        "question": case.question,
        "namespace": case.namespace,
        "started": clock,
        "clock": clock,
        "ended": clock,
    }
    with (directory / "answers" / "kubernetes.ndjson").open("w", encoding="utf-8") as file:
        for tool, arguments, text in answers(cache):
            file.write(json.dumps({"tool": tool, "arguments": arguments, "text": text}) + "\n")
    (directory / "recording.json").write_text(json.dumps(about), encoding="utf-8")
    return directory


def answers(cache: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The cached answers as calls of the kubernetes tool server.

    Kinds that belong to the whole cluster are also found without the namespace they were asked with.
    """
    seen: set[str] = set()
    for key, value in cache.items():
        name, _, written = key.partition(":")
        if name not in TOOLS:
            continue
        tool, mapping = TOOLS[name]
        given = json.loads(written)
        arguments = {ours: given[theirs] for theirs, ours in mapping.items() if given.get(theirs)}
        if name == "GetErrorLogs":
            arguments["errors_only"] = True
        text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
        wide = {k: v for k, v in arguments.items() if k != "namespace"}
        forms = [arguments] + ([wide] if arguments.get("resource_type") in CLUSTER_WIDE else [])
        for form in forms:
            same = f"{tool} {json.dumps(form, sort_keys=True)}"
            if same not in seen:
                seen.add(same)
                yield tool, form, text


def _case(directory: Path, system: str) -> BenchCase:
    about = json.loads((directory / "metadata.json").read_text(encoding="utf-8"))
    truth = about.get("result") or {}
    name = f"{directory.parent.name}/{directory.name}"
    return BenchCase(
        name=f"{system}/{name}" if system else name,
        directory=directory,
        namespace=str(about.get("namespace", "")),
        question=str(about.get("query") or "Something is wrong."),
        truth=(
            str(truth.get("fault_taxonomy", "")),
            str(truth.get("fault_object", "")),
            str(truth.get("root_cause", "")),
        ),
    )


def _clock(collected: str) -> str:
    """When the answers were collected, as an RFC 3339 moment; the epoch of the data when it is not said."""
    try:
        moment = datetime.fromisoformat(collected)
    except ValueError:
        moment = datetime(2025, 1, 1, tzinfo=UTC)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
