"""The gates over data: each measures, compares with its threshold, and passes, doubts or halts; recorded.

Freshness, volume and anomaly, schema drift, completeness, duplicate, cross-check, and any rule in CEL.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from coordinator.desk import Desk
from coordinator.errors import CoordinatorError
from coordinator.planning import ask_job, evaluated
from coordinator.steps import call
from coordinator.types import CaseState, StepRecord
from coordinator.workflows.model import GateStep, Workflow, duration_text

HISTORY = 500  # past cases a gate looks back on
SCALE = 1.4826  # makes the median absolute deviation of normal values their standard deviation
FAR = 3.5  # robust z-scores from which a value is an outlier (Iglewicz and Hoaglin, 1993)

Measured = tuple[bool, dict[str, Any], str]  # it passes, its figures, and in words what it found
Gate = Callable[[GateStep, Any, "Ground"], Awaitable[Measured]]


class Ground:
    """What a gate looks at besides its value: earlier cases, and the other values of its step."""

    def __init__(self, workflow: Workflow, step: GateStep, state: CaseState, desk: Desk) -> None:
        self.workflow, self.step, self.state, self.desk = workflow, step, state, desk
        self.about = f"{workflow.id}/{step.id}"

    def value(self, given: Any) -> Any:
        """A value of the file, with what the step may see."""
        return evaluated(self.workflow, self.step, given, self.state)

    async def past(self) -> list[dict[str, Any]]:
        """What this gate recorded in other cases, newest first."""
        found = await self.desk.gateway.past(self.about, HISTORY)
        return [record for record in found if record.get("case") != self.state["case"]]


async def look(workflow: Workflow, step: GateStep, state: CaseState, desk: Desk) -> StepRecord:
    """What a gate came to; a doubt that a person decides asks for that person's word."""
    ground = Ground(workflow, step, state, desk)
    try:
        value = ground.value(step.value) if step.value is not None else None
        passes, figures, text = await GATES[step.gate](step, value, ground)
    except CoordinatorError as error:
        passes, figures, text = False, {}, str(error)
    record = outcome(step, passes, figures, step.text or text)
    left = record.get("outputs", {})
    body = {
        "gate": step.gate,
        "step": step.id,
        "workflow": workflow.id,
        "outcome": left["outcome"],
        "figures": figures,
        **({"text": step.text or text} if not passes else {}),
        **({"asks": True} if not passes and step.otherwise == "ask" else {}),
    }
    await desk.gateway.record_step("gate", body, ground.about)
    if passes or step.otherwise != "ask":
        return record
    job = ask_job(step.id, step.text or text, {"gate": step.gate, **figures}, step)
    asked: StepRecord = (await call({**job, "keep": left}, desk))["steps"][step.id]
    return asked


def outcome(step: GateStep, passes: bool, figures: dict[str, Any], text: str) -> StepRecord:
    """The record of a gate: it passes, doubts (which is noted) or halts."""
    told = "pass" if passes else "halt" if step.otherwise == "halt" else "doubt"
    outputs = {"outcome": told, "passed": passes, "figures": figures, "decision": ""}
    return StepRecord(
        status="halted" if told == "halt" else "done", error="" if passes else text, outputs=outputs
    )


async def _rule(step: GateStep, value: Any, ground: Ground) -> Measured:
    return value is True, {"value": value}, f"`{step.value}` is not so"


async def _freshness(step: GateStep, value: Any, ground: Ground) -> Measured:
    most = step.most if isinstance(step.most, timedelta) else timedelta(0)
    now = datetime.fromisoformat(ground.value("now"))
    age = now - datetime.fromisoformat(str(value).replace("Z", "+00:00")).astimezone(UTC)
    figures = {"age_seconds": age.total_seconds(), "most_seconds": most.total_seconds()}
    told = duration_text(timedelta(seconds=round(age.total_seconds())))
    return (
        age <= most,
        figures,
        f"it stands on data that is {told} old, and {duration_text(most)} is the limit",
    )


async def _volume(step: GateStep, value: Any, ground: Ground) -> Measured:
    most = step.most if isinstance(step.most, int | float) else None
    low, high = step.least is not None and value < step.least, most is not None and value > most
    figures = {"value": value, "least": step.least, "most": most}
    bound = f"less than {step.least:g}" if low else f"more than {most:g}" if high and most is not None else ""
    return not (low or high), figures, f"{value:g} is {bound}"


