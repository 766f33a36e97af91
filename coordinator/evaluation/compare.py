"""Compares two evaluations: what got better, what got worse, case by case and in sum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coordinator.errors import TriggerUnreadable

FIGURES = (
    "a1", "a2", "a3", "a4", "a5", "avg5", "decoys", "failed", "a1_surer", "ece", "sound_share",
    "calls_median", "seconds_median",
)  # fmt: skip
LESS_IS_BETTER = frozenset({"decoys", "failed", "ece", "calls_median", "seconds_median"})
NOISE = {"seconds_median": 0.1}  # differences up to here say nothing


def load(path: Path) -> dict[str, Any]:
    """What `pointsman eval NAME --out FILE` wrote."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TriggerUnreadable(
            f"cannot read {str(path)!r}: {error}; name a file that `pointsman eval NAME --out FILE` wrote"
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("cases"), list) or "figures" not in value:
        raise TriggerUnreadable(
            f"{str(path)!r} is not an evaluation: name a file that `pointsman eval NAME --out FILE` wrote"
        )
    return value


def compare(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Figures side by side, and the cases whose place of the truth changed."""
    before = {row["case"]: row for row in old["cases"]}
    after = {row["case"]: row for row in new["cases"]}
    both = [name for name in before if name in after]
    moved = [
        {"case": name, "fault": after[name].get("fault", ""), "before": before[name]["rank"],
         "after": after[name]["rank"]}
        for name in both
        if before[name]["rank"] != after[name]["rank"]
    ]  # fmt: skip
    return {
        "benchmarks": [old.get("benchmark", ""), new.get("benchmark", "")],
        "cases": {
            "both": len(both),
            "only_before": len(before) - len(both),
            "only_after": len(after) - len(both),
        },
        "figures": {
            name: {"before": old["figures"].get(name), "after": new["figures"].get(name)}
            for name in FIGURES
            if name in old["figures"] or name in new["figures"]
        },
        "better": [one for one in moved if _place(one["after"]) < _place(one["before"])],
        "worse": [one for one in moved if _place(one["after"]) > _place(one["before"])],
    }


def _place(rank: int) -> int:
    return rank or 10_000


def printed(found: dict[str, Any]) -> str:
    """The comparison as a page."""
    told, cases = found["benchmarks"], found["cases"]
    lines = [f"{told[0]} → {told[1]}" if told[0] != told[1] else told[0]]
    lines[0] += f": {cases['both']} cases in both"
    if cases["only_before"] or cases["only_after"]:
        lines[0] += f", {cases['only_before']} only before, {cases['only_after']} only after"
    lines += ["", f"{'':<16}{'before':>9}{'after':>9}"]
    for name, pair in found["figures"].items():
        lines.append(
            f"{name:<16}{_number(pair['before']):>9}{_number(pair['after']):>9}  {_word(name, pair)}"
        )
    for kind in ("better", "worse"):
        if found[kind]:
            lines += ["", f"{kind}: {len(found[kind])}"]
        for one in found[kind]:
            places = " → ".join(str(one[when]) if one[when] else "not named" for when in ("before", "after"))
            lines.append(f"  {one['case']:<28} {places:<22} {one['fault']}".rstrip())
    if not found["better"] and not found["worse"]:
        lines += ["", "every case in both came to the same place"]
    return "\n".join(lines)


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:g}"


def _word(name: str, pair: dict[str, Any]) -> str:
    before, after = pair["before"], pair["after"]
    if before is None or after is None or abs(after - before) <= NOISE.get(name, 0.0):
        return ""
    return "better" if (after < before) == (name in LESS_IS_BETTER) else "worse"
