"""Cloud-OpsBench cases: where they are, what they ask, what is true, and their answers as a recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.evaluation.cases import (
    NOTHING,
    Answer,
    BenchCase,
    DataSet,
    hypotheses,
    in_order,
    nothing_there,
)

if TYPE_CHECKING:
    from coordinator.types import CaseResult

Cache = dict[str, Any]  # "Tool:{json arguments}" to the recorded answer
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


def find(directory: Path) -> list[BenchCase]:
    """All cases under a directory, in a natural order."""
    found = [
        path.parent
        for path in directory.glob("**/metadata.json")
        if (path.parent / "tool_cache.json").is_file()
    ]
    if not found:
        raise nothing_there(directory, "CATEGORY/N/metadata.json beside tool_cache.json")
    systems = {path.parents[1] for path in found}
    return in_order([_case(path, path.parents[1].name if len(systems) > 1 else "") for path in found])


def write_recording(
    case: BenchCase, directory: Path, changed: Callable[[Cache], Cache] | None = None
) -> Path:
    """The case's answers as a recording that the tool servers serve; the truth stays behind."""
    cache = read_cache(case)
    cache = changed(cache) if changed else cache
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


def read_cache(case: BenchCase) -> Cache:
    """The recorded answers of a case."""
    return json.loads((case.directory / "tool_cache.json").read_text(encoding="utf-8"))


def answers(cache: Cache) -> Iterator[tuple[str, dict[str, Any], str]]:
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
        truth=(NOTHING if not truth.get("root_cause") else _answer(truth),),
        fault=str(truth.get("root_cause") or "nothing"),
    )


def _answer(truth: dict[str, Any]) -> Answer:
    return (str(truth["fault_taxonomy"]), str(truth["fault_object"]), str(truth["root_cause"]))


def _clock(collected: str) -> str:
    """When the answers were collected, as an RFC 3339 moment; the epoch of the data when it is not said."""
    try:
        moment = datetime.fromisoformat(collected)
    except ValueError:
        moment = datetime(2025, 1, 1, tzinfo=UTC)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def causes(result: CaseResult) -> list[tuple[Answer, float]]:
    """Category, object and label of every hypothesis, best first."""
    return [((h["category"], h["object"], h["label"]), float(h["confidence"])) for h in hypotheses(result)]


def data(changed: Callable[[Cache], Cache] | None = None) -> DataSet:
    """The data set; what was recorded may be changed before it is served."""
    return DataSet(
        name="cloudopsbench",
        words=("taxonomy", "object", "root_cause"),
        asked=("kubernetes",),
        depths=(1, 3),
        write=lambda case, directory: write_recording(case, directory, changed),
        answers=causes,
    )