async def _anomaly(step: GateStep, value: Any, ground: Ground) -> Measured:
    """How many robust standard deviations a value is from the median of past cases."""
    figures_then = [p["body"].get("figures", {}) for p in await ground.past()]
    past = [figures["value"] for figures in figures_then if "value" in figures]
    limit = step.most if isinstance(step.most, int | float) else FAR
    if len(past) < step.history:
        figures = {"value": value, "history": len(past), "needed": step.history}
        return True, figures, ""
    middle = statistics.median(past)
    spread = SCALE * statistics.median(abs(each - middle) for each in past)
    distance = abs(value - middle) / spread if spread else 0.0 if value == middle else float(limit) + 1
    figures = {"value": value, "median": middle, "spread": spread, "distance": distance, "most": limit}
    told = f"{value:g} is {distance:.1f} deviations from the usual {middle:g} of {len(past)} cases"
    return distance <= limit, {**figures, "history": len(past)}, told


async def _completeness(step: GateStep, value: Any, ground: Ground) -> Measured:
    rows = value if isinstance(value, list) else [value]
    wanted = [(row, name) for row in rows for name in step.require]
    missing = sorted(
        {name for row, name in wanted if not isinstance(row, dict) or row.get(name) in (None, "", [])}
    )
    there = sum(isinstance(row, dict) and row.get(name) not in (None, "", []) for row, name in wanted)
    share, least = (there / len(wanted) if wanted else 0.0), step.least if step.least is not None else 1.0
    figures = {"share": share, "least": least, "missing": missing, "rows": len(rows)}
    told = f"{', '.join(missing)} missing" if missing else "there is nothing to look at"
    return bool(wanted) and share >= least, figures, told


async def _duplicate(step: GateStep, value: Any, ground: Ground) -> Measured:
    """Whether an earlier case had this value; of two at the same time the one that is recorded first."""
    body = {"gate": "duplicate", "step": step.id, "workflow": ground.workflow.id, "claims": value}
    about = f"{ground.about}={value}"
    mine = await ground.desk.gateway.record_step("gate", body, about)
    earlier = [
        p for p in await ground.desk.gateway.past(about, HISTORY) if p.get("case") != ground.state["case"]
    ]
    first = min((p for p in earlier if int(p["seq"]) < mine), key=lambda p: int(p["seq"]), default=None)
    figures = {"value": value, "first": first["case"] if first else ""}
    return first is None, figures, f"{value} was in {first['case'] if first else ''} already"


async def _cross_check(step: GateStep, value: Any, ground: Ground) -> Measured:
    other = ground.value(step.against)
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (value, other))
    apart = abs(value - other) if numbers else None
    same = apart <= step.within + 1e-9 if apart is not None else value == other
    figures = {"value": value, "against": other, "apart": apart, "within": step.within}
    return same, figures, f"{value} here, {other} in the system of record"


async def _schema(step: GateStep, value: Any, ground: Ground) -> Measured:
    """Whether a tool's result has the shape it last had when all was well."""
    result = ground.state.get("steps", {}).get(step.of or "", {}).get("outputs", {}).get("result")
    shape = shape_of(result)
    good = [p["body"]["figures"]["shape"] for p in await ground.past() if p["body"].get("outcome") == "pass"]
    known = good[0] if good else shape
    gone = sorted(path for path in known if path not in shape)
    changed = sorted(path for path in known if path in shape and known[path] != shape[path])
    figures = {"shape": shape, "gone": gone, "changed": changed, "new": sorted(set(shape) - set(known))}
    told = [f"{path} is gone" for path in gone[:5]]
    told += [f"{path} is {shape[path]}, not {known[path]}" for path in changed[:5]]
    return not (gone or changed), figures, "; ".join(told)


def shape_of(value: Any, path: str = "$") -> dict[str, str]:
    """Every path of a JSON value and the type that stands there; of a list, by its first element."""
    if isinstance(value, dict):
        found = {path: "object"}
        for name, each in value.items():
            found |= shape_of(each, f"{path}.{name}")
        return found
    if isinstance(value, list):
        return {path: "list"} | (shape_of(value[0], f"{path}[]") if value else {})
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return {path: kinds.get(type(value), "any")}


GATES: dict[str, Gate] = {
    "rule": _rule,
    "freshness": _freshness,
    "schema": _schema,
    "volume": _volume,
    "anomaly": _anomaly,
    "completeness": _completeness,
    "duplicate": _duplicate,
    "cross_check": _cross_check,
}
