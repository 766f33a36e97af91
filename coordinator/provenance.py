"""What a report stands on, read from the ledger: data used, versions, decisions, approvals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from typing import Any

from coordinator.types import Agreed, Decided, Provenance, Used, Version

Record = Mapping[str, Any]
version = cache(metadata.version)  # it reads a file each time


def provenance(records: Iterable[Record]) -> Provenance:
    """The provenance of a case from its records, oldest first."""
    calls: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    decided: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
    versions: dict[tuple[str, str, str], None] = {("pointsman", "pointsman", version("pointsman")): None}
    agreed: dict[str, Agreed] = {}
    for record in records:
        kind, tool = record["kind"], str(record.get("tool") or "")
        for found in _versions(record):
            versions[found] = None
        if kind in ("approval", "grant") and record.get("approval"):
            agreed[record["approval"]] = _agreed(record)
        if not tool or record.get("server") == "gateway":
            continue
        if kind == "intent":
            calls[tool] += 1
        elif kind == "outcome" and record.get("status") == "ok":
            answered[tool] += 1
        if kind in ("intent", "refusal"):
            verdict = str(record.get("code") or record.get("verdict") or "")
            decided[tool, verdict, tuple(record.get("rules") or ())] += 1
    return Provenance(
        data=tuple(Used(tool=tool, calls=n, answered=answered[tool]) for tool, n in sorted(calls.items())),
        versions=tuple(Version(what=what, name=name, version=v) for what, name, v in versions),
        decisions=tuple(
            Decided(tool=tool, verdict=verdict, rules=rules, times=n)
            for (tool, verdict, rules), n in sorted(decided.items())
        ),
        approvals=tuple(agreed.values()),
    )


def _versions(record: Record) -> Iterable[tuple[str, str, str]]:
    """Which versions of something a record names."""
    body = record.get("body") or {}
    if record.get("policy"):
        yield "policy", "rules", str(record["policy"])
    if record.get("step") == "trigger":
        workflow = body.get("workflow")
        if isinstance(workflow, dict):
            yield "workflow", str(workflow.get("id")), str(workflow.get("version") or "")
        elif workflow:
            yield "workflow", str(workflow), version("pointsman")
    if record.get("step") == "finding":
        yield "specialist", str(body.get("specialist")), str(body.get("mode") or "")
    if record["kind"] == "model":
        yield "model", str(body.get("model")), str(body.get("version") or body.get("model"))
        yield "prompt", str(record.get("subject", "")).removeprefix("agent:"), str(body.get("prompt"))


def _agreed(record: Record) -> Agreed:
    body = record.get("body") or {}
    decided = record["kind"] == "grant" or record.get("status") != "pending"
    return Agreed(
        approval=str(record["approval"]),
        tool=str(record.get("tool") or ""),
        status=str(record.get("status") or record["kind"]),
        by=str(record["subject"]) if decided else "",
        reason=str(body.get("reason") or "") if decided else "",
        rules=tuple(body.get("allowed_by") or ()),
    )
