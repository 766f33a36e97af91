"""Figures: what the rows of an evaluation come to, as numbers and as a page."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from coordinator.evaluation.bench import Row

BINS = 10
SURER = 0.8  # the share of cases that a careful reader would rely on
WORST = 20


def figures(rows: list[Row], ledgers: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy, cost, calibration and soundness over all rows."""
    total = len(rows) or 1
    by_fault: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_fault[row.truth[2]].append(row)
    claims = sum(row.claims for row in rows)
    return {
        "cases": len(rows),
        "failed": sum(bool(row.error) for row in rows),
        "a1": round(sum(row.rank == 1 for row in rows) / total, 4),
        "a3": round(sum(row.rank > 0 for row in rows) / total, 4),
        "calls_median": median([row.calls for row in rows] or [0]),
        "calls_max": max((row.calls for row in rows), default=0),
        "seconds_median": round(median([row.seconds for row in rows] or [0.0]), 3),
        "seconds_max": round(max((row.seconds for row in rows), default=0.0), 3),
        "claims": claims,
        "sound_share": round(sum(row.sound for row in rows) / claims, 4) if claims else None,
        "ece": round(_calibration_error(rows), 4),
        "a1_surer": round(_surer(rows), 4),
        "ledger_ok": all(bool(ledger.get("ok")) for ledger in ledgers),
        "ledger_records": sum(int(ledger.get("records") or 0) for ledger in ledgers),
        "by_fault": {
            fault: {
                "cases": len(some),
                "a1": round(sum(row.rank == 1 for row in some) / len(some), 3),
                "a3": round(sum(row.rank > 0 for row in some) / len(some), 3),
                "calls_median": median(row.calls for row in some),
            }
            for fault, some in sorted(by_fault.items())
        },
    }


def printed(summary: dict[str, Any], rows: list[Row]) -> str:
    """The figures as a page: the totals, a line a fault, and the cases that went wrong."""
    share = summary["sound_share"]
    state = "verifies" if summary["ledger_ok"] else "DOES NOT VERIFY"
    lines = [
        f"{summary['cases']} cases, {summary['failed']} failed",
        f"A@1 {summary['a1']:.3f}   A@3 {summary['a3']:.3f}   "
        f"surest {SURER:.0%}: A@1 {summary['a1_surer']:.3f}   ECE {summary['ece']:.3f}",
        f"calls a case: median {summary['calls_median']:g}, most {summary['calls_max']}",
        f"seconds a case: median {summary['seconds_median']:.2f}, most {summary['seconds_max']:.2f}",
        f"claims whose quotes stand in the ledger: {'none made' if share is None else f'{share:.1%}'}"
        f" of {summary['claims']}",
        f"ledger: {summary['ledger_records']} records, {state}",
        "",
        f"{'fault':<36} cases   A@1   A@3  calls",
    ]
    for fault, one in summary["by_fault"].items():
        calls = one["calls_median"]
        lines.append(f"{fault:<36} {one['cases']:>5} {one['a1']:>5.2f} {one['a3']:>5.2f} {calls:>6g}")
    wrong = [row for row in rows if row.rank != 1]
    lines += ["", f"not named first: {len(wrong)}"] if wrong else []
    for row in wrong[:WORST]:
        guess = " ".join(row.guesses[0][1:]) if row.guesses else row.error or "no cause named"
        lines.append(f"  {row.case:<22} {row.truth[1]} {row.truth[2]}  <-  {guess}")
    return "\n".join(lines)


def _calibration_error(rows: list[Row]) -> float:
    """Expected calibration error of the first guess, in ten bins."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for row in rows:
        if row.confidences:
            sure = row.confidences[0]
            bins[min(BINS - 1, int(sure * BINS))].append((sure, row.rank == 1))
    answered = sum(map(len, bins.values())) or 1
    return sum(abs(sum(c for c, _ in some) - sum(r for _, r in some)) for some in bins.values()) / answered


def _surer(rows: list[Row]) -> float:
    """A@1 when only the surer part of the cases is answered."""
    order = sorted(rows, key=lambda row: -(row.confidences[0] if row.confidences else 0.0))
    kept = order[: max(1, int(len(order) * SURER))]
    return sum(row.rank == 1 for row in kept) / len(kept) if kept else 0.0
