"""Figures: what the rows of an evaluation come to, as numbers and as a page."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from coordinator.evaluation.cases import NOTHING, Answer, DataSet, Row
from coordinator.evaluation.picture import bars

BINS = 10
SURER = 0.8  # the share of cases that a careful reader would rely on
WORST = 20
WIDTH = 44  # of the column of faults


def figures(
    rows: list[Row],
    ledgers: list[dict[str, Any]],
    depths: tuple[int, ...] = (1, 3),
    cpu_seconds: float = 0.0,
) -> dict[str, Any]:
    """Accuracy, cost, calibration and soundness over all rows."""
    by_fault: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_fault[row.fault].append(row)
    claims = sum(row.claims for row in rows)
    reached = {f"a{k}": round(at(rows, k), 4) for k in depths}
    return {
        "cases": len(rows),
        "failed": sum(bool(row.error) for row in rows),
        **reached,
        **({f"avg{depths[-1]}": round(sum(reached.values()) / len(depths), 4)} if len(depths) > 2 else {}),
        "decoys": sum(row.decoy for row in rows),
        "calls_median": median([row.calls for row in rows] or [0]),
        "calls_max": max((row.calls for row in rows), default=0),
        "seconds_median": round(median([row.seconds for row in rows] or [0.0]), 3),
        "seconds_max": round(max((row.seconds for row in rows), default=0.0), 3),
        "cpu_seconds_a_case": round(cpu_seconds / (len(rows) or 1), 3),
        "claims": claims,
        "sound_share": round(sum(row.sound for row in rows) / claims, 4) if claims else None,
        "ece": round(_calibration_error(rows), 4),
        "calibration": calibration(rows),
        "a1_surer": round(_surer(rows), 4),
        "ledger_ok": all(bool(ledger.get("ok")) for ledger in ledgers),
        "ledger_records": sum(int(ledger.get("records") or 0) for ledger in ledgers),
        "by_fault": {
            fault: {
                "cases": len(some),
                **{f"a{k}": round(at(some, k), 3) for k in _shown(depths)},
                "calls_median": median(row.calls for row in some),
            }
            for fault, some in sorted(by_fault.items())
        },
    }


def at(rows: list[Row], depth: int) -> float:
    """The share of rows whose truth is among the first so many guesses."""
    return sum(0 < row.rank <= depth for row in rows) / (len(rows) or 1)


def _shown(depths: tuple[int, ...]) -> tuple[int, ...]:
    return (depths[0], depths[-1]) if len(depths) > 1 else depths


def calibration(rows: list[Row]) -> list[dict[str, Any]]:
    """How often the first guess was right, by how sure it was said to be."""
    bins: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.confidences:
            bins[min(BINS - 1, int(row.sure * BINS))].append(row)
    return [
        {
            "from": n / BINS,
            "to": (n + 1) / BINS,
            "cases": len(some),
            "sure": round(sum(row.sure for row in some) / len(some), 4),
            "right": round(at(some, 1), 4),
        }
        for n, some in sorted(bins.items())
    ]


def printed(data: DataSet, summary: dict[str, Any], rows: list[Row]) -> str:
    """The figures as a page: the totals, calibration, a line a fault, and the cases that went wrong."""
    share = summary["sound_share"]
    state = "verifies" if summary["ledger_ok"] else "DOES NOT VERIFY"
    reached = "   ".join(f"A@{k} {summary[f'a{k}']:.3f}" for k in data.depths)
    mean = f"   Avg@{data.depths[-1]} {summary[f'avg{data.depths[-1]}']:.3f}" if len(data.depths) > 2 else ""
    lines = [
        f"{summary['cases']} cases, {summary['failed']} failed",
        reached + mean,
        f"surest {SURER:.0%}: A@1 {summary['a1_surer']:.3f}   ECE {summary['ece']:.3f}"
        + (f"   decoys named: {summary['decoys']}" if summary["decoys"] else ""),
        f"calls a case: median {summary['calls_median']:g}, most {summary['calls_max']}",
        f"seconds a case: median {summary['seconds_median']:.2f}, most {summary['seconds_max']:.2f};"
        f" of CPU, all processes and their start included: {summary['cpu_seconds_a_case']:.2f}",
        f"claims whose quotes stand in the ledger: {'none made' if share is None else f'{share:.1%}'}"
        f" of {summary['claims']}",
        f"ledger: {summary['ledger_records']} records, {state}",
        *bars(summary["calibration"]),
        *_faults(data, summary),
        *_worst(rows),
    ]
    return "\n".join(lines)


def _faults(data: DataSet, summary: dict[str, Any]) -> list[str]:
    depths = _shown(data.depths)
    heads = "".join(f"{f'A@{k}':>6}" for k in depths)
    lines = ["", f"{'fault':<{WIDTH}} cases{heads}  calls"]
    for fault, one in summary["by_fault"].items():
        shares = "".join(f"{one[f'a{k}']:>6.2f}" for k in depths)
        lines.append(f"{fault[:WIDTH]:<{WIDTH}} {one['cases']:>5}{shares} {one['calls_median']:>6g}")
    return lines


def _worst(rows: list[Row]) -> list[str]:
    """What was not named first, the surest mistakes first."""
    wrong = sorted((row for row in rows if row.rank != 1), key=lambda row: (-row.sure, row.case))
    if not wrong:
        return []
    lines = ["", f"not named first: {len(wrong)}"]
    for row in wrong[:WORST]:
        guess = _told(row.guesses[0]) if row.guesses else row.error or "nothing named"
        sure = f" ({row.sure:.2f})" if row.guesses else ""
        lines.append(f"  {row.case:<22} {_told(row.truth[0])}  <-  {guess}{sure}")
    return lines


def _told(answer: Answer) -> str:
    return "nothing" if answer == NOTHING else " ".join(answer)


def _calibration_error(rows: list[Row]) -> float:
    """Expected calibration error of the first guess, in ten bins."""
    bins = calibration(rows)
    answered = sum(one["cases"] for one in bins) or 1
    return sum(one["cases"] * abs(one["sure"] - one["right"]) for one in bins) / answered


def _surer(rows: list[Row]) -> float:
    """A@1 when only the surer part of the cases is answered."""
    order = sorted(rows, key=lambda row: -row.sure)
    kept = order[: max(1, int(len(order) * SURER))]
    return at(kept, 1) if kept else 0.0
