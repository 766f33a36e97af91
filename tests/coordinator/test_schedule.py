"""The schedule trigger: which moments are ticks, what becomes of missed ones, and one case for each."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.case_index import CaseIndex
from coordinator.errors import UsageError
from coordinator.schedule import Schedule, Scheduler, checked, schedules_in
from coordinator.workflows.library import Library

BERLIN = Schedule("nightly", "30 2 * * *", "Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_time_of_day_fires_once_a_day_also_when_the_clock_is_put_back_or_on():
    autumn = list(BERLIN.ticks(at("2026-10-24"), at("2026-10-27")))
    assert autumn == [at("2026-10-24T00:30"), at("2026-10-25T00:30"), at("2026-10-26T01:30")]
    spring = list(BERLIN.ticks(at("2026-03-28"), at("2026-03-31")))
    assert spring == [at("2026-03-28T01:30"), at("2026-03-29T01:00"), at("2026-03-30T00:30")]
    hourly = Schedule("hourly", "0 * * * *", "Europe/Berlin")
    assert len(list(hourly.ticks(at("2026-10-24T22:00"), at("2026-10-25T22:00")))) == 24


@pytest.mark.parametrize(("missed", "opened"), [("skip", 0), ("once", 1), ("all", 5)])
def test_ticks_at_which_nobody_was_there_are_skipped_or_made_up_for(tmp_path: Path, missed, opened):
    index, queued = CaseIndex(tmp_path), []
    scheduler = Scheduler([Schedule("nightly", "0 2 * * *", missed=missed)], index, queued.append)
    assert scheduler.fire(at("2026-01-01T12:00")) == []  # the past of a new schedule is not made up for
    late = scheduler.fire(at("2026-01-06T12:00"))
    assert len(late) == opened and queued == late
    assert scheduler.fire(at("2026-01-06T12:00")) == []
    [due] = scheduler.fire(at("2026-01-07T02:00"))
    assert index.trigger(due).payload["tick"] == "2026-01-07T02:00:00+00:00"
    assert index.get(due).status == "queued"


@pytest.mark.parametrize(("missed", "opened"), [("skip", 1), ("once", 1), ("all", 6)])
def test_a_tick_that_is_due_stands_for_those_missed_before_it(tmp_path: Path, missed, opened):
    scheduler = Scheduler(
        [Schedule("nightly", "0 2 * * *", missed=missed)], CaseIndex(tmp_path), lambda _: None
    )
    scheduler.fire(at("2026-01-01T12:00"))
    cases = scheduler.fire(at("2026-01-07T02:00:01"))
    assert len(cases) == opened
    assert CaseIndex(tmp_path).trigger(cases[-1]).payload["tick"] == "2026-01-07T02:00:00+00:00"


def test_however_many_processes_look_a_tick_opens_one_case(tmp_path: Path):
    every = Schedule("often", "*/2 * * * * *", missed="all")
    began = at("2026-01-01T00:00")
    CaseIndex(tmp_path).ticked("schedule often */2 * * * * * UTC", began)

    def look(n: int) -> list[str]:
        scheduler = Scheduler([every], CaseIndex(tmp_path), lambda _: None)
        return [case for second in range(21) for case in scheduler.fire(began + timedelta(seconds=second))]

    with ThreadPoolExecutor(4) as pool:
        found = [case for cases in pool.map(look, range(4)) for case in cases]
    assert len(found) == len(set(found)) == len(CaseIndex(tmp_path).list()) == 10


def test_a_workflow_file_says_when_it_runs_and_with_what(tmp_path: Path):
    (tmp_path / "nightly.yaml").write_text(
        "id: nightly\nname: Nightly\ndescription: Looks at the night.\nowner: ana\ninputs: {day: string}\n"
        'triggers:\n  - schedule: "0 7 * * 1-5"\n    timezone: Europe/Berlin\n    missed: all\n'
        "    title: '\"The night to \" + event.date'\n"
        "    inputs: {day: 'event.date'}\n    tenant: \"'team ' + event.date\"\n"
        "steps:\n  - id: look\n    specialist: metrics\n  - id: out\n    deliver: report\n"
    )
    [schedule] = schedules_in(Library(tmp_path))
    [friday, monday] = schedule.ticks(at("2026-10-23"), at("2026-10-26T12:00"))
    assert (friday, monday) == (at("2026-10-23T05:00"), at("2026-10-26T06:00"))
    opened = schedule.trigger(monday)
    assert opened.tenant == "team 2026-10-26"
    assert opened.inputs == {"day": "2026-10-26"} and opened.workflow == "nightly"
    assert opened.title == "The night to 2026-10-26, 2026-10-26 07:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("cron", "zone"), [("61 * * * *", "UTC"), ("@daily", "UTC"), ("0 7 * * *", "Mars/Up")]
)
def test_what_cannot_be_read_is_refused_with_an_example(cron: str, zone: str):
    with pytest.raises(UsageError, match="such as"):
        checked(Schedule("nightly", cron, zone))
