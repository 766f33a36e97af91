"""What `cases watch | cancel | pause | retry` do: they leave word in the index, and engines act on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice

from coordinator.case_index import ENDED, CaseIndex, CaseRow, open_index
from coordinator.errors import CoordinatorError, UsageError
from coordinator.private_gateway import login_name
from coordinator.retrying import after
from coordinator.schedule import MOST_TICKS, open_ticks, schedules_in
from coordinator.settings import CoordinatorSettings
from coordinator.trigger import when
from coordinator.workflows.library import Library

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 10.0
CODES = {"delivered": 0, "closed": 0, "waiting": 4, "failed": 1, "cancelled": 1, "paused": 0}
STANDING = ("queued", "waiting", "paused", "stopped")  # no process runs them


class NotNow(UsageError):
    """A case is not in a state in which this can be done with it."""

    code = "not_now"


class NobodyActs(CoordinatorError):
    """Word was left, and no process is there to act on it."""

    code = "no_worker"
    exit_code = 5


def run_cancel(case: str, reason: str, as_json: bool, config: str | None) -> None:
    """End a case where it is."""
    _steer(case, "cancel", reason, as_json, config, _cancelled)


def run_pause(case: str, reason: str, as_json: bool, config: str | None) -> None:
    """Let a case come to the end of its step, and leave it there."""
    _steer(case, "pause", reason, as_json, config, _paused)


def run_retry(case: str, step: str, reason: str, as_json: bool, config: str | None) -> None:
    """Have a case go on, with calls made anew, from a step or from what was not finished."""

    settings = CoordinatorSettings.load(config)

    def again(index: CaseIndex, row: CaseRow) -> None:
        if row.status in ("queued", "running"):
            raise NotNow(f"{row.id} is {row.status}: cancel it first with `pointsman cases cancel {row.id}`")
        if row.status in ("delivered", "closed") and not step:
            raise NotNow(f"{row.id} was {row.status}: name the step it goes again from with --from STEP")
        if step:
            workflow = index.trigger(row.id).workflow  # which may have no such step
            after(Library(settings.workflow_folder(config)).get(workflow).workflow, step)
        index.try_again(row.id, step)
        index.update(row.id, "queued")

    _steer(case, "retry", reason, as_json, config, again)


def _cancelled(index: CaseIndex, row: CaseRow) -> None:
    if row.status in ENDED:
        raise NotNow(f"{row.id} has ended: it was {row.status}")
    index.change(row.id, (*STANDING, "failed"), "cancelled")


def _paused(index: CaseIndex, row: CaseRow) -> None:
    if row.status in (*ENDED, "paused"):
        raise NotNow(f"{row.id} is {row.status}: only a case that runs or waits can be paused")
    index.change(row.id, STANDING, "paused")


def _steer(
    case: str,
    wish: str,
    reason: str,
    as_json: bool,
    config: str | None,
    change: Callable[[CaseIndex, CaseRow], None],
) -> None:
    index, lease = open_index(config), CoordinatorSettings.load(config).lease_seconds
    row = index.get(case)
    change(index, row)
    index.wish(row.id, wish, login_name(CoordinatorSettings.load(config).login), reason)
    there = bool(index.alive(lease))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while there and index.wished(row.id) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS / 5)
    row = index.get(case)
    if as_json:
        print(json.dumps({"case": row.id, "status": row.status, "engine": there}))
    else:
        print(f"{row.id}  {row.status}")
    if not there and row.status in ("queued", "running"):
        raise NobodyActs(
            f"no process runs cases now: {row.id} stays {row.status} until `pointsman up` or a worker runs"
        )


def run_backfill(workflow: str, since: str, until: str, as_json: bool, config: str | None) -> None:
    """Open a case for every past tick of a workflow's schedules that has none; engines run them."""
    folder = CoordinatorSettings.load(config).workflow_folder(config)
    found = [schedule for schedule in schedules_in(Library(folder)) if schedule.workflow == workflow]
    if not found:
        raise UsageError(f"no workflow {workflow!r} with a schedule in {folder}: see its triggers")
    start, end = when(since), when(until) or datetime.now(UTC)
    if start is None or start >= end:
        raise UsageError(f"nothing lies between {since!r} and {end.isoformat()}: name an earlier --since")
    index = open_index(config)
    cases = [
        case
        for schedule in found
        for case in open_ticks(schedule, list(islice(schedule.ticks(start, end), MOST_TICKS)), index)
    ]
    told = "\n".join([f"{len(cases)} cases opened", *cases])
    print(json.dumps({"cases": cases}) if as_json else told)


def run_watch(case: str | None, as_json: bool, config: str | None) -> int:
    """Print what becomes of a case until it ends or waits; without a case, of all of them until stopped."""
    index, known = open_index(config), dict[str, str]()
    only = index.get(case).id if case else ""
    while True:
        for row in [index.get(only)] if only else reversed(index.list(1000)):
            if known.get(row.id) != row.status:
                known[row.id] = row.status
                _tell(row, index, as_json)
        if only and known[only] in CODES:
            return CODES[known[only]]
        time.sleep(LOOK_SECONDS)


def _tell(row: CaseRow, index: CaseIndex, as_json: bool) -> None:
    why = index.legs(row.id).why
    if as_json:
        print(json.dumps({**row.model_dump(mode="json"), "why": why}), flush=True)
        return
    print(f"{row.updated:%H:%M:%S}  {row.id}  {row.status:<9}  {why or row.summary or row.title}", flush=True)
